"""A step that publishes on a real broker: a record is in its topic, or its step has failed, or it is a dead letter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from millstream.log.kafka.log import KafkaLog
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import Record
from millstream.model.facts import Fact, RunCompleted, RunFailed
from millstream.model.messages import group_topic
from tests.kafka.broker import Broker, fresh, kafka
from tests.kafka.fleet import Fleet, ask, until

__all__ = ["kafka"]
SMALL_BYTES = 4_000
"""The topic's max.message.bytes: far below what a producer puts into one request."""
SOON_S = 30.0
AT_ONCE = 100


@pytest.fixture(params=[4])
def fleet(kafka: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    made = Fleet(kafka, tmp_path, lanes=request.param)
    yield made
    made.close()


class Topic:
    """A topic with a small max.message.bytes and one partition."""

    def __init__(self, broker: Broker) -> None:
        self.name = fresh("small")
        self._settings = KafkaSettings(brokers=broker.bootstrap, replication_factor=1, min_insync=1)
        self._admin = AdminClient(self._settings.admin())
        made = NewTopic(self.name, 1, 1, config={"max.message.bytes": str(SMALL_BYTES)})
        self._admin.create_topics([made])[self.name].result(SOON_S)

    def take(self, message_bytes: int) -> None:
        """Take so much from now on."""
        set_it = AlterConfigOpType.SET
        entry = ConfigEntry("max.message.bytes", str(message_bytes), incremental_operation=set_it)
        resource = ConfigResource(ResourceType.TOPIC, self.name, incremental_configs=[entry])
        self._admin.incremental_alter_configs([resource])[resource].result(SOON_S)

    def records(self, name: str = "") -> list[Record]:
        """What it, or another topic, has; nothing where that does not exist."""
        return asyncio.run(self._read(name or self.name))

    async def _read(self, name: str) -> list[Record]:
        found: list[Record] = []
        log = await KafkaLog.open(self._settings)
        try:
            spec = await log.topic(name)
            for partition in range(spec.partitions if spec is not None else 0):
                end = await log.end_offset(name, partition)
                reader = log.reader(name, partition, 0)
                while reader.position < end:
                    found += await reader.read(max_records=1_000, max_bytes=1 << 24, wait_s=5)
                await reader.close()
        finally:
            await log.close()
        return found


def ended(fleet: Fleet, count: int) -> list[Fact]:
    """The ends of so many runs."""

    def look() -> list[Fact]:
        found = [fact for fact in fleet.journal() if isinstance(fact, RunCompleted | RunFailed)]
        return found if len(found) >= count else []

    ends: list[Fact] = until(f"{count} runs", look)
    return ends


def test_a_record_too_large_for_its_topic_fails_its_step_and_others_are_sent(fleet: Fleet, kafka: Broker) -> None:
    topic = Topic(kafka)
    fleet.door()
    worker = fleet.worker("a")
    fleet.send("fleet/publish", topic=topic.name, key="large", size=2 * SMALL_BYTES)
    (failed,) = ended(fleet, 1)
    assert isinstance(failed, RunFailed), failed
    words = failed.error_message
    assert f"too large for topic {topic.name!r}" in words and "Raise max.message.bytes" in words, words
    # Lanes send at once through shared producers: together their records are larger than the topic takes.
    data = [{"topic": topic.name, "key": f"{n}", "size": SMALL_BYTES // 2} for n in range(AT_ONCE)]
    assert fleet.api is not None
    assert ask(f"{fleet.api.url}/e/key", [{"name": "fleet/publish", "data": one} for one in data])[0] == 200
    assert sum(isinstance(end, RunCompleted) for end in ended(fleet, AT_ONCE + 1)) == AT_ONCE
    until("all records", lambda: len(topic.records()) >= AT_ONCE)
    assert {int(record.key or b"") for record in topic.records()} == set(range(AT_ONCE))
    assert not worker.facts("record not sent")
    assert not topic.records(group_topic(fleet.group, "dead-letters"))


@pytest.mark.parametrize("fleet", [1], indirect=True)
def test_a_record_that_its_topic_no_longer_takes_is_a_dead_letter_and_those_behind_it_are_sent(
    fleet: Fleet, kafka: Broker
) -> None:
    topic = Topic(kafka)
    fleet.door()
    worker = fleet.worker("a")
    fleet.send("fleet/publish", topic=topic.name, key="before", size=SMALL_BYTES // 2)
    until("the first record", lambda: [record.key for record in topic.records()] == [b"before"])
    topic.take(SMALL_BYTES // 4)  # The worker knows of the old limit, and takes the step for done.
    for key, size in (("large", SMALL_BYTES // 2), ("behind", 100)):
        fleet.send("fleet/publish", topic=topic.name, key=key, size=size)
    assert all(isinstance(end, RunCompleted) for end in ended(fleet, 3))
    until("what is behind", lambda: [record.key for record in topic.records()] == [b"before", b"behind"])
    (letter,) = until("the dead letter", lambda: topic.records(group_topic(fleet.group, "dead-letters")))
    assert (letter.key, letter.value) == (b"large", b"x" * (SMALL_BYTES // 2))
    assert len(worker.facts("record not sent")) == 1, "it is tried again for ever"
