"""What shape topics have, as the brokers say: found, remembered, made; and where their partitions begin and end.

A shape is asked for once and remembered, because writers and readers are made without waiting; a partition that is not
known is asked for again, since topics grow. Only then, and for at most ``LOOK_S``, the caller waits for a broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

from millstream.errors import ConfigError, LogUnavailable
from millstream.log.kafka.admin.wants import Safety, made_with
from millstream.log.kafka.errors import error_of, mapped, message_of
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import TopicKind, TopicSpec

LOOK_S: Final = 5.0
MADE_WITHIN_S: Final = 30.0
ASK_AGAIN_S: Final = 0.02
ASKED_FOR_S: Final = 10.0
"""How long a question is asked again while a partition has no leader: it moves, or was made just now."""
ANSWERED_WITHIN_S: Final = 1.0
"""How long a question waits for its answer at first; half as long again whenever that was not enough. Left alone the
library gives a broker that has died ten seconds and asks nobody else meanwhile (measured: the ends of a partition were
told 20 to 40 s after its leader had died, though it had another after 10)."""
LONGER: Final = 1.5
MOVING: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TIMED_OUT,
    }
)
NONE_AT_THAT_TIME: Final = -1
RECORD_MARGIN_BYTES: Final = 1_024
"""What the brokers count of a batch besides its records, and more; a quarter where a topic takes little."""

PartitionKey = tuple[str, int]


class Shape(NamedTuple):
    """A topic as it is. ``record_bytes_max``: the most one record may have; ``identity`` tells it from a later one."""

    spec: TopicSpec
    record_bytes_max: int
    identity: str = ""


def reads_committed(topic: str) -> bool:
    """Whether readers of a topic pass over what belongs to transactions that are open or were aborted.

    Journals and inboxes have none, and their end is where the next append goes.
    """
    return not topic.endswith((".journal", ".inbox"))


class Shapes:
    """Topics, through one admin client.

    Another client takes its place when it asks the wrong brokers. Whoever awaits an answer holds the client that was
    asked: one that is dropped never answers, nor says that it will not.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.admin = AdminClient(settings.admin())
        self._settings = settings
        self._known: dict[str, Shape] = {}

    def find(self, topic: str, partition: int) -> Shape:
        """The topic of an existing partition. Raises ConfigError, or LogUnavailable when no broker answers."""
        shape = self._known.get(topic)
        if shape is None or partition >= shape.spec.partitions:
            described, configured = self._ask(topic, self.admin)
            try:
                shape = self._learn(topic, described.result(LOOK_S), configured.result(LOOK_S))
            except TooLate as late:
                raise LogUnavailable(f"no broker said within {LOOK_S:g} s what topic {topic!r} is") from late
            except KafkaException as error:
                if error_of(error).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise mapped(error, f"topic {topic!r} could not be looked up") from error
        if shape is None or not 0 <= partition < shape.spec.partitions:
            raise ConfigError(f"there is no topic {topic!r} with a partition {partition}. Run millstream topics apply.")
        return shape

    async def look(self, topic: str) -> Shape | None:
        """The topic as it is now, or None."""
        asked = self.admin
        described, configured = self._ask(topic, asked)
        try:
            return self._learn(topic, await asyncio.wrap_future(described), await asyncio.wrap_future(configured))
        except KafkaException as error:
            if error_of(error).code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                self._known.pop(topic, None)
                return None
            raise mapped(error, f"topic {topic!r} could not be looked up") from error

    async def create(self, specs: Sequence[TopicSpec]) -> None:
        """Make what is missing; nothing is made when one of them exists with another shape."""
        shapes = await asyncio.gather(*(self.look(spec.name) for spec in specs))
        for spec, shape in zip(specs, shapes, strict=True):
            if shape is not None and shape.spec != spec:
                raise ConfigError(
                    f"topic {spec.name!r} exists with another shape: expected {spec}, got {shape.spec}. Change the "
                    "topic or the setting; millstream topics plan shows what differs."
                )
        missing = [spec for spec, shape in zip(specs, shapes, strict=True) if shape is None]
        if not missing:
            return
        admin = self.admin
        made = admin.create_topics([self._new(spec) for spec in missing])
        for name, future in made.items():
            try:
                await asyncio.wrap_future(future)
            except KafkaException as error:
                if error_of(error).code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    continue  # Another process was quicker.
                raise ConfigError(message_of(error, f"topic {name!r} could not be made")) from error
        async with asyncio.timeout(MADE_WITHIN_S):
            for spec in missing:
                while await self.look(spec.name) is None:  # noqa: ASYNC110 - all brokers have to hear of it
                    await asyncio.sleep(ASK_AGAIN_S)

    async def offset(self, topic: str, partition: int, where: OffsetSpec, *, committed: bool = False) -> int:
        """The offset of a partition at its start, its end, or a time; -1: there is none at that time."""
        return (await self.offsets([(topic, partition)], where, committed=committed))[topic, partition]

    async def offsets(
        self, partitions: Collection[PartitionKey], where: OffsetSpec, *, committed: bool = False
    ) -> Mapping[PartitionKey, int]:
        """The same of several partitions at once."""
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        found: dict[PartitionKey, int] = {}

        async def ask(within_s: float) -> None:
            admin, asked = self.admin, {TopicPartition(*key): where for key in partitions if key not in found}
            answers = admin.list_offsets(asked, isolation_level=level, request_timeout=within_s)
            for place, future in answers.items():
                offset = (await asyncio.wrap_future(future)).offset
                if offset < NONE_AT_THAT_TIME:  # Seen while leaders change: an answer without an error or an offset.
                    raise KafkaException(KafkaError(KafkaError.OFFSET_NOT_AVAILABLE))
                found[place.topic, place.partition] = offset

        try:
            await self._again(ask, {topic for topic, _ in partitions})
        except KafkaException as error:
            names = ", ".join(f"{topic}/{partition}" for topic, partition in partitions)
            raise mapped(error, f"{names} did not say where it begins and ends") from error
        return found

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Remove the records below an offset; at most up to the end."""
        try:
            await self._again(partial(self._delete, topic, partition, offset), {topic})
        except KafkaException as error:
            if error_of(error).code() != KafkaError.OFFSET_OUT_OF_RANGE:
                raise mapped(error, f"{topic}/{partition} was not trimmed") from error
            end = await self.offset(topic, partition, OffsetSpec.latest())
            if offset > end:
                await self.delete_before(topic, partition, end)

    async def _delete(self, topic: str, partition: int, offset: int, within_s: float) -> None:
        admin, below = self.admin, [TopicPartition(topic, partition, offset)]
        for future in admin.delete_records(below, request_timeout=within_s).values():
            await asyncio.wrap_future(future)

    async def _again(self, ask: Callable[[float], Awaitable[None]], topics: Collection[str]) -> None:
        """Ask again, ever more slowly, while the answer is that the partition has no leader yet, or another one.

        ``ask`` is told how long an answer may take.

        The library asks whom it remembers, for ever: after an answer of that kind it has to be told to look again.
        """
        loop, wait_s, within_s = asyncio.get_running_loop(), ASK_AGAIN_S, ANSWERED_WITHIN_S
        until = loop.time() + ASKED_FOR_S
        while True:
            try:
                asked_s = loop.time()
                await ask(within_s)
                return
            except KafkaException as error:
                if error_of(error).code() not in MOVING or loop.time() > until:
                    raise
            if loop.time() - asked_s >= within_s:
                within_s *= LONGER
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 1.0)
            await self._forget_leaders(topics, from_scratch=wait_s >= 1.0)

    async def _forget_leaders(self, topics: Collection[str], *, from_scratch: bool) -> None:
        """Have the admin client look up the leaders of these topics again; ``from_scratch``: with a new client."""
        if from_scratch:
            self.admin = AdminClient(self._settings.admin())
            return
        for topic in topics:
            with suppress(KafkaException):
                await asyncio.to_thread(self.admin.list_topics, topic, LOOK_S)

    def _ask(self, topic: str, admin: AdminClient) -> tuple[Future[Any], Future[Any]]:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        described = admin.describe_topics(TopicCollection([topic]))[topic]
        return described, admin.describe_configs([resource])[resource]

    def _learn(self, topic: str, described: Any, configured: Any) -> Shape:
        def value(name: str, otherwise: str) -> str:
            found = configured.get(name)
            return otherwise if found is None or found.value is None else str(found.value)

        compacted = "compact" in value("cleanup.policy", "delete")
        kept_ms = int(value("retention.ms", "-1"))
        most = int(value("max.message.bytes", "1048588"))
        record_bytes_max = most - min(RECORD_MARGIN_BYTES, most // 4)
        spec = TopicSpec(
            topic,
            len(described.partitions),
            TopicKind.COMPACTED if compacted else TopicKind.STREAM,
            -1 if compacted else kept_ms,
            record_bytes_max,
        )
        shape = self._known[topic] = Shape(spec, record_bytes_max, str(described.topic_id))
        return shape

    def _new(self, spec: TopicSpec) -> NewTopic:
        settings = self._settings
        role = spec.name.rpartition(".")[2]
        config = made_with(role, spec, Safety(settings.replication_factor, settings.min_insync))
        return NewTopic(
            spec.name,
            num_partitions=spec.partitions,
            replication_factor=settings.replication_factor,
            config=dict(config),
        )
