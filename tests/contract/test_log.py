"""Do all logs mean the same? One suite, every backend. Add one: a line in BACKENDS.

What a log may do differently is not asked here: whether a tombstone is still seen, how offsets of a compacted topic
have holes, when superseded values go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from millstream.errors import Busy, ConfigError, LimitExceeded, LogUnavailable, OffsetOutOfRange
from millstream.log.embedded.log import EmbeddedLog, EmbeddedOptions
from millstream.log.kafka.log import KafkaLog, KafkaOptions
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.memory.log import MemoryCluster, MemoryLog
from millstream.log.port import Log, Produced, Reader, Record, TopicKind, TopicSpec, TransactionRefused
from tests.contract.prefixed import Prefixed
from tests.kafka.broker import Broker, fresh

STREAM = TopicSpec("journal", partitions=3)
TABLE = TopicSpec("steps", partitions=2, kind=TopicKind.COMPACTED)
OTHER_TABLE = TopicSpec("timers", partitions=2, kind=TopicKind.COMPACTED)
KEPT_MS = 60_000
EVENTS = TopicSpec("events", partitions=1, retention_ms=KEPT_MS)
INBOXES = (TopicSpec("two.inbox", partitions=2), TopicSpec("three.inbox", partitions=3))
WAITING_BYTES_MAX = 100_000
SOON_S = 60.0  # Longer than anything here takes; waiting it out is a failure.


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.now

    async def go_on(self, ms: int) -> None:
        self.now += ms


class RealClock(Clock):
    """The brokers' clock, which nobody moves: time goes on by waiting."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def go_on(self, ms: int) -> None:
        await asyncio.sleep(ms / 1_000)


async def open_memory(request: pytest.FixtureRequest, directory: Path, clock: Clock) -> Log:
    return MemoryLog(cluster=MemoryCluster(now_ms=clock.now_ms), waiting_bytes_max=WAITING_BYTES_MAX)


async def open_embedded(request: pytest.FixtureRequest, directory: Path, clock: Clock) -> Log:
    options = EmbeddedOptions(now_ms=clock.now_ms, waiting_bytes_max=WAITING_BYTES_MAX)
    return await EmbeddedLog.open(directory, durability="os", options=options)


async def open_kafka(request: pytest.FixtureRequest, directory: Path, clock: Clock) -> Log:
    broker: Broker = request.getfixturevalue("kafka")
    settings = KafkaSettings(brokers=broker.bootstrap, replication_factor=1, min_insync=1)
    options = KafkaOptions(name=fresh("w"), waiting_bytes_max=WAITING_BYTES_MAX)
    return Prefixed(await KafkaLog.open(settings, options), fresh("contract"))


BACKENDS: dict[str, Callable[[pytest.FixtureRequest, Path, Clock], Awaitable[Log]]] = {
    "memory": open_memory,
    "embedded": open_embedded,
    "kafka": open_kafka,
}


@pytest.fixture
def clock(backend: str) -> Clock:
    return RealClock() if backend == "kafka" else Clock()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def log(request: pytest.FixtureRequest, backend: str, tmp_path: Path, clock: Clock) -> AsyncIterator[Log]:
    opened = await BACKENDS[backend](request, tmp_path, clock)
    await opened.create_topics([STREAM, TABLE, OTHER_TABLE, EVENTS, *INBOXES])
    yield opened
    await opened.close()


def values(*texts: str) -> list[Produced]:
    return [Produced(text.encode()) for text in texts]


def row(key: str, value: str | None) -> Produced:
    return Produced(None if value is None else value.encode(), key.encode())


async def everything(reader: Reader, end: int) -> list[Record]:
    records: list[Record] = []
    while reader.position < end:
        records += await reader.read(max_records=1_000, max_bytes=1 << 20, wait_s=0)
    return records


async def table(log: Log, topic: str, partition: int = 0) -> dict[str, str]:
    """What a restore makes of a compacted topic."""
    rows: dict[str, str] = {}
    reader = log.reader(topic, partition, 0)
    for record in await everything(reader, await log.end_offset(topic, partition)):
        assert record.key is not None
        rows.pop(record.key.decode(), None)
        if record.value is not None:
            rows[record.key.decode()] = record.value.decode()
    await reader.close()
    return rows


async def no_lanes(lanes: frozenset[int]) -> None:
    return


class TestAppending:
    async def test_an_append_answers_with_the_offset_of_its_first_record(self, log: Log) -> None:
        writer = log.writer("journal", 1)
        assert await writer.append(values("a", "b", "c")) == 0
        assert await writer.append(values("d")) == 3
        assert await log.end_offset("journal", 1) == 4
        assert await log.end_offset("journal", 0) == 0

    async def test_appends_handed_over_together_keep_their_order(self, log: Log) -> None:
        writer = log.writer("journal", 0)
        handed_over = [writer.append(values(f"{number}")) for number in range(50)]
        assert [await one for one in handed_over] == list(range(50))
        records = await everything(log.reader("journal", 0, 0), 50)
        assert [record.value for record in records] == [b"%d" % number for number in range(50)]
        assert [record.offset for record in records] == list(range(50))

    async def test_two_writers_of_a_partition_never_share_an_offset(self, log: Log) -> None:
        one, other = log.writer("journal", 0), log.writer("journal", 0)
        firsts = await asyncio.gather(*(writer.append(values("x", "y")) for _ in range(10) for writer in (one, other)))
        assert sorted(first for first in firsts if first is not None) == list(range(0, 40, 2))

    async def test_keys_headers_and_values_come_back_as_they_were(self, log: Log) -> None:
        sent = [
            Produced(b""),
            Produced(b"\x00\xff" * 40, b"key", (("id", b"\x01"), ("größe", b""))),
            Produced(b"v", b""),
            Produced(b"w", None, (("only", b"header"),)),
        ]
        await log.writer("journal", 0).append(sent)
        await log.writer("journal", 0).append([Produced(b"alone", b"k")])
        records = await everything(log.reader("journal", 0, 0), 5)
        assert [(r.value, r.key, r.headers) for r in records] == [
            *((one.value, one.key, one.headers) for one in sent),
            (b"alone", b"k", ()),
        ]

    async def test_append_times_are_the_logs_and_never_fall(self, log: Log, clock: Clock) -> None:
        writer = log.writer("journal", 0)
        begun = clock.now_ms()
        await writer.append(values("a"))
        if not isinstance(clock, RealClock):
            clock.now -= 5_000
        await writer.append(values("b"))
        await clock.go_on(9_000 if not isinstance(clock, RealClock) else 20)
        await writer.append(values("c"))
        times = [record.at_ms for record in await everything(log.reader("journal", 0, 0), 3)]
        assert times == sorted(times)
        assert times[0] >= begun
        assert times[2] <= clock.now_ms()
        if not isinstance(clock, RealClock):
            assert times == [begun, begun, begun + 4_000]

    async def test_too_much_waiting_is_refused_at_once_and_taken_later(self, log: Log) -> None:
        writer = log.writer("journal", 0)
        taken = [writer.append([Produced(b"x" * 40_000)]) for _ in range(2)]
        with pytest.raises(Busy, match="Nothing was written"):
            writer.append([Produced(b"x" * 40_000)])
        await asyncio.gather(*taken)
        assert await writer.append([Produced(b"x" * 40_000)]) == 2

    async def test_an_append_larger_than_the_limit_is_refused(self, log: Log) -> None:
        with pytest.raises(LimitExceeded, match="too large"):
            log.writer("journal", 0).append([Produced(b"x" * (WAITING_BYTES_MAX + 1))])

    async def test_a_stream_takes_a_record_without_a_value(self, log: Log) -> None:
        await log.writer("journal", 0).append([Produced(None, b"key"), Produced(b"value")])
        none, value = await everything(log.reader("journal", 0, 0), 2)
        assert (none.key, none.value, value.value) == (b"key", None, b"value")

    async def test_records_without_their_key_are_refused_where_they_need_one(self, log: Log) -> None:
        with pytest.raises(ValueError, match="needs a key"):
            log.writer("steps", 0).append([Produced(b"value")])
        with pytest.raises(ValueError, match="at least one record"):
            log.writer("journal", 0).append([])

    async def test_nothing_of_a_closed_writer_turns_up_later(self, log: Log) -> None:
        writer = log.writer("journal", 0)
        handed_over = [writer.append(values(f"{number}")) for number in range(20)]
        await writer.close()
        end = await log.end_offset("journal", 0)
        outcomes = await asyncio.gather(*handed_over, return_exceptions=True)
        assert sum(isinstance(outcome, int) for outcome in outcomes) <= end
        assert await log.writer("journal", 0).append(values("next")) == end
        with pytest.raises(LogUnavailable, match="closed"):
            writer.append(values("late"))

    async def test_an_append_whose_caller_gave_up_does_not_hurt_the_others(self, log: Log) -> None:
        writer = log.writer("journal", 0)
        given_up = asyncio.ensure_future(writer.append(values("a")))
        given_up.cancel()
        await writer.append(values("b"))
        await writer.close()
        assert await log.end_offset("journal", 0) == 2


class TestReading:
    async def test_a_reader_begins_in_the_middle_even_of_an_append(self, log: Log) -> None:
        writer = log.writer("journal", 0)
        await writer.append(values("a", "b", "c"))
        await writer.append(values("d", "e"))
        for begin in range(5):
            records = await everything(log.reader("journal", 0, begin), 5)
            assert [r.value for r in records] == [b"a", b"b", b"c", b"d", b"e"][begin:]

    async def test_a_read_stops_at_its_limits_and_goes_on_behind(self, log: Log) -> None:
        await log.writer("journal", 0).append(values(*("x" * 10 for _ in range(10))))
        await log.writer("journal", 0).append(values(*("y" * 10 for _ in range(10))))
        reader = log.reader("journal", 0, 0)
        assert len(await reader.read(max_records=3, max_bytes=1_000, wait_s=0)) == 3
        assert len(await reader.read(max_records=100, max_bytes=25, wait_s=0)) == 3
        assert len(await reader.read(max_records=100, max_bytes=1, wait_s=0)) == 1
        assert reader.position == 7
        assert [r.offset for r in await reader.read(max_records=100, max_bytes=1 << 20, wait_s=0)] == list(range(7, 20))

    async def test_a_reader_at_the_end_wakes_with_the_next_append(self, log: Log) -> None:
        reader = log.reader("journal", 0, 0)
        reading = asyncio.ensure_future(reader.read(max_records=10, max_bytes=1_000, wait_s=SOON_S))
        await asyncio.sleep(0)
        await log.writer("journal", 0).append(values("a", "b"))
        records = await asyncio.wait_for(reading, SOON_S / 2)
        assert [r.value for r in records] == [b"a", b"b"]
        assert reader.position == 2

    async def test_a_follower_gets_everything_once_and_in_order(self, log: Log) -> None:
        writer, reader = log.writer("journal", 0), log.reader("journal", 0, 0)
        seen: list[Record] = []

        async def follow() -> None:
            while len(seen) < 300:
                seen.extend(await reader.read(max_records=7, max_bytes=1_000, wait_s=SOON_S))

        following = asyncio.ensure_future(follow())
        for number in range(100):
            await writer.append(values(*(f"{number}-{part}" for part in range(3))))
        await asyncio.wait_for(following, SOON_S)
        assert [r.offset for r in seen] == list(range(300))
        assert [r.value for r in seen[:4]] == [b"0-0", b"0-1", b"0-2", b"1-0"]

    async def test_a_read_without_news_ends_with_nothing(self, log: Log) -> None:
        reader = log.reader("journal", 0, 0)
        assert list(await reader.read(max_records=1, max_bytes=1, wait_s=0)) == []
        assert list(await reader.read(max_records=1, max_bytes=1, wait_s=0.001)) == []

    async def test_a_reader_can_be_sent_elsewhere(self, log: Log) -> None:
        await log.writer("journal", 0).append(values("a", "b", "c"))
        reader = log.reader("journal", 0, 3)
        reader.seek(1)
        assert [r.value for r in await reader.read(max_records=1, max_bytes=1, wait_s=0)] == [b"b"]

    async def test_what_lies_behind_the_end_is_out_of_range(self, log: Log) -> None:
        await log.writer("journal", 0).append(values("a"))
        with pytest.raises(OffsetOutOfRange) as raised:
            await log.reader("journal", 0, 2).read(max_records=1, max_bytes=1, wait_s=0)
        assert (raised.value.start, raised.value.end) == (0, 1)


class TestTrimming:
    async def test_trimmed_records_are_gone_and_the_error_says_what_is_left(self, log: Log) -> None:
        writer = log.writer("journal", 0)
        for number in range(10):
            await writer.append(values(f"{number}", "x"))
        await log.trim("journal", 0, 7)
        assert await log.start_offset("journal", 0) == 7
        with pytest.raises(OffsetOutOfRange) as raised:
            await log.reader("journal", 0, 6).read(max_records=1, max_bytes=1, wait_s=0)
        assert (raised.value.start, raised.value.end) == (7, 20)
        assert [r.offset for r in await everything(log.reader("journal", 0, 7), 20)] == list(range(7, 20))

    async def test_the_end_survives_a_trim_of_everything(self, log: Log) -> None:
        writer = log.writer("journal", 0)
        await writer.append(values("a", "b"))
        await log.trim("journal", 0, 100)
        assert (await log.start_offset("journal", 0), await log.end_offset("journal", 0)) == (2, 2)
        assert await writer.append(values("c")) == 2

    async def test_a_trim_never_moves_the_start_back(self, log: Log) -> None:
        await log.writer("journal", 0).append(values("a", "b", "c"))
        await log.trim("journal", 0, 2)
        await log.trim("journal", 0, 1)
        assert await log.start_offset("journal", 0) == 2

    async def test_a_reader_waiting_at_the_end_survives_a_trim(self, log: Log) -> None:
        await log.writer("journal", 0).append(values("a"))
        reading = asyncio.ensure_future(log.reader("journal", 0, 1).read(max_records=1, max_bytes=1, wait_s=SOON_S))
        await asyncio.sleep(0)
        await log.trim("journal", 0, 1)
        await log.writer("journal", 0).append(values("b"))
        assert [r.value for r in await asyncio.wait_for(reading, SOON_S / 2)] == [b"b"]

    async def test_a_compacted_topic_is_not_trimmed(self, log: Log) -> None:
        with pytest.raises(ValueError, match="compacted"):
            await log.trim("steps", 0, 1)

    async def test_offset_at_finds_the_first_record_not_older(self, log: Log, clock: Clock) -> None:
        writer = log.writer("journal", 0)
        for _ in range(20):
            await writer.append(values("a", "b"))
            await clock.go_on(20)
        times = [record.at_ms for record in await everything(log.reader("journal", 0, 0), 40)]
        assert await log.offset_at("journal", 0, 0) == 0
        assert await log.offset_at("journal", 0, times[2]) == 2
        later = next(offset for offset, at_ms in enumerate(times) if at_ms > times[2])
        assert later in (3, 4)  # A client of brokers dates each record of a batch for itself.
        assert await log.offset_at("journal", 0, times[2] + 1) == later
        assert await log.offset_at("journal", 0, clock.now_ms() + 1) == 40
        await log.trim("journal", 0, 11)
        assert await log.offset_at("journal", 0, 0) == 11
        assert await log.offset_at("journal", 1, 0) == 0

    async def test_retention_removes_what_is_wholly_older(self, log: Log, clock: Clock) -> None:
        if not isinstance(log, EmbeddedLog | MemoryLog):
            return  # The brokers' own, at their own pace: nothing of ours to test.
        writer = log.writer("events", 0)
        await writer.append(values("old", "older"))
        clock.now += KEPT_MS
        await writer.append(values("young"))
        await log.retain()
        assert await log.start_offset("events", 0) == 0
        clock.now += 1
        await log.retain()
        assert await log.start_offset("events", 0) == 2
        assert [r.value for r in await everything(log.reader("events", 0, 2), 3)] == [b"young"]


class TestCompacted:
    async def test_the_last_value_of_every_key_is_kept(self, log: Log) -> None:
        writer = log.writer("steps", 0)
        await writer.append([row("a", "1"), row("b", "1"), row("a", "2")])
        await writer.append([row("b", "2"), row("c", "1"), row("a", None)])
        assert await table(log, "steps") == {"b": "2", "c": "1"}
        assert await table(log, "steps", 1) == {}

    async def test_offsets_go_on_growing(self, log: Log) -> None:
        writer = log.writer("steps", 0)
        first = await writer.append([row("a", "1")])
        second = await writer.append([row("a", None)])
        third = await writer.append([row("a", "3")])
        assert first is not None
        assert second is not None
        assert third is not None
        assert first < second < third < await log.end_offset("steps", 0)

    async def test_records_come_in_order_and_the_position_passes_over_holes(self, log: Log) -> None:
        writer = log.writer("steps", 0)
        for number in range(30):
            await writer.append([row(f"{number % 3}", f"{number}")])
        reader = log.reader("steps", 0, 0)
        end = await log.end_offset("steps", 0)
        offsets = [r.offset for r in await everything(reader, end)]
        assert offsets == sorted(offsets)
        assert reader.position == end

    async def test_a_follower_sees_new_values(self, log: Log) -> None:
        reader = log.reader("steps", 0, 0)
        reading = asyncio.ensure_future(reader.read(max_records=10, max_bytes=1_000, wait_s=SOON_S))
        await asyncio.sleep(0)
        await log.writer("steps", 0).append([row("a", "1")])
        assert [(r.key, r.value) for r in await asyncio.wait_for(reading, SOON_S / 2)] == [(b"a", b"1")]


class TestTransactions:
    async def test_a_commit_makes_everything_visible(self, log: Log) -> None:
        await log.writer("steps", 0).append([row("a", "before"), row("gone", "x")])
        transaction = await log.transaction("w1")
        await transaction.send("steps", 0, [row("a", "after"), row("gone", None)])
        await transaction.send("timers", 1, [row("t", "1")])
        await transaction.send("steps", 0, [row("marker", "7")])
        assert await table(log, "steps") == {"a": "before", "gone": "x"}
        await transaction.commit({})
        assert await table(log, "steps") == {"a": "after", "marker": "7"}
        assert await table(log, "timers", 1) == {"t": "1"}

    async def test_an_aborted_one_leaves_nothing(self, log: Log) -> None:
        transaction = await log.transaction("w1")
        await transaction.send("steps", 0, [row("a", "1")])
        await transaction.abort()
        with pytest.raises(TransactionRefused):
            await transaction.commit({})
        assert await table(log, "steps") == {}

    async def test_beginning_one_aborts_the_unfinished_one_of_its_name(self, log: Log) -> None:
        first = await log.transaction("w1")
        await first.send("steps", 0, [row("a", "first")])
        second = await log.transaction("w1")
        await second.send("steps", 0, [row("a", "second")])
        with pytest.raises(TransactionRefused):
            await first.commit({})
        await second.commit({})
        assert await table(log, "steps") == {"a": "second"}

    async def test_many_rows_become_visible_at_one_moment(self, log: Log) -> None:
        transaction = await log.transaction("w1")
        for number in range(40):
            await transaction.send("steps", 0, [row(f"{number}-{part}", "x" * 20) for part in range(50)])
        committing = asyncio.ensure_future(transaction.commit({}))
        sizes = set()
        journal = log.writer("journal", 0)
        while not committing.done():
            await journal.append(values("beside"))
            sizes.add(len(await table(log, "steps")))
        await committing
        assert len(await table(log, "steps")) == 2_000
        assert sizes <= {0, 2_000}

    async def test_one_larger_than_what_is_under_way_at_once_is_seen_whole(self, log: Log) -> None:
        transaction = await log.transaction("w1")
        for part in range(60):
            await transaction.send("steps", 0, [row(f"{part}-{number}", "x" * 50) for number in range(500)])
        assert await table(log, "steps") == {}
        await transaction.send("timers", 1, [row("t", "1")])
        await transaction.commit({})
        assert len(await table(log, "steps")) == 30_000
        assert await table(log, "timers", 1) == {"t": "1"}

    async def test_inbox_positions_need_the_membership_of_the_beginning(self, log: Log) -> None:
        early = await log.transaction("early")
        await early.send("steps", 0, [row("a", "early")])
        member = log.membership("two", 2)
        await member.join(on_assigned=no_lanes, on_revoked=no_lanes)
        with pytest.raises(TransactionRefused):
            await early.commit({0: 5})
        good = await log.transaction("good")
        await good.send("steps", 0, [row("b", "good")])
        await good.commit({0: 5, 1: 0})
        late = await log.transaction("late")
        await late.send("steps", 0, [row("c", "late")])
        await member.leave()
        with pytest.raises(TransactionRefused):
            await late.commit({0: 6})
        assert await table(log, "steps") == {"b": "good"}

    async def test_a_stream_takes_no_transaction(self, log: Log) -> None:
        transaction = await log.transaction("w1")
        with pytest.raises(ValueError, match="stream"):
            await transaction.send("journal", 0, values("a"))


class TestTopicsAndGroup:
    async def test_making_topics_again_changes_nothing(self, log: Log) -> None:
        await log.writer("journal", 0).append(values("a"))
        await log.create_topics([STREAM, TopicSpec("new", 1)])
        assert await log.end_offset("journal", 0) == 1
        assert await log.topic("new") == TopicSpec("new", 1)
        assert await log.topic("absent") is None

    @pytest.mark.parametrize(
        "spec",
        [
            TopicSpec("journal", 4),
            TopicSpec("journal", 3, TopicKind.COMPACTED),
            TopicSpec("journal", 3, retention_ms=1),
        ],
    )
    async def test_a_topic_of_another_shape_is_refused(self, log: Log, spec: TopicSpec) -> None:
        with pytest.raises(ConfigError, match="another shape"):
            await log.create_topics([TopicSpec("beside", 1), spec])
        assert await log.topic("beside") is None

    @pytest.mark.parametrize(("topic", "partition"), [("absent", 0), ("journal", 3)])
    async def test_an_unknown_partition_is_refused(self, log: Log, topic: str, partition: int) -> None:
        with pytest.raises(ConfigError, match=topic):
            log.writer(topic, partition)
        with pytest.raises(ConfigError, match=topic):
            log.reader(topic, partition, 0)

    async def test_the_only_member_owns_every_lane_until_it_leaves(self, log: Log) -> None:
        told: list[tuple[str, Sequence[int]]] = []

        async def assigned(lanes: frozenset[int]) -> None:
            told.append(("assigned", sorted(lanes)))

        async def revoked(lanes: frozenset[int]) -> None:
            told.append(("revoked", sorted(lanes)))

        member = log.membership("three", 3)
        assert not await member.still_owns(0, inbox_position=0)
        await member.join(on_assigned=assigned, on_revoked=revoked)
        assert await member.still_owns(2, inbox_position=17)
        assert not await member.still_owns(3, inbox_position=0)
        await member.leave()
        assert not await member.still_owns(2, inbox_position=17)
        assert told == [("assigned", [0, 1, 2]), ("revoked", [0, 1, 2])]

    async def test_a_member_reads_what_belongs_to_its_lanes(self, log: Log) -> None:
        await log.writer("journal", 1).append(values("a", "b", "c"))
        member = log.membership("three", 3)
        await member.join(on_assigned=no_lanes, on_revoked=no_lanes)
        reader = member.reader("journal", 1, 1)
        assert [r.value for r in await everything(reader, 3)] == [b"b", b"c"]
        reading = asyncio.ensure_future(reader.read(max_records=10, max_bytes=1_000, wait_s=SOON_S))
        await log.writer("journal", 1).append(values("d"))
        assert [r.value for r in await asyncio.wait_for(reading, SOON_S / 2)] == [b"d"]
        reader.seek(0)
        assert [r.value for r in await everything(reader, 4)] == [b"a", b"b", b"c", b"d"]
        await reader.close()
        assert [r.offset for r in await everything(member.reader("journal", 1, 2), 4)] == [2, 3]
        await member.leave()

    async def test_a_member_learns_what_was_trimmed_before_it_read(self, log: Log) -> None:
        await log.writer("journal", 1).append(values("a"))
        await log.writer("journal", 1).append(values("b"))
        await log.trim("journal", 1, 1)
        member = log.membership("three", 3)
        await member.join(on_assigned=no_lanes, on_revoked=no_lanes)
        reader = member.reader("journal", 1, 0)
        with pytest.raises(OffsetOutOfRange) as raised:
            await reader.read(max_records=1, max_bytes=1, wait_s=SOON_S)
        assert (raised.value.start, raised.value.end) == (1, 2)
        reader.seek(1)
        assert [r.value for r in await everything(reader, 2)] == [b"b"]
        await member.leave()

    async def test_positions_are_committed_only_by_a_member(self, log: Log) -> None:
        member = log.membership("three", 3)
        with pytest.raises(LogUnavailable, match="no member"):
            await member.commit({("journal", 1): 1})
        await member.join(on_assigned=no_lanes, on_revoked=no_lanes)
        await member.commit({("journal", 1): 1, ("journal", 2): 0})
        await member.leave()
        with pytest.raises(LogUnavailable, match="no member"):
            await member.commit({("journal", 1): 2})

    async def test_a_closed_log_refuses_and_wakes_its_readers(self, log: Log) -> None:
        reading = asyncio.ensure_future(log.reader("journal", 0, 0).read(max_records=1, max_bytes=1, wait_s=SOON_S))
        writer = log.writer("journal", 0)
        last = writer.append(values("handed over before"))
        await asyncio.sleep(0)
        await log.close()
        assert await last == 0
        with pytest.raises(LogUnavailable):
            await writer.append(values("after"))
        outcome = (await asyncio.wait_for(asyncio.gather(reading, return_exceptions=True), SOON_S / 2))[0]
        assert isinstance(outcome, LogUnavailable) or [r.value for r in outcome] == [b"handed over before"]  # type: ignore[union-attr]
