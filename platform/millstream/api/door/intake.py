"""The way of accepted events into the events topic: the posts of one turn of the loop become one append a partition.

    posts ──add──> waiting (per partition) ──next turn──> append ──durable──> every post's future

While APPENDS_UNDER_WAY_MAX appends of a partition are under way, what arrives waits and is the next append: batches
grow with the load, without a timer. How much can wait is bounded by the door's budget of bytes.

An append whose outcome is unknown is answered as a failure: the client sends again with the same ids, and the lane
recognises what it has seen. The writer is replaced then, as its port demands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from millstream.errors import DiskFull, LogUnavailable, MillstreamError, StoreUnavailable
from millstream.log.port import Log, Produced, Writer

APPENDS_UNDER_WAY_MAX: Final = 2
APPEND_BYTES_MAX: Final = 4 * 1024 * 1024
APPEND_EVENTS_MAX: Final = 5_000

_log = logging.getLogger(__name__)


class Intake:
    """Appends events to the partitions of one topic."""

    def __init__(self, log: Log, topic: str, partitions: int, refuses: Callable[[], str] = lambda: "") -> None:
        """``refuses`` is asked before each post why nothing is to be taken in now."""
        self.partitions = partitions
        self._refuses = refuses
        self._log = log
        self._topic = topic
        self._queues: list[_PartitionQueue | None] = [None] * partitions

    async def store(self, batches: Mapping[int, Sequence[Produced]]) -> None:
        """Return when all records are durable in their partitions.

        Raises what the log raised if some are not: DiskFull, LogUnavailable, Busy. Others may be stored then. Raises
        StoreUnavailable, none stored, where the lanes take nothing in.
        """
        if why := self._refuses():
            raise StoreUnavailable(f"no event is taken in now: {why} Send it again in a while.")
        done = [self._queue(partition).add(records) for partition, records in batches.items()]
        if len(done) == 1:
            await done[0]
            return
        for outcome in await asyncio.gather(*done, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def close(self) -> None:
        """Forget what is under way."""
        for queue in self._queues:
            if queue is not None:
                await queue.close()

    def _queue(self, partition: int) -> _PartitionQueue:
        queue = self._queues[partition]
        if queue is None:
            queue = self._queues[partition] = _PartitionQueue(self._log, self._topic, partition)
        return queue


class _Waiting:
    """The records of one post for one partition."""

    __slots__ = ("done", "records", "size")

    def __init__(self, records: Sequence[Produced], done: asyncio.Future[None]) -> None:
        self.records = records
        self.done = done
        self.size = sum([len(record.value or b"") for record in records])


class _PartitionQueue:
    """The posts that wait for one partition, and its writer."""

    def __init__(self, log: Log, topic: str, partition: int) -> None:
        self._log = log
        self._place = (topic, partition)
        self._loop = asyncio.get_running_loop()
        self._writer: Writer = log.writer(topic, partition)
        self._waiting: list[_Waiting] = []
        self._due = False
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, records: Sequence[Produced]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(_Waiting(records, done))
        if not self._due:
            self._due = True
            self._loop.call_soon(self._flush)
        return done

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for post in self._waiting:
            post.done.cancel()
        await self._writer.close()

    def _flush(self) -> None:
        self._due = False
        while self._waiting and len(self._tasks) < APPENDS_UNDER_WAY_MAX:
            posts = self._next()
            task = self._loop.create_task(self._append(posts))
            self._tasks.add(task)
            task.add_done_callback(self._appended)

    def _appended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._waiting:
            self._flush()

    def _next(self) -> list[_Waiting]:
        """The posts of the next append: at least one, then as many as fit."""
        size = count = taken = 0
        for post in self._waiting:
            size += post.size
            count += len(post.records)
            if taken and (size > APPEND_BYTES_MAX or count > APPEND_EVENTS_MAX):
                break
            taken += 1
        posts, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return posts

    async def _append(self, posts: list[_Waiting]) -> None:
        writer = self._writer
        try:
            for records in _pieces(posts):
                await writer.append(records)  # An offset or None: stored either way.
        except BaseException as error:
            for post in posts:
                if not post.done.done():
                    if isinstance(error, Exception):
                        post.done.set_exception(error)
                    else:
                        post.done.cancel()
            if isinstance(error, LogUnavailable) and not isinstance(error, DiskFull):
                await self._replace(writer)
            elif not isinstance(error, MillstreamError):
                raise  # Not of the log: a bug, and the task's to report.
            return
        for post in posts:
            if not post.done.done():  # The client may have gone away.
                post.done.set_result(None)

    async def _replace(self, writer: Writer) -> None:
        """A writer with an unknown outcome takes no more; neither may one that could not be replaced at once."""
        if self._writer is writer:
            self._writer = self._log.writer(*self._place)
            _log.warning("events writer replaced topic=%s partition=%d", *self._place)
            await writer.close()


def _pieces(posts: list[_Waiting]) -> list[Sequence[Produced]]:
    """What to append, in order: one piece as a rule; one large post is cut."""
    if len(posts) > 1:
        return [[record for post in posts for record in post.records]]
    post = posts[0]
    if post.size <= APPEND_BYTES_MAX:
        return [post.records]
    pieces: list[list[Produced]] = [[]]
    size = 0
    for record in post.records:
        size += len(record.value or b"")
        if pieces[-1] and size > APPEND_BYTES_MAX:
            pieces.append([])
            size = len(record.value or b"")
        pieces[-1].append(record)
    return list(pieces)
