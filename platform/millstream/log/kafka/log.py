"""The log on Apache Kafka, with confluent-kafka. The words of the port are Kafka's own; here they meet librdkafka.

    settings.py            what each client is told, and why        errors.py   what librdkafka's errors mean
    admin/shapes.py        topics: found, made, trimmed; where partitions begin and end
    writers.py             appends: producers that are shared, one call to the loop for a burst of reports
    reading/               threads fetch, readers buffer
    group.py               membership, and reading as a member
    transactions.py        checkpoints

Rules kept here: the loop never waits for a broker (but once for each topic, see ``admin/shapes.py``); nothing is
answered that a broker has not said; a callback of librdkafka runs in one of our threads and does next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, Final

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import OffsetSpec

from millstream.errors import Busy, LimitExceeded, LogUnavailable
from millstream.log.kafka.admin.client import Admin
from millstream.log.kafka.admin.shapes import Shape, Shapes, reads_committed
from millstream.log.kafka.errors import Complaints
from millstream.log.kafka.group import KafkaMembership
from millstream.log.kafka.reading.fetch import CLOSED_WITHIN_S, Pool
from millstream.log.kafka.reading.readers import KafkaReader
from millstream.log.kafka.settings import BATCH_BYTES, KafkaSettings
from millstream.log.kafka.transactions import KafkaTransaction, Transactions
from millstream.log.kafka.writers import KafkaWriter, SharedProducer, SharedProducers
from millstream.log.port import Produced, TopicKind, TopicSpec
from millstream.log.records import size_of

WAITING_BYTES_MAX: Final = 64 << 20
BATCH_BYTES_MAX: Final = 16 << 20
BLOCKING_THREADS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaOptions:
    """What is not about the brokers.

    ``name``               this process's own, the same after a restart: its transactions are known by it.
    ``producers``          for journals and inboxes; a lane sticks to one, and shares its failures.
    ``waiting_bytes_max``  of appends that are not acknowledged; more are refused as Busy.
    ``watchdog_s``         an append that nobody answers for so long has an unknown outcome.
    """

    name: str = "millstream"
    producers: int = 2
    waiting_bytes_max: int = WAITING_BYTES_MAX
    watchdog_s: float = 15.0


class KafkaLog:
    """A ``Log`` on Kafka. Make it with ``await KafkaLog.open(settings)``."""

    def __init__(self, settings: KafkaSettings, options: KafkaOptions) -> None:
        """Use ``open``."""
        self.shapes = Shapes(settings)
        self.member: KafkaMembership | None = None
        self.blocking: Executor = ThreadPoolExecutor(BLOCKING_THREADS, "millstream-kafka")
        self._settings = settings
        self._options = options
        self._loop = loop = asyncio.get_running_loop()
        self._waiting_bytes = 0
        self._closed = False

        def shared_producer(config: dict[str, Any]) -> SharedProducer:
            return SharedProducer({**config, "error_cb": Complaints("a producer").take}, loop, options.watchdog_s)

        self._lane_producers = SharedProducers(lambda: shared_producer(settings.lane_producer()), options.producers)
        self._stream_producers = SharedProducers(lambda: shared_producer(settings.stream_producer()), 1)
        self._small_producers = SharedProducers(lambda: shared_producer(settings.small_producer()), 1)
        self._transactions = Transactions(
            self,
            settings.member_id(options.name),
            lambda name: Producer(settings.transactional_producer(name)),
        )
        self._pools = {committed: Pool(partial(_reading, settings, committed), loop) for committed in (True, False)}
        self._readers: list[KafkaReader] = []

    @classmethod
    async def open(cls, settings: KafkaSettings, options: KafkaOptions | None = None) -> KafkaLog:
        """Reach the brokers. Raises BrokersUnreachable when none answers, ConfigError when none lets us in."""
        await asyncio.to_thread(lambda: Admin(settings).cluster())
        return cls(settings, options or KafkaOptions())

    # --- topics ---------------------------------------------------------------------------------

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """See the port."""
        self.must_be_alive()
        await self.shapes.create(specs)

    async def topic(self, name: str) -> TopicSpec | None:
        """See the port. Asks the brokers each time."""
        shape = await self.look(name)
        return shape.spec if shape is not None else None

    async def look(self, name: str) -> Shape | None:
        """The topic as it is now, with what Kafka says beyond the port."""
        self.must_be_alive()
        return await self.shapes.look(name)

    def find(self, topic: str, partition: int) -> Shape:
        """The shape of a topic that has this partition. Raises ConfigError when there is none."""
        return self.shapes.find(topic, partition)

    # --- reading and writing --------------------------------------------------------------------

    def writer(self, topic: str, partition: int) -> KafkaWriter:
        """See the port."""
        shape = self.find(topic, partition)
        many = shape.spec.kind is TopicKind.STREAM and shape.spec.retention_ms >= 0
        producers = self._stream_producers if many else self._lane_producers
        if shape.record_bytes_max < BATCH_BYTES:
            producers = self._small_producers
        return KafkaWriter(self, producers, shape, partition)

    def reader(self, topic: str, partition: int, offset: int) -> KafkaReader:
        """See the port."""
        self.find(topic, partition)
        reader = KafkaReader(self, topic, partition, offset)
        self._readers = [*(other for other in self._readers if not other.closed), reader]
        self._pools[reads_committed(topic)].open(reader)
        return reader

    async def start_offset(self, topic: str, partition: int) -> int:
        """See the port."""
        self.must_be_alive()
        return await self.shapes.offset(topic, partition, OffsetSpec.earliest())

    async def end_offset(self, topic: str, partition: int) -> int:
        """See the port. Of a topic that is read committed: where the first open transaction begins."""
        self.must_be_alive()
        return await self.shapes.offset(topic, partition, OffsetSpec.latest(), committed=reads_committed(topic))

    async def topic_identity(self, name: str) -> str:
        """See the port."""
        self.must_be_alive()
        shape = await self.shapes.look(name)
        return "" if shape is None else shape.identity

    async def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        """See the port."""
        self.must_be_alive()
        found = await self.shapes.offset(topic, partition, OffsetSpec.for_timestamp(at_ms))
        return found if found >= 0 else await self.end_offset(topic, partition)

    async def trim(self, topic: str, partition: int, before_offset: int) -> None:
        """See the port."""
        self.must_be_alive()
        if self.find(topic, partition).spec.kind is not TopicKind.STREAM:
            raise ValueError(f"topic {topic!r} is compacted: write tombstones instead of trimming it")
        await self.shapes.delete_before(topic, partition, before_offset)

    async def transaction(self, name: str) -> KafkaTransaction:
        """See the port. Names share one producer, so one waits for another's end."""
        self.must_be_alive()
        return await self._transactions.begin(name)

    def membership(self, group: str, lanes: int) -> KafkaMembership:
        """See the port. The last one made is the one whose transactions count."""
        self.member = KafkaMembership(self, group, lanes)
        return self.member

    def member_consumer(self, group: str) -> Consumer:
        """A consumer that is to be a member of a group."""
        return Consumer(
            {**self._settings.member(group, self._options.name), "error_cb": Complaints("the group's member").take}
        )

    async def close(self) -> None:
        """Leave the group, wait a little for what is under way, and refuse everything from now on."""
        if self._closed:
            return
        if self.member is not None:
            await self.member.leave()
        await self._transactions.close()
        producers = [
            *self._lane_producers.all(), *self._stream_producers.all(), *self._small_producers.all(),
        ]  # fmt: skip
        await asyncio.gather(*(producer.drain(self._options.watchdog_s) for producer in producers))
        self._closed = True
        for producer in producers:
            producer.give_up()
        fetchers = [fetcher for pool in self._pools.values() for fetcher in pool.stop()]
        for reader in self._readers:
            reader.wake()
        threads = [*(fetcher.thread for fetcher in fetchers), *(producer.thread for producer in producers)]
        await self._loop.run_in_executor(self.blocking, partial(_wait_for, threads, CLOSED_WITHIN_S))
        self.blocking.shutdown(wait=False)

    # --- for the ends ---------------------------------------------------------------------------

    def must_be_alive(self) -> None:
        """Raise LogUnavailable once the log is closed."""
        if self._closed:
            raise LogUnavailable("this log was closed; nothing was done")

    def take(self, records: Sequence[Produced]) -> int:
        """Count records in as waiting; Busy or LimitExceeded when that is too much."""
        size = size_of(records)
        most = self._options.waiting_bytes_max
        if size > min(BATCH_BYTES_MAX, most):
            raise LimitExceeded(
                f"an append of {size} bytes is too large: at most {min(BATCH_BYTES_MAX, most)} are taken at once"
            )
        if self._waiting_bytes + size > most:
            raise Busy(
                f"the log has {self._waiting_bytes} bytes waiting, at most {most} may. "
                "Nothing was written; try again in a moment."
            )
        self._waiting_bytes += size
        return size

    def give_back(self, size: int) -> None:
        """Records that waited have their outcome."""
        self._waiting_bytes -= size


def _reading(settings: KafkaSettings, committed: bool, alone: bool) -> Consumer:
    return Consumer(settings.reader(committed=committed, bulk=alone))


def _wait_for(threads: Sequence[Thread], longest_s: float) -> None:
    until = time.monotonic() + longest_s
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
