"""Disasters of the group's own things on Kafka: its offsets, its topics. docs/guarantees.md has the table."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from millstream import App, Context
from millstream.cli.support.exits import CHECK_FAILED, USAGE
from millstream.errors import AcknowledgedLost
from millstream.lane.settings import LaneSettings
from millstream.log.group_topics import GroupShape, topics_of
from millstream.log.port import Log, Produced
from millstream.model.event import Envelope
from millstream.model.facts import RunStarted
from millstream.model.ids import ulid
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.wire.messages import encode_envelope
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker
from tests.kafka.broker import Broker, fresh, kafka
from tests.kafka.fleet import Fleet, stop, until
from tests.kafka.logs import opened, settings_for
from tests.kafka.logs import until as eventually

__all__ = ["kafka"]
AT_MS = 1_795_356_850_000
EAGER = LaneSettings(flush_after_ms=100, checkpoint_facts=1, checkpoint_gap_ms=300)


@pytest.fixture
def fleet(kafka: Broker, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(kafka, tmp_path, lanes=2)
    yield made
    made.close()


def admin(fleet: Fleet) -> AdminClient:
    return AdminClient({"bootstrap.servers": fleet.brokers})


def test_a_group_whose_offsets_were_deleted_goes_on_where_it_was(fleet: Fleet) -> None:
    fleet.door()
    worker = fleet.worker("a")
    for n in range(10):
        fleet.send("fleet/quick", n=n)
    fleet.until_noted("quick", 10)
    stop(worker)
    assert worker.ended(40) == 0
    for n in range(10, 20):
        fleet.send("fleet/quick", n=n)
    client = admin(fleet)
    client.delete_consumer_groups([fleet.group])[fleet.group].result(60)
    fleet.worker("a")
    fleet.until_noted("quick", 20)
    facts = fleet.check_promises()
    assert sum(isinstance(fact, RunStarted) for fact in facts) == 20, "what was read before was read again"


def test_a_worker_without_its_journal_refuses_to_start_and_says_so(fleet: Fleet) -> None:
    worker = fleet.worker("a")
    stop(worker)
    assert worker.ended(40) == 0
    journal = f"{fleet.group}.journal"
    client = admin(fleet)
    client.delete_topics([journal])[journal].result(60)
    until("the journal is gone", lambda: journal not in client.list_topics(timeout=10).topics)
    again = fleet.worker("a", wait=False)
    assert again.ended(60) == CHECK_FAILED
    assert f"topic {journal} was not found" in again.said()
    assert "topics apply --accept-loss" in again.said()
    refused = fleet.topics_apply()
    assert refused.returncode == CHECK_FAILED, refused.stderr
    assert journal not in client.list_topics(timeout=10).topics, "a lost journal is not made anew by the way"

    made = fleet.topics_apply("--accept-loss")
    assert made.returncode == 0, made.stderr
    anew = fleet.worker("a", wait=False)
    assert anew.ended(60) == CHECK_FAILED
    assert f"topic '{journal}' of group '{fleet.group}' was deleted and made anew" in anew.said()
    accepted = fleet.worker("a", flags=("--accept-loss",))
    assert accepted.facts("loss accepted")
    assert journal in (fleet.folder / "a" / "losses.jsonl").read_text()


def test_a_worker_with_another_events_topic_is_refused(fleet: Fleet) -> None:
    fleet.worker("a")
    client = admin(fleet)
    other = f"{fleet.group}-other"
    client.create_topics([NewTopic(other, 2, 1)])[other].result(60)
    refused = fleet.worker("b", wait=False, MILLSTREAM_EVENTS_TOPIC=other)
    assert refused.ended(60) == USAGE
    assert f"reads its events from {fleet.group}-events" in refused.said()


def test_a_name_that_a_living_worker_has_is_refused(fleet: Fleet) -> None:
    first = fleet.worker("a")
    second = fleet.worker("a", wait=False, data="elsewhere")
    assert second.ended(40) == USAGE, second.said()
    assert "another living worker" in second.said()
    assert first.ready()


def make_anew(brokers: str, topic: str, partitions: int, **settings: str) -> None:
    """What `kafka-topics.sh --delete` and `--create` do."""
    client = AdminClient({"bootstrap.servers": brokers})
    client.delete_topics([topic])[topic].result(60)
    until("it is gone", lambda: topic not in client.list_topics(timeout=10).topics)
    config = {name.replace("_", "."): value for name, value in settings.items()}
    client.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(60)


class Lanes:
    """A group with one lane whose worker, in this process, checkpoints as soon as it can."""

    def __init__(self, kafka: Broker) -> None:
        self.settings = settings_for(kafka, "classic")
        self.group = fresh("lost")
        self.shape = GroupShape(group=self.group, lanes=1, events_topic=f"{self.group}-events")
        self.done: list[int] = []

    @contextlib.asynccontextmanager
    async def worker(self, disk: MemoryDisk) -> AsyncIterator[Worker]:
        app = App(self.group)

        @app.function(on="lane/asked")
        async def answer(ctx: Context) -> None:
            await ctx.step.run("before", lambda: None)
            await ctx.step.sleep("night", "4s")
            self.done.append(await ctx.step.run("count", lambda: ctx.event.data["n"]))

        async with opened(self.settings) as log:
            await log.create_topics(topics_of(self.shape))
            worker = Worker(
                WorkerParts(
                    log=log, group=self.group, lanes=1, apps=[app], make_store=lambda lane: MemoryStore(disk),
                    events_topic=self.shape.events_topic, events_retention_ms=self.shape.kept_ms, settings=EAGER,
                )
            )  # fmt: skip
            await worker.start()
            try:
                yield worker
            finally:
                await worker.stop(1)

    async def send(self, log: Log, n: int) -> None:
        writer = log.writer(self.shape.events_topic, 0)
        id = ulid(AT_MS, n.to_bytes(10, "big"))
        event = Envelope(id, id, False, "lane/asked", b'{"n": %d}' % n, AT_MS, AT_MS)
        await writer.append([Produced(encode_envelope(event))])
        await writer.close()


async def test_a_compacted_topic_made_anew_is_written_again_by_whoever_has_its_rows(
    kafka: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    lanes, disk = Lanes(kafka), MemoryDisk()
    async with lanes.worker(disk) as worker:
        for n in range(3):
            await lanes.send(worker.parts.log, n)
        await eventually(lambda: len(worker.lanes[0].tables.durable.timers.scan(limit=9)) >= 3)
        await eventually(lambda: worker.lanes[0].upkeep.checkpointed_at > 3)
        await asyncio.sleep(0.5)
    await asyncio.to_thread(make_anew, kafka.bootstrap, f"{lanes.group}.steps", 1, cleanup_policy="compact")
    with caplog.at_level(logging.ERROR):
        async with lanes.worker(disk) as worker:
            assert "checkpoint lost" in caplog.text
            await eventually(lambda: worker.lanes[0].upkeep.checkpointed_at > 3)
            await asyncio.sleep(0.5)
    async with lanes.worker(MemoryDisk()):  # What the topics hold is all that it knows.
        await eventually(lambda: sorted(lanes.done) == [0, 1, 2])


async def test_a_journal_made_anew_is_refused_at_once_by_a_lane_that_has_a_checkpoint(kafka: Broker) -> None:
    lanes, disk = Lanes(kafka), MemoryDisk()
    async with lanes.worker(disk) as worker:
        await lanes.send(worker.parts.log, 1)
        await eventually(lambda: worker.lanes[0].upkeep.checkpointed_at > 1)
        await asyncio.sleep(0.5)
    await asyncio.to_thread(make_anew, kafka.bootstrap, f"{lanes.group}.journal", 1, retention_ms="-1")
    for one in (disk, MemoryDisk()):
        began_s = time.monotonic()
        with pytest.raises(AcknowledgedLost, match=r"journal' was deleted and made anew: the lane's"):
            async with lanes.worker(one):
                pass
        assert time.monotonic() - began_s < 20
