"""What only the memory log can do: faults, crashes, and two clients of one cluster."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from millstream.errors import LogUnavailable
from millstream.log.memory.faults import ACKNOWLEDGED, REFUSED, UNKNOWN_NOT_WRITTEN, UNKNOWN_WRITTEN, Fate, Verdict
from millstream.log.memory.group import MemoryMembership
from millstream.log.memory.log import MemoryCluster, MemoryLog
from millstream.log.port import OutcomeUnknown, Produced, TopicKind, TopicSpec, TransactionRefused

TOPICS = [TopicSpec("journal", 2), TopicSpec("steps", 2, TopicKind.COMPACTED)]


@dataclass
class Script:
    """Faults in the order written down; then none."""

    verdicts: list[Verdict] = field(default_factory=list)
    survivors: list[int] = field(default_factory=list)

    def on_append(self, client: str, topic: str, partition: int) -> Verdict:
        return self.verdicts.pop(0) if self.verdicts else ACKNOWLEDGED

    def on_transaction(self, client: str, name: str) -> Verdict:
        return self.verdicts.pop(0) if self.verdicts else ACKNOWLEDGED

    def survives_crash(self, client: str, topic: str, partition: int, records: int) -> int:
        return self.survivors.pop(0)


async def scripted(*verdicts: Verdict, survivors: tuple[int, ...] = ()) -> MemoryLog:
    log = MemoryCluster(faults=Script(list(verdicts), list(survivors))).client("a")
    await log.create_topics(TOPICS)
    return log


async def stored(log: MemoryLog) -> list[bytes | None]:
    reader = log.reader("journal", 0, 0)
    return [record.value for record in await reader.read(max_records=99, max_bytes=9_999, wait_s=0)]


def one(value: bytes) -> list[Produced]:
    return [Produced(value)]


class TestFaults:
    async def test_each_fate_is_answered_and_written_as_it_says(self) -> None:
        log = await scripted(
            ACKNOWLEDGED,
            REFUSED,
            UNKNOWN_WRITTEN,
            UNKNOWN_NOT_WRITTEN,
            Verdict(fate=Fate.WITHOUT_OFFSET),
            Verdict(fate=Fate.WRONG_OFFSET),
        )
        writer = log.writer("journal", 0)
        answers = await asyncio.gather(*(writer.append(one(b"%d" % n)) for n in range(6)), return_exceptions=True)
        assert answers[0] == 0
        assert type(answers[1]) is LogUnavailable
        assert [type(answer) for answer in answers[2:4]] == [OutcomeUnknown, OutcomeUnknown]
        assert answers[4:] == [None, 0]
        assert await stored(log) == [b"0", b"2", b"4", b"5"]

    async def test_a_wrong_offset_is_never_the_one_that_somebody_else_has_taken(self) -> None:
        """Seed 224: it was the offset that a lane expected, where another owner's fence lay. No log answers so."""
        log = await scripted(ACKNOWLEDGED, ACKNOWLEDGED, Verdict(fate=Fate.WRONG_OFFSET))
        ours, anothers = log.writer("journal", 0), log.writer("journal", 0)
        expected = (await ours.append(one(b"ours")) or 0) + 1
        assert await anothers.append(one(b"fence")) == expected
        assert await ours.append(one(b"behind it")) != expected

    async def test_a_late_record_turns_up_behind_its_report(self) -> None:
        log = await scripted(Verdict(fate=Fate.UNKNOWN, written_after_s=0.01))
        with pytest.raises(OutcomeUnknown):
            await log.writer("journal", 0).append(one(b"late"))
        assert await stored(log) == []
        reader = log.reader("journal", 0, 0)
        assert [r.value for r in await reader.read(max_records=1, max_bytes=1, wait_s=5)] == [b"late"]

    @pytest.mark.parametrize("outlives", [True, False])
    async def test_closing_a_writer_drops_what_is_late_unless_it_is_on_the_wire(self, outlives: bool) -> None:
        log = await scripted(Verdict(fate=Fate.UNKNOWN, written_after_s=0.005, outlives_writer=outlives))
        writer = log.writer("journal", 0)
        with pytest.raises(OutcomeUnknown):
            await writer.append(one(b"late"))
        await writer.close()
        await log.reader("journal", 0, 0).read(max_records=1, max_bytes=1, wait_s=0.02)
        assert await stored(log) == ([b"late"] if outlives else [])

    async def test_when_the_producer_breaks_nothing_under_way_has_a_known_outcome(self) -> None:
        slow = Verdict(written_after_s=0.004, answered_after_s=0.008)
        log = await scripted(ACKNOWLEDGED, slow, slow)
        writer, lost = log.writer("journal", 0), iter([True, False])
        await writer.append(one(b"before"))
        under_way = [writer.append(one(value)) for value in (b"lost", b"written")]
        log.break_producer(lambda: next(lost))
        answers = await asyncio.gather(*under_way, return_exceptions=True)
        assert [type(answer) for answer in answers] == [OutcomeUnknown, OutcomeUnknown]
        assert await stored(log) == [b"before", b"written"]

    async def test_delays_never_reorder_a_writers_appends(self) -> None:
        log = await scripted(Verdict(written_after_s=0.004, answered_after_s=0.008), Verdict(answered_after_s=0.001))
        writer = log.writer("journal", 0)
        answered: list[int | None] = []
        appends = [writer.append(one(b"%d" % n)) for n in range(3)]
        for append in appends:
            append.add_done_callback(lambda done: answered.append(done.result()))
        await asyncio.gather(*appends)
        assert answered == [0, 1, 2]
        assert await stored(log) == [b"0", b"1", b"2"]

    @pytest.mark.parametrize("verdict", [REFUSED, UNKNOWN_NOT_WRITTEN])
    async def test_a_transaction_that_fails_leaves_nothing(self, verdict: Verdict) -> None:
        log = await scripted(verdict)
        transaction = await log.transaction("w")
        await transaction.send("steps", 0, [Produced(b"1", b"k")])
        with pytest.raises(LogUnavailable):
            await transaction.commit({})
        assert await log.end_offset("steps", 0) == 0

    def test_impossible_verdicts_are_refused(self) -> None:
        with pytest.raises(ValueError, match="cannot have"):
            Verdict(fate=Fate.REFUSED)
        with pytest.raises(ValueError, match="after it is written"):
            Verdict(written_after_s=2.0, answered_after_s=1.0)


class TestCrash:
    async def test_what_was_under_way_is_written_or_lost_as_decided(self) -> None:
        slow = Verdict(written_after_s=1.0, answered_after_s=2.0)
        log = await scripted(ACKNOWLEDGED, slow, slow, slow, survivors=(1, 0, 2))
        writer = log.writer("journal", 0)
        await writer.append(one(b"0"))
        under_way = [writer.append(one(b"%d" % n)) for n in (1, 2)]
        under_way.append(writer.append([Produced(b"3"), Produced(b"4"), Produced(b"5")]))
        log.crash()
        assert all(append.cancelled() for append in under_way)
        assert await stored(log.cluster.client("a")) == [b"0", b"1", b"3", b"4"], "of one append, the first ones"

    async def test_the_old_handle_is_dead_and_the_new_one_goes_on(self) -> None:
        log = await scripted()
        writer, reader = log.writer("journal", 0), log.reader("journal", 0, 0)
        reading = asyncio.ensure_future(reader.read(max_records=1, max_bytes=1, wait_s=5))
        await asyncio.sleep(0)
        log.crash()
        with pytest.raises(LogUnavailable, match="crashed"):
            await reading
        with pytest.raises(LogUnavailable, match="crashed"):
            writer.append(one(b"x"))
        again = log.cluster.client("a")
        assert await again.writer("journal", 0).append(one(b"y")) == 0


class Member:
    """A client in the group and what it was told."""

    def __init__(self, cluster: MemoryCluster, name: str) -> None:
        self.log = cluster.client(name)
        self.lanes: set[int] = set()
        self.membership: MemoryMembership = self.log.membership("g", 4)

    async def join(self) -> Member:
        async def assigned(lanes: frozenset[int]) -> None:
            self.lanes |= lanes

        async def revoked(lanes: frozenset[int]) -> None:
            self.lanes -= lanes

        await self.membership.join(on_assigned=assigned, on_revoked=revoked)
        return self


@pytest.fixture
async def cluster() -> MemoryCluster:
    cluster = MemoryCluster()
    await cluster.client("setup").create_topics(TOPICS)
    return cluster


class TestGroup:
    async def test_lanes_are_spread_until_somebody_assigns_them(self, cluster: MemoryCluster) -> None:
        a = await Member(cluster, "a").join()
        assert a.lanes == {0, 1, 2, 3}
        b = await Member(cluster, "b").join()
        assert (a.lanes, b.lanes) == ({0, 2}, {1, 3})
        await a.membership.leave()
        assert (a.lanes, b.lanes) == (set(), {0, 1, 2, 3})
        await cluster.assign({"b": [0], "c": [1, 2, 3]})
        c = await Member(cluster, "c").join()
        assert (b.lanes, c.lanes) == ({0}, {1, 2, 3})

    async def test_a_loser_with_notice_may_still_commit_what_it_began(self, cluster: MemoryCluster) -> None:
        a, b = await Member(cluster, "a").join(), await Member(cluster, "b").join()
        transaction = await a.log.transaction("checkpoint")
        await transaction.send("steps", 0, [Produced(b"1", b"k")])
        moved: list[bool] = []

        async def revoked(lanes: frozenset[int]) -> None:
            await transaction.commit(dict.fromkeys(lanes, 3))
            moved.append(bool(lanes & b.lanes))

        assert a.membership.member is not None
        a.membership.member._on_revoked = revoked
        await cluster.assign({"b": range(4)})
        assert moved == [False]
        assert b.lanes == {0, 1, 2, 3}
        assert cluster.committed(0) == 3

    async def test_a_zombie_believes_until_it_polls_and_is_refused_after(self, cluster: MemoryCluster) -> None:
        a, b = await Member(cluster, "a").join(), await Member(cluster, "b").join()
        transaction = await a.log.transaction("checkpoint")
        await cluster.steal(0, "b")
        assert 0 in a.lanes
        assert 0 in b.lanes
        group = cluster.group("g", 4)
        assert group.lanes_known_to("a") - group.lanes_of("a") == {0}
        assert await a.log.writer("journal", 0).append(one(b"a zombie can still append")) == 0
        with pytest.raises(TransactionRefused):
            await transaction.commit({0: 9})
        assert not await a.membership.still_owns(0, inbox_position=1)
        assert 0 not in a.lanes
        assert await b.membership.still_owns(0, inbox_position=2)
        assert cluster.committed(0) == 2

    async def test_a_lane_that_went_away_and_came_back_is_another_one(self, cluster: MemoryCluster) -> None:
        a, _ = await Member(cluster, "a").join(), await Member(cluster, "b").join()
        transaction = await a.log.transaction("checkpoint")
        await cluster.steal(0, "b")
        await cluster.steal(0, "a")
        with pytest.raises(TransactionRefused):
            await transaction.commit({0: 9})
        assert await a.membership.still_owns(0, inbox_position=2)

    async def test_a_second_process_of_the_same_name_puts_the_first_out(self, cluster: MemoryCluster) -> None:
        first = await Member(cluster, "a").join()
        second = await Member(cluster, "a").join()
        assert not await first.membership.still_owns(0, inbox_position=0)
        assert await second.membership.still_owns(0, inbox_position=0)
        assert (first.lanes, second.lanes) == (set(), {0, 1, 2, 3})
