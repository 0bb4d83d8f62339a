"""Readers over brokers in memory: the fetchers, their threads and the readers are the product's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

from millstream.log.kafka.reading.fetch import ALONE_MAX, Pool
from millstream.log.kafka.reading.readers import BUFFER, Buffer, KafkaReader
from millstream.log.port import Record
from tests.log.fake_brokers import Brokers, Consumer

SOON_S = 10.0
"""Longer than anything here takes; waiting it out is a failure."""
EVENTS = "events"
FEW = Buffer(records_max=10)


class Stage:
    """A pool over brokers in memory, and readers that it feeds."""

    def __init__(self, alone_max: int) -> None:
        self.brokers = Brokers()
        self.pool = Pool(self.brokers.make, asyncio.get_running_loop(), alone_max=alone_max)
        self.readers: list[KafkaReader] = []

    def reader(
        self, offset: int = 0, *, topic: str = EVENTS, partition: int = 0, buffer: Buffer = BUFFER
    ) -> KafkaReader:
        """A reader that has been opened."""
        reader = KafkaReader(self.brokers, topic, partition, offset, buffer=buffer)
        self.readers.append(reader)
        self.pool.open(reader)
        return reader

    async def follower(self, offset: int = 0, **more: Any) -> KafkaReader:
        """A reader that has reached the end and reads from the consumer that all followers share."""
        reader = self.reader(offset, **more)
        key = (reader.topic, reader.partition)
        await until(lambda: any(not consumer.alone and key in consumer.assigned for consumer in self.brokers.consumers))
        return reader

    def log(self) -> Any:
        """Of a log, what a fold asks for."""
        return SimpleNamespace(
            reader=lambda topic, partition, offset: self.reader(offset, topic=topic, partition=partition)
        )

    @property
    def shared(self) -> Consumer:
        """The consumer of the followers."""
        (consumer,) = (consumer for consumer in self.brokers.consumers if not consumer.alone)
        return consumer


@contextlib.asynccontextmanager
async def stage(alone_max: int = ALONE_MAX) -> AsyncIterator[Stage]:
    """A stage whose threads have ended afterwards, and with them their consumers."""
    made = Stage(alone_max)
    try:
        yield made
    finally:
        fetchers = made.pool.stop()
        await until(lambda: not any(fetcher.thread.is_alive() for fetcher in fetchers))
        assert all(consumer.is_closed for consumer in made.brokers.consumers)


async def read_upto(reader: KafkaReader, end: int, max_records: int = 1_000) -> list[Record]:
    """Everything up to an offset."""
    records: list[Record] = []
    async with asyncio.timeout(SOON_S):
        while reader.position < end:
            before = reader.position
            page = await reader.read(max_records=max_records, max_bytes=1 << 20, wait_s=1.0)
            assert all(before <= record.offset < reader.position for record in page)
            records += page
    return records


async def offsets_upto(reader: KafkaReader, end: int) -> list[int]:
    """The offsets of everything up to an offset."""
    return [record.offset for record in await read_upto(reader, end)]


async def read_once(reader: KafkaReader, wait_s: float = SOON_S) -> list[Record]:
    """What is there, or comes."""
    return list(await reader.read(max_records=1_000, max_bytes=1 << 20, wait_s=wait_s))


async def until(what: Callable[[], object]) -> None:
    """Wait until it is true."""
    async with asyncio.timeout(SOON_S):
        while not what():  # noqa: ASYNC110 - a thread tells nobody
            await asyncio.sleep(0.002)
