"""A reader of one Kafka partition: the half that lives on the loop. What it reads is fetched by a ``Fetcher``'s thread.

    broker ─> librdkafka ─> the fetcher's thread ─ runs ─> the reader's buffer ─> read

A **run** is what one look at librdkafka gave of the partition. Each carries the reader's generation, which a seek
changes, so that what was fetched for the old position is dropped. A run without records moves the position over what
has none: holes of compaction, the markers of transactions. Everything has been read when the *position* is at the end.
A buffer is bounded: when it is full the thread fetches no more for it, and goes on once it is half empty.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from confluent_kafka import KafkaError

from millstream.errors import LogUnavailable, OffsetOutOfRange
from millstream.log.kafka.errors import mapped
from millstream.log.port import Record

ANSWER_S: Final = 10.0
"""How long a read that must not wait for new records waits for records known to be there."""

NOT_THERE: Final = frozenset((KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE))
"""Codes of errors about an offset that the partition does not have."""


class Run(NamedTuple):
    """Records in order, and the position behind them; or what went wrong there."""

    generation: int
    records: list[Record]
    size: int
    position: int
    error: KafkaError | None = None


class Buffer(NamedTuple):
    """The limit of unread records in a reader. One look may exceed it, by what it brings."""

    records_max: int = 20_000
    bytes_max: int = 16 << 20


BUFFER: Final = Buffer()


class Fetches(Protocol):
    """The half in a thread."""

    def seek(self, reader: KafkaReader) -> None: ...

    def drained(self, reader: KafkaReader) -> None: ...

    def close(self, reader: KafkaReader) -> None: ...


class Bounds(Protocol):
    """What readers need of their log."""

    def must_be_alive(self) -> None: ...

    async def start_offset(self, topic: str, partition: int) -> int: ...

    async def end_offset(self, topic: str, partition: int) -> int: ...


class KafkaReader:
    """Reads one partition. See the port's ``Reader``. ``fetches`` is set when it is opened."""

    def __init__(self, log: Bounds, topic: str, partition: int, offset: int, *, buffer: Buffer = BUFFER) -> None:
        self.position = offset
        self.topic = topic
        self.partition = partition
        self.generation = 0
        self.full = False  # Set by the thread, cleared by the loop.
        self.put_bytes = self.put_records = 0  # Only ever grow, by the thread …
        self.taken_bytes = self.taken_records = 0  # … and on the loop.
        self.runs: deque[Run] = deque()
        self.fetches: Fetches | None = None
        self.refusal: LogUnavailable | None = None
        self.closed = False
        self._log = log
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._at = 0  # How much of the first run has been read.
        self._arrival: asyncio.Future[None] | None = None

    @property
    def buffered_bytes(self) -> int:
        """Of values and keys, not read yet."""
        return self.put_bytes - self.taken_bytes

    @property
    def buffered_records(self) -> int:
        """Not read yet."""
        return self.put_records - self.taken_records

    @property
    def over_full(self) -> bool:
        """Whether its buffer is over the limit: fetch no more for it."""
        return self.buffered_bytes > self._buffer.bytes_max or self.buffered_records > self._buffer.records_max

    async def read(self, *, max_records: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """See the port. Also returns, with nothing, when the position moved over what has no record."""
        deadline = self._loop.time() + wait_s
        looked = False
        while True:
            self._must_go_on()
            before = self.position
            records = self._take(max_records, max_bytes)
            self._ask_for_more()
            if records or self.position != before:
                return records
            if self.runs:
                if self.runs[0].error is not None:
                    await self._fail(self.runs.popleft())
                continue  # Without an error it has come from the thread since we took what was there.
            if wait_s <= 0 and not looked:
                end = await self._log.end_offset(self.topic, self.partition)
                if self.position == end:
                    return ()
                if self.position > end and not self.runs:
                    await self._out_of_range()
                looked, deadline = True, self._loop.time() + ANSWER_S
                continue
            if not await self._wait(deadline):
                if looked:
                    raise LogUnavailable(
                        f"{self.topic}/{self.partition} gave nothing at offset {self.position} within {ANSWER_S:g} s, "
                        "though the brokers say that something is there. Look at the brokers."
                    )
                return ()

    def seek(self, offset: int) -> None:
        """Read from ``offset`` next."""
        self.position = offset
        self.generation += 1
        self._drop()
        if self.fetches is not None:
            self.fetches.seek(self)

    async def close(self) -> None:
        """See the port."""
        if not self.closed:
            self.closed = True
            self._drop()
            self.wake()
            if self.fetches is not None:
                self.fetches.close(self)

    def refuse(self, why: LogUnavailable) -> None:
        """Refuse all reads from now on, with this error."""
        self.refusal = why
        self.wake()

    def wake(self) -> None:
        """There is news."""
        arrival, self._arrival = self._arrival, None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)

    def _must_go_on(self) -> None:
        self._log.must_be_alive()
        if self.closed:
            raise LogUnavailable(f"this reader of {self.topic}/{self.partition} was closed; open a new one.")
        if self.refusal is not None:
            raise self.refusal

    def _drop(self) -> None:
        while self.runs:
            run = self.runs.popleft()
            self._count(run.records[self._at :])
            self._at = 0

    def _take(self, max_records: int, max_bytes: int) -> list[Record]:
        """What is buffered, within the limits; moves the position. Stops before an error."""
        runs, found, size = self.runs, list[Record](), 0
        is_shared = False  # Whether ``found`` is the list of a run, which other readers may read as well.
        while runs:
            run = runs[0]
            if run.generation != self.generation:
                self._count(run.records[self._at :])
            elif run.error is not None:
                return found
            elif not found and not self._at and len(run.records) <= max_records and run.size <= max_bytes:
                self._count(run.records)
                self.position = run.position
                found, size, is_shared = run.records, run.size, True
            else:
                if is_shared:  # Asked here: the thread may have put this run there just now.
                    found, is_shared = list(found), False
                if not self._some(run, found, max_records, max_bytes - size):
                    self.position = run.records[self._at].offset
                    return found
                self.position = run.position
                size = sum(map(_size, found))
            runs.popleft()
            self._at = 0
        return found

    def _some(self, run: Run, found: list[Record], max_records: int, room: int) -> bool:
        """Move records of a run into ``found`` while there is room; whether the whole run went."""
        records = run.records
        while self._at < len(records):
            if found and (len(found) >= max_records or room <= 0):
                return False
            record = records[self._at]
            found.append(record)
            room -= len(record.value or b"")
            self._at += 1
            self._count([record])
        return True

    def _count(self, records: list[Record]) -> None:
        self.taken_records += len(records)
        self.taken_bytes += sum(map(_size, records))

    def _ask_for_more(self) -> None:
        if not self.full or self.fetches is None:
            return
        records_max, bytes_max = self._buffer
        if self.buffered_bytes <= bytes_max // 2 and self.buffered_records <= records_max // 2:
            self.full = False
            self.fetches.drained(self)

    async def _wait(self, deadline: float) -> bool:
        """Wait for news; whether there is any."""
        if self.runs:
            return True
        arrival = self._arrival = self._loop.create_future()
        timer = self._loop.call_at(deadline, _give_up, arrival)
        try:
            await arrival
        finally:
            timer.cancel()
        return self._loop.time() < deadline

    async def _fail(self, run: Run) -> None:
        """What went wrong at the position; a position that is there after all is read from again."""
        if run.generation != self.generation:
            return
        assert run.error is not None
        if run.error.code() in NOT_THERE:
            await self._out_of_range()
            return
        raise mapped(run.error, f"{self.topic}/{self.partition} could not be read at offset {self.position}")

    async def _out_of_range(self) -> None:
        start = await self._log.start_offset(self.topic, self.partition)
        end = await self._log.end_offset(self.topic, self.partition)
        position = self.position
        self.seek(position)  # Whatever is decided: the library has stopped there.
        if start <= position <= end:
            return
        raise OffsetOutOfRange(
            f"{self.topic}/{self.partition} has no offset {position}: expected {start} to {end}. "
            + ("It was removed before it was read." if position < start else "It lies behind the end."),
            start=start,
            end=end,
        )


def _size(record: Record) -> int:
    return len(record.value or b"") + len(record.key or b"")


def _give_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
