"""The two ends of an embedded partition that callers hold: its writer and its reader.

Both live on the loop. The writer hands over and counts what is under way. The reader takes from memory what is
there, from the file what is not, and at the end waits for the acknowledgement of the next append.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from millstream.errors import LogUnavailable
from millstream.log.embedded.file import Window
from millstream.log.embedded.partition import Partition
from millstream.log.embedded.writer import AppendOwner
from millstream.log.port import Produced, Record

TAIL_WAITERS_PRUNED_AT = 64


class Appending(Protocol):
    """What the writer needs of its log."""

    def append(
        self, partition: Partition, records: Sequence[Produced], owner: AppendOwner
    ) -> asyncio.Future[int | None]: ...


class Reading(Protocol):
    """What the reader needs of its log."""

    async def read_from_file(self, partition: Partition, window: Window) -> tuple[list[Record], int]: ...

    async def refresh(self, partition: Partition) -> None: ...

    def watch(self) -> None: ...

    @property
    def closed(self) -> bool: ...


class EmbeddedWriter:
    """Appends to one partition. See the port's ``Writer``; acknowledged means synced (or written: durability os)."""

    __slots__ = ("_log", "_owner", "_partition")

    def __init__(self, log: Appending, partition: Partition) -> None:
        self._log = log
        self._partition = partition
        self._owner = AppendOwner()

    def append(self, records: Sequence[Produced]) -> asyncio.Future[int | None]:
        """See the port. Takes a few µs of the loop; ``records`` must not be changed afterwards."""
        if self._owner.closed:
            raise LogUnavailable("this writer was closed; nothing was written. Open a new one.")
        return self._log.append(self._partition, records, self._owner)

    async def close(self) -> None:
        """See the port: what the writer thread has not taken yet is refused, what it has is awaited."""
        self._owner.closed = True
        if self._owner.pending:
            self._owner.idle = asyncio.get_running_loop().create_future()
            await self._owner.idle


class EmbeddedReader:
    """Reads one partition. See the port's ``Reader``."""

    __slots__ = ("_closed", "_log", "_partition", "position")

    def __init__(self, log: Reading, partition: Partition, offset: int) -> None:
        self.position = offset
        self._log = log
        self._partition = partition
        self._closed = False
        partition.readers += 1

    def seek(self, offset: int) -> None:
        """Read from ``offset`` next."""
        self.position = offset

    async def read(self, *, max_records: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """See the port. Does not suspend when memory holds the records."""
        records = await self._read_now(max_records, max_bytes)
        if records or wait_s <= 0:
            return records
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while not records and loop.time() < deadline:
            await self._wait(loop, deadline)
            records = await self._read_now(max_records, max_bytes)
        return records

    async def _read_now(self, max_records: int, max_bytes: int) -> Sequence[Record]:
        """What there is, perhaps nothing; passes over holes."""
        partition = self._partition
        if self._log.closed:
            raise LogUnavailable("the log was closed while it was being read")
        if self.position >= partition.end:
            await self._log.refresh(partition)
        if not partition.start <= self.position <= partition.end:
            raise partition.place.out_of_range(self.position, partition.start, partition.end)
        if self.position == partition.end:
            return ()
        records = partition.tail.read(self.position, max_records, max_bytes)
        if records:
            self.position = records[-1].offset + 1
            return records
        begin = self.position
        window = Window(begin, partition.end, max_records, max_bytes)
        records, position = await self._log.read_from_file(partition, window)
        if self.position == begin:  # Unless somebody has called seek meanwhile.
            self.position = position
        return records

    async def _wait(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        partition = self._partition
        moved: asyncio.Future[None] = loop.create_future()
        if len(partition.waiting) >= TAIL_WAITERS_PRUNED_AT:
            partition.awaited()
        partition.waiting.append(moved)
        self._log.watch()
        timer = loop.call_at(deadline, _give_up, moved)
        try:
            await moved
        finally:
            timer.cancel()

    async def close(self) -> None:
        """See the port. With the last reader the partition's records in memory go."""
        if not self._closed:
            self._closed = True
            self._partition.readers -= 1
            if self._partition.readers == 0:
                self._partition.tail.drop_to(0)


def _give_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
