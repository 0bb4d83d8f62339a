"""What readers of Kafka promise, on fetchers and threads of the product over brokers in memory."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from random import Random

import pytest

from millstream.errors import LogUnavailable
from millstream.log.kafka.reading.fetch import Assigning, Fetcher
from millstream.log.kafka.reading.readers import Buffer, KafkaReader, Run
from millstream.log.port import Record
from tests.log.fake_brokers import Brokers
from tests.log.kafka_reading import (
    EVENTS,
    FEW,
    SOON_S,
    offsets_upto,
    read_once,
    read_upto,
    stage,
    until,
)

# --- in order, up to the end, and on ----------------------------------------------------------------


async def test_records_are_read_in_order_as_they_were_written() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, *(b"%d" % n for n in range(5_000)))
        records = await read_upto(on.reader(), 5_000)
        assert [(record.offset, record.value) for record in records] == [(n, b"%d" % n) for n in range(5_000)]


async def test_a_reader_begins_where_it_is_told() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, *b"abcdef".split(b"x"), b"b", b"c")
        assert await offsets_upto(on.reader(1), 3) == [1, 2]


async def test_a_read_stops_at_its_limits_and_the_next_goes_on_behind() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, *[b"x" * 10] * 20)
        reader = on.reader()
        pages = [await reader.read(max_records=3, max_bytes=1_000, wait_s=SOON_S) for _ in range(2)]
        pages.append(await reader.read(max_records=100, max_bytes=25, wait_s=SOON_S))
        pages.append(await reader.read(max_records=100, max_bytes=1, wait_s=SOON_S))
        assert [[record.offset for record in page] for page in pages] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
        assert reader.position == 10


async def test_at_the_end_a_read_that_does_not_wait_says_at_once_that_there_is_nothing() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, b"a")
        reader = on.reader()
        assert len(await read_once(reader, wait_s=0)) == 1, "what is known to be there is waited for"
        assert await read_once(reader, wait_s=0) == []


async def test_the_position_passes_over_what_holds_no_record_also_at_the_end() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, b"a")
        on.brokers.skip(EVENTS, 0, 3)
        on.brokers.append(EVENTS, 0, b"b")
        on.brokers.skip(EVENTS, 0)
        reader = on.reader()
        assert await offsets_upto(reader, 6) == [0, 4]
        assert reader.position == 6


async def test_a_reader_at_the_end_wakes_with_the_next_record() -> None:
    async with stage() as on:
        reader = on.reader()
        reading = asyncio.ensure_future(read_once(reader))
        await until(lambda: on.brokers.consumers and on.brokers.consumers[0].assigned)
        on.brokers.append(EVENTS, 0, b"a")
        assert [record.value for record in await reading] == [b"a"]


async def test_records_that_arrive_between_two_looks_at_the_buffer_are_read() -> None:
    """The thread may bring records at any moment of a read, and none is taken for an error."""
    async with stage() as on:
        reader = on.reader()
        for n in range(300):
            on.brokers.append(EVENTS, 0, b"%d" % n)
            assert await offsets_upto(reader, n + 1) == [n]


# --- alone, then among those who follow -------------------------------------------------------------


async def test_a_reader_that_has_reached_the_end_moves_to_the_consumer_that_all_share() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, b"a")
        reader = await on.follower()
        on.brokers.append(EVENTS, 0, b"b", b"c")
        assert await offsets_upto(reader, 3) == [0, 1, 2]
        alone = [consumer for consumer in on.brokers.consumers if consumer.alone]
        assert [consumer.assigned for consumer in alone] == [{}], "its own has let go, and is free for the next reader"
        await on.follower(topic="other")
        assert len(on.brokers.consumers) == 2


async def test_records_that_arrive_while_a_reader_moves_are_read_once() -> None:
    async with stage() as on:
        reader, count = on.reader(), 0
        moved = asyncio.ensure_future(on.follower())
        while not moved.done():
            on.brokers.append(EVENTS, 0, b"x")
            count += 1
            await asyncio.sleep(0.45 if count % 3 == 0 else 0.01)
        assert await offsets_upto(reader, count) == list(range(count))
        on.brokers.append(EVENTS, 0, b"x")
        assert await offsets_upto(reader, count + 1) == [count]


async def test_a_seek_while_a_reader_moves_decides_from_where_it_goes_on() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 5)
        reader = on.reader()
        assert await offsets_upto(reader, 5) == list(range(5))
        # Its consumer has let go and the loop has not heard of it, because it does not get to run.
        alone = on.brokers.consumers[0]
        with on.brokers.changed:
            assert on.brokers.changed.wait_for(lambda: not alone.assigned, SOON_S)
        reader.seek(2)
        assert await offsets_upto(reader, 5) == [2, 3, 4]


async def test_a_reader_that_is_closed_before_the_end_leaves_its_consumer_to_the_next() -> None:
    async with stage(alone_max=1) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 30)
        await on.reader(buffer=FEW).close()
        assert await offsets_upto(on.reader(), 30) == list(range(30))
        assert [consumer.alone for consumer in on.brokers.consumers] == [True]


async def test_a_reader_that_is_closed_while_it_moves_is_fed_no_more() -> None:
    async with stage() as on:
        await on.follower(topic="other")
        reader = on.reader()
        alone = on.brokers.consumers[0]
        await until(lambda: (EVENTS, 0) in alone.assigned)
        # Its consumer has let go and the loop has not heard of it, because it does not get to run.
        with on.brokers.changed:
            assert on.brokers.changed.wait_for(lambda: not alone.assigned, SOON_S)
        await reader.close()
        await on.follower(partition=1)  # What was on its way to the loop has come there by then.
        assert set(on.shared.assigned) == {("other", 0), (EVENTS, 1)}


async def test_when_all_consumers_are_taken_the_next_reader_shares_from_the_start() -> None:
    async with stage(alone_max=1) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 30)
        first, second = on.reader(buffer=FEW), on.reader(buffer=FEW)
        assert await offsets_upto(second, 30) == list(range(30))
        assert await offsets_upto(first, 30) == list(range(30))
        assert len(on.brokers.consumers) == 2


# --- full -------------------------------------------------------------------------------------------


async def test_a_full_reader_is_fetched_no_more_for_and_misses_nothing() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 10_000)
        reader = on.reader(buffer=FEW)
        await until(lambda: reader.full)
        held = reader.buffered_records
        on.brokers.append(EVENTS, 0, *[b"x"] * 10_000)
        await asyncio.sleep(0.05)
        assert reader.buffered_records == held < 5_000
        assert await offsets_upto(reader, 20_000) == list(range(20_000))


async def test_a_reader_is_full_by_its_bytes_too() -> None:
    async with stage() as on:
        reader = on.reader(buffer=Buffer(bytes_max=1_000))
        on.brokers.append(EVENTS, 0, *[b"x" * 600] * 2)
        await until(lambda: reader.full)
        assert await offsets_upto(reader, 2) == [0, 1]


async def test_what_comes_behind_an_end_while_a_reader_alone_is_full_is_not_lost() -> None:
    async with stage() as on:
        with on.brokers.held():
            reader = on.reader(buffer=FEW)
            await until(lambda: on.brokers.consumers and on.brokers.consumers[0].assigned)
            on.brokers.append(EVENTS, 0, *[b"x"] * 20)  # They fill it …
            on.brokers.append(EVENTS, 0, *[b"x"] * 20)  # … and these lie behind the end that was said, in one look.
        await until(lambda: reader.full)
        assert await offsets_upto(reader, 20) == list(range(20))
        on.brokers.append(EVENTS, 0, *[b"x"] * 20)
        assert await offsets_upto(reader, 60) == list(range(20, 60))


async def test_a_reader_alone_that_is_full_at_the_end_still_gets_to_the_end() -> None:
    """Behind its last record there is none; only the end that is said moves the position there."""
    async with stage() as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 20)
        on.brokers.skip(EVENTS, 0)
        reader = on.reader(buffer=FEW)
        await until(lambda: reader.full)
        assert await offsets_upto(reader, 21) == list(range(20))


async def test_a_full_reader_that_shares_pauses_and_goes_on_where_it_was() -> None:
    async with stage() as on:
        reader = await on.follower(buffer=FEW)
        on.brokers.append(EVENTS, 0, *[b"x"] * 20)
        await until(lambda: (EVENTS, 0) in on.shared.paused)
        on.brokers.append(EVENTS, 0, *[b"x"] * 20)
        assert await offsets_upto(reader, 40) == list(range(40))
        await until(lambda: not on.shared.paused)


async def test_a_full_reader_does_not_hold_up_another_of_its_partition() -> None:
    async with stage(alone_max=0) as on:
        slow, quick = on.reader(buffer=FEW), on.reader(buffer=FEW)
        for _ in range(10):
            on.brokers.append(EVENTS, 0, *[b"x"] * 100)
        assert await offsets_upto(quick, 1_000) == list(range(1_000))
        assert await offsets_upto(slow, 1_000) == list(range(1_000))


async def test_a_full_reader_does_not_hold_up_another_partition() -> None:
    async with stage(alone_max=0) as on:
        slow, quick = on.reader(buffer=FEW), on.reader(partition=1)
        on.brokers.append(EVENTS, 0, *[b"x"] * 100)
        await until(lambda: slow.full)
        on.brokers.append(EVENTS, 1, b"x")
        assert await offsets_upto(quick, 1) == [0]


async def test_who_reads_a_partition_after_a_full_reader_was_closed_gets_its_records() -> None:
    async with stage(alone_max=0) as on:
        full = on.reader(buffer=FEW)
        on.brokers.append(EVENTS, 0, *[b"x"] * 20)
        await until(lambda: (EVENTS, 0) in on.shared.paused)
        await full.close()
        await until(lambda: not on.shared.assigned)
        assert await offsets_upto(on.reader(), 20) == list(range(20))


# --- several readers in one consumer ----------------------------------------------------------------


async def test_readers_of_one_partition_each_get_everything_from_where_they_began() -> None:
    async with stage(alone_max=0) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 100)
        begins = (50, 0, 99, 20)
        readers = [on.reader(begin) for begin in begins]
        got = [await offsets_upto(reader, 100) for reader in readers]
        assert got == [list(range(begin, 100)) for begin in begins]
        on.brokers.append(EVENTS, 0, b"x")
        assert [await offsets_upto(reader, 101) for reader in readers] == [[100]] * 4


async def test_readers_of_one_place_do_not_get_into_each_others_records() -> None:
    async with stage(alone_max=0) as on:
        readers = [on.reader(), on.reader()]
        with on.brokers.held():
            await until(lambda: on.brokers.consumers and on.shared.assigned)
            on.brokers.append(EVENTS, 0, *[b"x"] * 5)
            on.brokers.append(EVENTS, 0, *[b"x"] * 5)
        await until(lambda: all(reader.buffered_records == 10 for reader in readers))
        assert [[one.offset for one in await read_once(reader)] for reader in readers] == [list(range(10))] * 2


async def test_readers_of_one_place_do_not_get_into_each_others_records_when_more_arrives_as_one_reads() -> None:
    shared = [Record(offset, 0, b"x", None, ()) for offset in (0, 1)]

    class ArrivesThen(deque[Run]):
        """The buffer, into which the fetcher's thread puts the next run as the first one is taken."""

        def popleft(self) -> Run:
            if len(self) == 1 and self[0].records is shared:
                self.append(Run(0, [Record(2, 0, b"y", None, ())], 1, 3))
            return super().popleft()

    readers = [KafkaReader(Brokers(), EVENTS, 0, 0) for _ in range(2)]
    for reader in readers:
        reader.runs = ArrivesThen([Run(0, shared, 2, 2)])
    for reader in readers:
        assert await offsets_upto(reader, 3) == [0, 1, 2]
    assert [record.offset for record in shared] == [0, 1]


async def test_a_late_reader_takes_the_others_nothing_away_and_gives_them_nothing_twice() -> None:
    async with stage(alone_max=0) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 50)
        first = on.reader()
        assert await offsets_upto(first, 50) == list(range(50))
        assert await offsets_upto(on.reader(10), 50) == list(range(10, 50))
        on.brokers.append(EVENTS, 0, b"x")
        assert await offsets_upto(first, 51) == [50]


async def test_closing_one_reader_leaves_the_others_of_its_partition() -> None:
    async with stage(alone_max=0) as on:
        one, other = on.reader(), on.reader()
        on.brokers.append(EVENTS, 0, b"a")
        await read_upto(one, 1)
        await one.close()
        await read_upto(on.reader(), 1)  # What was asked of the thread before has been done by then.
        on.brokers.append(EVENTS, 0, b"b")
        assert await offsets_upto(other, 2) == [0, 1]
        for reader in on.readers:
            await reader.close()
        await until(lambda: not on.shared.assigned)


# --- sent elsewhere ---------------------------------------------------------------------------------


@pytest.mark.parametrize("alone_max", [3, 0])
async def test_after_a_seek_only_what_lies_there_is_read(alone_max: int) -> None:
    async with stage(alone_max) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 50)
        reader = on.reader(buffer=FEW)
        for to in (0, 40, 3, 49, 50, 25):
            reader.seek(to)
            await asyncio.sleep(Random(to).random() / 100)
            reader.seek(to)
            assert await offsets_upto(reader, 50) == list(range(to, 50))


@pytest.mark.parametrize("alone_max", [3, 0])
async def test_a_seek_drops_what_a_full_reader_held(alone_max: int) -> None:
    async with stage(alone_max) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 50)
        reader = on.reader(buffer=FEW)
        await until(lambda: reader.full)
        await reader.read(max_records=3, max_bytes=100, wait_s=SOON_S)
        reader.seek(30)
        assert reader.buffered_records == 0
        assert await offsets_upto(reader, 50) == list(range(30, 50))
        reader.seek(0)
        assert await offsets_upto(reader, 50) == list(range(50))


# --- closing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alone_max", [3, 0])
async def test_closing_while_a_fetch_is_under_way_ends_the_fetch(alone_max: int) -> None:
    async with stage(alone_max) as on:
        reader = on.reader()
        on.brokers.append(EVENTS, 0, *[b"x"] * 1_000)
        await reader.close()
        await reader.close()
        await until(lambda: on.brokers.consumers and not on.brokers.consumers[0].assigned)
        with pytest.raises(LogUnavailable, match="was closed"):
            await read_once(reader)
        assert await offsets_upto(on.reader(990), 1_000) == list(range(990, 1_000))


async def test_closing_a_reader_wakes_who_reads_from_it() -> None:
    async with stage() as on:
        reader = on.reader()
        reading = asyncio.ensure_future(read_once(reader, wait_s=60))
        await asyncio.sleep(0)
        await reader.close()
        with pytest.raises(LogUnavailable, match="was closed"):
            await asyncio.wait_for(reading, SOON_S)


async def test_when_the_log_is_closed_a_read_says_so() -> None:
    async with stage() as on:
        reader = on.reader()
        on.brokers.is_closed = True
        with pytest.raises(LogUnavailable, match="this log was closed"):
            await read_once(reader)


# --- all of it at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_in_whatever_order_each_reader_reads_what_was_written(seed: int) -> None:
    rng = Random(seed)
    async with stage(alone_max=rng.choice([0, 1, 3])) as on:
        readers = [on.reader(buffer=Buffer(rng.choice([3, 10, 200]))) for _ in range(3)]
        got: list[list[int]] = [[] for _ in readers]
        written: list[int] = []
        for _ in range(60):
            at = rng.randrange(3)
            match rng.choice(["append", "append", "append", "skip", "read", "read", "seek", "wait", "move"]):
                case "append":
                    end, count = on.brokers.partitions[EVENTS, 0].end, rng.choice([1, 5, 50])
                    on.brokers.append(EVENTS, 0, *[b"x"] * count)
                    written += range(end, end + count)
                case "skip":
                    on.brokers.skip(EVENTS, 0, rng.randint(1, 3))
                case "read":
                    page = await readers[at].read(max_records=rng.choice([1, 7, 1_000]), max_bytes=1 << 20, wait_s=0.01)
                    got[at] += [record.offset for record in page]
                case "seek":
                    to = rng.randint(0, readers[at].position)
                    readers[at].seek(to)
                    got[at] = [offset for offset in got[at] if offset < to]
                case "wait":
                    await asyncio.sleep(rng.random() / 50)
                case "move":
                    await asyncio.sleep(rng.choice([0.0, 0.0, 0.35]))
        end = on.brokers.partitions[EVENTS, 0].end
        for reader, read in zip(readers, got, strict=True):
            read += await offsets_upto(reader, end)
        assert got == [written] * 3


async def test_a_fetcher_that_is_stopped_as_it_looks_for_commands_ends() -> None:
    brokers = Brokers()
    fetcher = Fetcher(brokers.make, asyncio.get_running_loop(), Assigning())

    class StoppedThen(threading.Event):
        def clear(self) -> None:
            fetcher.stop()
            super().clear()

    fetcher._asked = StoppedThen()
    fetcher.start()
    await until(lambda: not fetcher.thread.is_alive())
