"""What readers of Kafka promise when something goes wrong, on the product's threads over brokers in memory."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from millstream.errors import Corruption, LogUnavailable, OffsetOutOfRange
from millstream.lane.ownership.restore import Reached, fold_upto
from millstream.model.facts import LaneFenced
from millstream.model.journal import JournalRecord
from millstream.model.place import Place
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from millstream.wire.journal import Validity, encode_record
from tests.log.kafka_reading import EVENTS, FEW, SOON_S, offsets_upto, read_once, read_upto, stage, until


@pytest.mark.parametrize("alone_max", [3, 0])
@pytest.mark.parametrize("wait_s", [0, SOON_S])
@pytest.mark.parametrize("offset", [2, 9])
async def test_an_offset_that_is_not_there_is_said_with_what_is(alone_max: int, wait_s: float, offset: int) -> None:
    async with stage(alone_max) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 6)
        on.brokers.trim(EVENTS, 0, 4)
        reader = on.reader(offset)
        with pytest.raises(OffsetOutOfRange, match=f"no offset {offset}: expected 4 to 6") as raised:
            await read_once(reader, wait_s)
        assert (raised.value.start, raised.value.end) == (4, 6)
        reader.seek(4)
        assert await offsets_upto(reader, 6) == [4, 5]


@pytest.mark.parametrize("wait_s", [0, SOON_S])
@pytest.mark.parametrize("offset", [2, 9])
async def test_it_is_said_as_well_to_a_reader_that_shares_the_fetch_of_its_partition(
    offset: int, wait_s: float
) -> None:
    async with stage(alone_max=0) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 6)
        on.brokers.trim(EVENTS, 0, 4)
        other = on.reader(4)
        assert await offsets_upto(other, 6) == [4, 5]
        reader = on.reader(offset)
        for _ in range(2):
            with pytest.raises(OffsetOutOfRange, match=f"no offset {offset}: expected 4 to 6"):
                await read_once(reader, wait_s)
        on.brokers.append(EVENTS, 0, b"x")
        assert await offsets_upto(other, 7) == [6], "the other reader goes on"
        reader.seek(6)
        assert await offsets_upto(reader, 7) == [6]


async def test_a_reader_that_seeks_behind_the_end_is_told_so_beside_another() -> None:
    async with stage(alone_max=0) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 6)
        other, reader = on.reader(), on.reader(3)
        assert await offsets_upto(reader, 6) == [3, 4, 5]
        reader.seek(9)
        with pytest.raises(OffsetOutOfRange, match="no offset 9: expected 0 to 6"):
            await read_once(reader)
        assert await offsets_upto(other, 6) == list(range(6))
        on.brokers.append(EVENTS, 0, *[b"x"] * 5)
        assert await offsets_upto(reader, 11) == [9, 10], "it is there by now"


async def test_a_reader_that_nobody_reads_keeps_no_other_from_its_records() -> None:
    async with stage(alone_max=0) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 6)
        on.brokers.trim(EVENTS, 0, 4)
        other = on.reader(4)
        assert await offsets_upto(other, 6) == [4, 5]
        on.reader(1)
        on.reader(20)
        for n in range(6, 12):
            on.brokers.append(EVENTS, 0, b"x")
            assert await offsets_upto(other, n + 1) == [n]


async def test_what_was_fetched_before_it_was_trimmed_is_read() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 6)
        reader = on.reader()
        await until(lambda: reader.buffered_records == 6)
        on.brokers.trim(EVENTS, 0, 4)
        assert await offsets_upto(reader, 6) == list(range(6))


async def test_a_position_that_is_there_after_all_is_read_from_again() -> None:
    """Asked of a broker that had not heard yet how far the partition goes."""
    async with stage() as on:
        reader = on.reader(3)
        await until(lambda: reader.runs)
        on.brokers.append(EVENTS, 0, *[b"x"] * 5)
        assert await offsets_upto(reader, 5) == [3, 4]


async def test_while_no_broker_is_reached_a_reader_waits_and_then_goes_on() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, b"a")
        reader = on.reader()
        await read_upto(reader, 1)
        with on.brokers.silent():
            on.brokers.append(EVENTS, 0, b"b")
            for code in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE):
                on.brokers.complain(KafkaError(code))
            assert await read_once(reader, wait_s=0.05) == []
        assert await offsets_upto(reader, 2) == [1]


async def test_an_error_about_a_partition_is_said_to_who_reads_it_and_the_next_read_goes_on() -> None:
    async with stage(alone_max=0) as on:
        refused, other = on.reader(), on.reader(partition=1)
        await until(lambda: on.brokers.consumers and len(on.shared.assigned) == 2)
        on.brokers.append(EVENTS, 0, b"a")
        on.brokers.fail(EVENTS, 0, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        assert await offsets_upto(refused, 1) == [0], "what was fetched before comes first"
        with pytest.raises(LogUnavailable, match="Allow this user to read"):
            await read_once(refused)
        on.brokers.append(EVENTS, 0, b"b")
        on.brokers.append(EVENTS, 1, b"c")
        assert await offsets_upto(refused, 2) == [1]
        assert await offsets_upto(other, 1) == [0]


async def test_a_record_with_a_wrong_checksum_is_corruption() -> None:
    async with stage() as on:
        reader = on.reader()
        await until(lambda: on.brokers.consumers and on.brokers.consumers[0].assigned)
        on.brokers.fail(EVENTS, 0, KafkaError._BAD_MSG)
        with pytest.raises(Corruption, match="events/0 could not be read at offset 0"):
            await read_once(reader)


@pytest.mark.parametrize("alone_max", [1, 0])
async def test_when_a_consumer_ends_by_itself_its_readers_go_on_with_another(alone_max: int) -> None:
    async with stage(alone_max) as on:
        on.brokers.append(EVENTS, 0, *[b"x"] * 30)
        readers = [on.reader(buffer=FEW), on.reader(20)]
        assert len(await readers[0].read(max_records=5, max_bytes=100, wait_s=SOON_S)) == 5
        first = on.brokers.consumers[0]
        on.brokers.complain(KafkaError(KafkaError._FATAL, "it cannot go on"))
        on.brokers.append(EVENTS, 0, b"x")
        assert await offsets_upto(readers[0], 31) == list(range(5, 31))
        assert await offsets_upto(readers[1], 31) == list(range(20, 31))
        assert first.is_closed


async def test_where_no_consumer_can_be_made_a_reader_waits_until_one_can() -> None:
    async with stage() as on:
        on.brokers.append(EVENTS, 0, b"a")
        on.brokers.refuse_consumers(1)
        assert await offsets_upto(on.reader(), 1) == [0]


async def test_records_that_a_consumer_gives_twice_are_read_once() -> None:
    async with stage() as on:
        reader = on.reader()
        on.brokers.append(EVENTS, 0, *[b"x"] * 4)
        assert await offsets_upto(reader, 4) == [0, 1, 2, 3]
        with on.brokers.silent():
            on.brokers.append(EVENTS, 0, *[b"x"] * 4)
            on.brokers.give(EVENTS, 0, 2, 3, 4, 4, 5, 4, 5, 6, 5)
        assert await offsets_upto(reader, 8) == [4, 5, 6, 7]


async def test_a_record_of_a_journal_that_a_consumer_loses_stops_who_folds_it() -> None:
    async with stage() as on:
        records = [JournalRecord(b"o" * 8, seq, 1, (LaneFenced("w"),) if seq == 0 else ()) for seq in range(4)]
        on.brokers.append("g.journal", 0, *map(encode_record, records))
        on.brokers.lose("g.journal", 0, 2)
        tables, begin = LaneTables(Place("g", 0, 1), MemoryStore()), Reached(0, Validity(), 0, 0)
        with pytest.raises(Corruption, match=r"g\.journal/0 gave offset 3 where 2 was expected"):
            await fold_upto(on.log(), tables, begin, 4, lambda facts, left: None)
        assert (await fold_upto(on.log(), tables, begin, 4, lambda facts, left: None)).offset == 4
