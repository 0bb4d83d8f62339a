"""Reads of the embedded log's file that must not hold up the loop, and the watch over a file another process writes.

``run`` gives each of a few threads its own connection. In a process that only reads, ``wait`` starts a task that
asks SQLite's change counter every ``FOLLOW_EVERY_S``, for as long as somebody waits, and wakes them when it moved.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from millstream.errors import LogUnavailable
from millstream.log.embedded.file import bounds, connect, explain
from millstream.log.embedded.partition import Partition

READ_THREADS = 2
FOLLOW_EVERY_S = 0.01

_T = TypeVar("_T")


class SqliteReads:
    """Threads and connections for reading."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="millstream-log-read")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False

    async def run(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``action`` with a connection, in a thread; SQLite's errors become the operator's."""
        if self._closed:
            raise LogUnavailable(f"the log in {self._directory} was closed")
        try:
            return await self._loop.run_in_executor(self._threads, lambda: action(self._connection()))
        except sqlite3.Error as error:
            raise explain(error, self._directory) from error

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = connect(self._directory, query_only=True)
            self._connections.append(found)
        return found

    def close(self) -> None:
        """End the threads and their connections."""
        self._closed = True
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()


class Follower:
    """Watches a file that another process writes, while readers wait for it."""

    def __init__(self, directory: Path, reads: SqliteReads, partitions: Iterable[Partition]) -> None:
        """``partitions`` is looked through at every change: a view of the log's own table."""
        self._connection = connect(directory, query_only=True)
        self._reads = reads
        self._partitions = partitions
        self._task: asyncio.Task[None] | None = None

    def wait(self) -> None:
        """Watch the file while a reader waits."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch(), name="millstream-log-follow")

    async def refresh(self, partition: Partition) -> None:
        """Learn the partition's bounds from the file; wakes its readers if they moved."""
        start, end = await self._reads.run(lambda connection: bounds(connection, partition.place))
        if (start, end) != (partition.start, partition.end):
            partition.moved(start, end)

    async def _watch(self) -> None:
        seen = -1  # Something may have changed since the last time anybody waited.
        while waited_for := [partition for partition in self._partitions if partition.awaited()]:
            # One counter in shared memory, a few µs: cheaper than a hand-over to a thread.
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if version != seen:
                seen = version
                for partition in waited_for:
                    await self.refresh(partition)
            await asyncio.sleep(FOLLOW_EVERY_S)

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._connection.close()
