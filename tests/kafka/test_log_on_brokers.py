"""What only a real broker does: it stops answering, dies, compacts, and leaves markers between records."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from millstream.errors import ConfigError, LimitExceeded, LogUnavailable
from millstream.log.kafka.log import KafkaLog
from millstream.log.kafka.reading.fetch import Pool
from millstream.log.kafka.reading.readers import Buffer, KafkaReader
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import OutcomeUnknown, Produced, TopicKind, TopicSpec
from tests.kafka.broker import Broker, fresh, own_broker
from tests.kafka.logs import Member, group_topics, opened, read_upto, settings_for, until, values


async def test_a_broker_that_is_killed_and_comes_back_costs_no_record(tmp_path: Path) -> None:
    with own_broker(tmp_path) as broker:
        settings = settings_for(broker)
        async with opened(settings, watchdog_s=60) as log:
            group = await group_topics(log, settings)
            journal = f"{group}.journal"
            member = Member(log, group)
            await member.join()
            writer, reader = log.writer(journal, 0), log.reader(journal, 0, 0)
            assert await writer.append(values("before")) == 0
            in_thread = asyncio.get_running_loop().run_in_executor
            await in_thread(None, broker.kill)
            under_way = writer.append(values("during"))
            await in_thread(None, broker.revive)
            assert await asyncio.wait_for(under_way, 60) == 1
            assert await writer.append(values("after")) == 2
            assert [r.value for r in await read_upto(reader, 3)] == [b"before", b"during", b"after"]
            held = member.held == {0, 1, 2, 3}
            async with asyncio.timeout(60):
                while not (held and await _owns(member, 0)):
                    held = member.held == {0, 1, 2, 3}
                    await asyncio.sleep(0.1)
            # What was read through the group goes on as well.
            inbox = member.membership.reader(f"{group}.inbox", 0, 0)
            await log.writer(f"{group}.inbox", 0).append(values("message"))
            assert [r.value for r in await read_upto(inbox, 1)] == [b"message"]
            checkpoint = await log.transaction("t")
            await checkpoint.send(f"{group}.steps", 0, [Produced(b"v", b"k")])
            await checkpoint.commit({0: 1})


async def _owns(member: Member, lane: int) -> bool:
    try:
        return await member.membership.still_owns(lane, inbox_position=0)
    except LogUnavailable:
        return False


async def test_an_append_that_nobody_answers_is_unknown_and_its_writer_starts_afresh(tmp_path: Path) -> None:
    with own_broker(tmp_path) as broker:
        settings = settings_for(broker)
        async with opened(settings, watchdog_s=2.0) as log:
            group = await group_topics(log, settings)
            journal = f"{group}.journal"
            writer, neighbour = log.writer(journal, 0), log.writer(journal, 2)
            elsewhere = log.writer(journal, 1)
            for one in (writer, neighbour, elsewhere):
                await one.append(values("before"))
            in_thread = asyncio.get_running_loop().run_in_executor
            await in_thread(None, broker.pause)
            lost = writer.append(values("lost"))
            beside = elsewhere.append(values("beside"))
            with pytest.raises(OutcomeUnknown):
                await lost
            with pytest.raises(LogUnavailable, match="unknown outcome"):
                writer.append(values("never"))
            await writer.close()
            with pytest.raises(OutcomeUnknown):  # Before the broker answers again: it might answer this one.
                await beside
            await in_thread(None, broker.resume)
            await elsewhere.close()
            # A neighbour on the same producer that had nothing under way notices nothing.
            assert await asyncio.wait_for(neighbour.append(values("after")), 30) == 1
            end = await log.end_offset(journal, 0)
            assert end in (1, 2)  # What was on the wire may have been stored, before the next writer's.
            assert await asyncio.wait_for(log.writer(journal, 0).append(values("after")), 30) == end


async def test_a_reader_passes_over_what_compaction_removed(kafka: Broker) -> None:
    name = fresh("compacted")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.001",
        "max.compaction.lag.ms": "100",
        "delete.retention.ms": "1",
    }
    admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result()
    async with opened(settings_for(kafka)) as log:
        writer = log.writer(name, 0)
        for number in range(40):
            await writer.append([Produced(b"%d" % number, b"%d" % (number % 3))])
        await asyncio.sleep(0.3)  # So that the next append begins a segment: the last one is never cleaned.
        await writer.append([Produced(b"last", b"last")])
        async with asyncio.timeout(90):
            while True:
                found = await read_upto(log.reader(name, 0, 0), 41)
                if len(found) < 41:
                    break
                await asyncio.sleep(1)
                await writer.append([Produced(b"last", b"last")])
        assert {r.key: r.value for r in found if r.offset < 40} == {b"0": b"39", b"1": b"37", b"2": b"38"}
        assert found[0].offset > 0


async def test_a_reader_passes_over_markers_and_what_was_aborted(kafka: Broker) -> None:
    async with opened(settings_for(kafka)) as log:
        name = fresh("rows")
        await log.create_topics([TopicSpec(name, 1, TopicKind.COMPACTED)])
        await commit_row(log, name, b"0")
        aborted = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": fresh("other")})
        await asyncio.get_running_loop().run_in_executor(None, send_and_abort, aborted, name)
        await commit_row(log, name, b"2")
        end = await log.end_offset(name, 0)
        assert end == 6  # Three rows, three markers.
        reader = log.reader(name, 0, 0)
        assert [r.value for r in await read_upto(reader, end)] == [b"0", b"2"]
        assert reader.position == end


async def commit_row(log: KafkaLog, topic: str, value: bytes) -> None:
    begun = await log.transaction("t")
    await begun.send(topic, 0, [Produced(value, b"k")])
    await begun.commit({})


def send_and_abort(producer: Producer, topic: str) -> None:
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(topic, b"1", b"k", 0)
    producer.flush()
    producer.abort_transaction()


async def test_what_an_open_transaction_holds_back_is_not_the_end_yet(kafka: Broker) -> None:
    async with opened(settings_for(kafka)) as log:
        name = fresh("rows")
        await log.create_topics([TopicSpec(name, 1, TopicKind.COMPACTED)])
        other = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": fresh("other")})
        in_thread = asyncio.get_running_loop().run_in_executor
        await in_thread(None, other.init_transactions)
        other.begin_transaction()
        other.produce(name, b"open", b"k", 0)
        await in_thread(None, other.flush)
        await log.writer(name, 0).append([Produced(b"behind", b"l")])
        assert await log.end_offset(name, 0) == 0
        assert list(await log.reader(name, 0, 0).read(max_records=9, max_bytes=99, wait_s=0)) == []
        await in_thread(None, other.commit_transaction)
        async with asyncio.timeout(30):
            while await log.end_offset(name, 0) < 3:  # noqa: ASYNC110 - of brokers nobody tells
                await asyncio.sleep(0.05)
        assert [r.value for r in await read_upto(log.reader(name, 0, 0), 3)] == [b"open", b"behind"]


async def test_many_readers_of_one_partition_each_get_everything(kafka: Broker) -> None:
    async with opened(settings_for(kafka)) as log:
        name = fresh("shared")
        await log.create_topics([TopicSpec(name, 1, retention_ms=3_600_000)])
        writer = log.writer(name, 0)
        await writer.append(values(*(f"{n}" for n in range(100))))
        readers = [log.reader(name, 0, begin * 10) for begin in range(8)]
        got: list[list[int]] = [[] for _ in readers]

        async def follow(at: int) -> None:
            while readers[at].position < 300:
                page = await readers[at].read(max_records=7 + at, max_bytes=1 << 20, wait_s=1.0)
                got[at] += [record.offset for record in page]

        following = [asyncio.ensure_future(follow(at)) for at in range(8)]
        for n in range(20):
            await writer.append(values(*(f"{n}-{m}" for m in range(10))))
            await asyncio.sleep(0.05)
        await asyncio.wait_for(asyncio.gather(*following), 30)
        assert got == [list(range(at * 10, 300)) for at in range(8)]


async def test_a_slow_reader_does_not_hold_up_the_others(kafka: Broker) -> None:
    settings, few = settings_for(kafka), Buffer(records_max=50)
    async with opened(settings) as log:
        name = fresh("slow")
        await log.create_topics([TopicSpec(name, 1, retention_ms=3_600_000)])
        config = settings.reader(committed=True, bulk=False)
        pool = Pool(lambda alone: Consumer(config), asyncio.get_running_loop(), alone_max=0)  # All share one consumer.
        slow, quick = KafkaReader(log, name, 0, 0, buffer=few), KafkaReader(log, name, 0, 0, buffer=few)
        pool.open(slow)
        pool.open(quick)
        writer = log.writer(name, 0)
        for n in range(50):
            await writer.append(values(*(f"{n}-{m}" for m in range(20))))
        assert [r.offset for r in await read_upto(quick, 1_000)] == list(range(1_000))
        assert [r.offset for r in await read_upto(slow, 1_000)] == list(range(1_000))
        for fetcher in pool.stop():
            await asyncio.to_thread(fetcher.thread.join)


async def test_two_workers_of_one_name_are_told_so(kafka: Broker) -> None:
    settings = settings_for(kafka)
    async with opened(settings, "same") as one, opened(settings, "same") as two:
        name = fresh("rows")
        await one.create_topics([TopicSpec(name, 1, TopicKind.COMPACTED)])
        first = await one.transaction("t")
        await first.send(name, 0, [Produced(b"1", b"k")])
        second = await two.transaction("t")
        with pytest.raises(LogUnavailable, match="same name"):
            await first.commit({})
        await second.send(name, 0, [Produced(b"2", b"k")])
        await second.commit({})
        assert [r.value for r in await read_upto(two.reader(name, 0, 0), await two.end_offset(name, 0))] == [b"2"]


async def test_a_record_larger_than_its_topic_takes_is_refused_before_it_is_sent(kafka: Broker) -> None:
    name = fresh("small")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, 1, 1, config={"max.message.bytes": "10000"})])[name].result()
    async with opened(settings_for(kafka)) as log:
        writer = log.writer(name, 0)
        with pytest.raises(LimitExceeded, match=r"max\.message\.bytes"):
            writer.append([Produced(b"x" * 20_000)])
        assert await writer.append([Produced(b"x" * 5_000)]) == 0


async def test_no_broker_is_said_with_the_address() -> None:
    with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1:1"):
        await KafkaLog.open(KafkaSettings(brokers="127.0.0.1:1"))


async def test_joining_without_topics_or_with_other_lanes_is_refused(kafka: Broker) -> None:
    settings = settings_for(kafka)
    async with opened(settings) as log:
        with pytest.raises(ConfigError, match="topics apply"):
            await Member(log, fresh("nowhere")).join()
        group = await group_topics(log, settings)
        with pytest.raises(ConfigError, match="4 partitions"):
            await Member(log, group, lanes=8).join()


async def test_a_stopped_reader_goes_on_where_it_was(kafka: Broker) -> None:
    """A full buffer in a consumer that others share: what was fetched ahead is fetched again, nothing twice."""
    settings = settings_for(kafka)
    async with opened(settings) as log:
        group = await group_topics(log, settings)
        events = f"{group}.events"
        writer = log.writer(events, 0)
        big = [Produced(b"x" * 90_000) for _ in range(10)]
        for _ in range(40):
            await writer.append(big)
        member = Member(log, group)
        await member.join()
        reader = member.membership.reader(events, 0, 0)
        await until(lambda: reader.full)
        assert [r.offset for r in await read_upto(reader, 400)] == list(range(400))


async def test_writers_of_several_processes_stay_usable_however_their_records_mix(kafka: Broker) -> None:
    settings = settings_for(kafka)
    async with opened(settings) as one, opened(settings) as other:
        topic = fresh("mixed")
        await one.create_topics([TopicSpec(topic, 1)])
        writers = [one.writer(topic, 0), other.writer(topic, 0)]
        for _ in range(20):
            await asyncio.gather(*(writer.append(values(*"x" * 100)) for writer in writers for _ in range(2)))
        assert await one.end_offset(topic, 0) == 20 * 2 * 2 * 100
