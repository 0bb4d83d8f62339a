"""The log on one machine: SQLite beneath, one writing process, any number of readers.

Who does what:

    log.py                 the port's ``Log``: opening, handing over, applying what was committed (this file)
    ends.py                what callers hold of a partition: its writer, its reader
    group.py               membership and transactions: one process owns every lane while it holds the lock
    writer.py              the one thread that writes: group commit, one sync per commit, one call to the loop
    jobs.py                its other work, in steps: compacted topics, trims, retention, shrinking the file
    topics.py              topics and partitions, found and made · partition.py: one partition in memory
    reads.py               reading threads; following a file that another process writes
    file.py                schema, connections, lock, snapshot reads with checksums · verify.py: every row
    mark.py                what the log must contain, beside it · evidence.py: compared at the start
    tail.py                the newest records in memory · packing.py: records of one append as one blob

Rules kept here: the loop never waits for a disk; a read never shows what is not acknowledged; a reader at the end
wakes with the acknowledgement, without polling. With ``readonly`` another process writes: there is no lock and no
writer, and changes are looked for only while somebody waits.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from millstream.errors import Busy, ConfigError, LimitExceeded, LogUnavailable
from millstream.files import private_database, private_directory
from millstream.log.embedded.ends import EmbeddedReader, EmbeddedWriter
from millstream.log.embedded.evidence import examine
from millstream.log.embedded.file import FILE_NAME, UNREADABLE, Window, connect, explain, offset_at, read, unreadable
from millstream.log.embedded.group import EmbeddedMembership, EmbeddedTransaction
from millstream.log.embedded.jobs import InboxPositions, Job, Once, Stage, Trim
from millstream.log.embedded.mark import Mark
from millstream.log.embedded.partition import Partition
from millstream.log.embedded.reads import Follower, SqliteReads
from millstream.log.embedded.tail import TAIL_BYTES_MAX
from millstream.log.embedded.topics import Topics
from millstream.log.embedded.writer import Append, AppendOwner, Report, SqliteWriter, WriterSettings
from millstream.log.port import Produced, Record, TopicKind, TopicSpec
from millstream.log.records import check_shape, size_of
from millstream.losses import Losses
from millstream.process_handles import lock, unlock

WAITING_BYTES_MAX = 64 << 20
BATCH_BYTES_MAX = 16 << 20

_T = TypeVar("_T")


def exit_at_once(reason: str) -> None:
    """The default ``on_fatal``: say why and end the process (lanes.md rule 17), exit code 70."""
    sys.stderr.write(f"millstream: {reason}\n")
    sys.stderr.flush()
    os._exit(70)


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedOptions:
    """What tests and unusual machines change. ``on_fatal`` is called on the writer thread."""

    on_fatal: Callable[[str], None] = exit_at_once
    now_ms: Callable[[], int] = _clock_ms
    waiting_bytes_max: int = WAITING_BYTES_MAX
    tail_bytes_max: int = TAIL_BYTES_MAX
    disk_pages_max: int | None = None

    def __post_init__(self) -> None:
        if self.waiting_bytes_max < 1:
            raise ValueError(f"waiting_bytes_max must be positive, got {self.waiting_bytes_max}")


class EmbeddedLog:
    """A ``Log`` in a directory. Make it with ``await EmbeddedLog.open(directory)``."""

    def __init__(self, directory: Path, options: EmbeddedOptions, lock_handle: int | None) -> None:
        """Use ``open``."""
        self.member: EmbeddedMembership | None = None
        self.vouched_for = False
        """Whether a whole mark said that nothing is missing."""
        self._directory = directory
        self._options = options
        self._lock_handle = lock_handle
        self._loop = asyncio.get_running_loop()
        self._topics = Topics(directory, options.tail_bytes_max)
        self._reads = SqliteReads(directory)
        self._writer: SqliteWriter | None = None
        self._follower: Follower | None = None
        self._transactions: dict[str, EmbeddedTransaction] = {}
        self._waiting_bytes = 0
        self._closed = False

    @classmethod
    async def open(
        cls,
        directory: Path | str,
        *,
        durability: str = "fsync",
        readonly: bool = False,
        losses: Losses | None = None,
        options: EmbeddedOptions | None = None,
    ) -> EmbeddedLog:
        """Open the log, making the directory if it is new (not with ``readonly``).

        ``durability``: ``fsync`` survives power cuts; ``os`` survives only the death of the process. ``losses``
        decides where the log holds less than it must: None refuses. Raises AcknowledgedLost then, LogLocked when
        another process writes it, Corruption when the file or a partition's last batches are damaged, ConfigError
        when there is nothing to read or its format is newer.
        """
        if durability not in ("fsync", "os"):
            raise ConfigError(f"durability must be 'fsync' or 'os', got {durability!r}")
        path = Path(directory).absolute()  # Also where user code changes the working directory.
        if readonly and not (path / FILE_NAME).exists():
            raise ConfigError(
                f"there is no log in {path}. Start `millstream dev` there first, or name another directory."
            )
        handle = None
        if not readonly:
            private_directory(path)
            handle = lock(path, "the log")
            private_database(path / FILE_NAME)
        log = cls(path, options or EmbeddedOptions(), handle)
        try:
            if readonly:
                await log._reads.run(log._topics.learn)
                log._follower = Follower(path, log._reads, log._topics.partitions.values())
            else:
                await log._start_writer(durability, losses or Losses())
        except BaseException:
            log._release()
            raise
        return log

    async def _start_writer(self, durability: str, losses: Losses) -> None:
        chosen = self._options
        settings = WriterSettings(self._directory, durability, chosen.now_ms, chosen.on_fatal, chosen.disk_pages_max)
        connection, mark, unfinished = await asyncio.to_thread(self._load, durability, losses)
        self._writer = SqliteWriter(settings, (connection, mark), list(self._topics.partitions.values()), self._apply)
        self._writer.resume(unfinished)

    def _load(self, durability: str, losses: Losses) -> tuple[sqlite3.Connection, Mark, list[Job]]:
        connection: sqlite3.Connection | None = None
        try:
            self.vouched_for = examine(self._directory, losses)
            connection = connect(self._directory, durability=durability)
            unfinished = self._topics.load(connection)
            mark = Mark(self._directory, self._topics.identity, durability, self._topics.partitions.values())
            return connection, mark, unfinished
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise explain(error, self._directory) from error
            if isinstance(error, UNREADABLE):
                raise unreadable(self._directory, error) from error
            raise

    @property
    def identity(self) -> str:
        """What tells this log from every other, as text."""
        return self._topics.identity.hex()

    @property
    def specs(self) -> Mapping[str, TopicSpec]:
        """All topics that are known here, by name."""
        return self._topics.specs

    @property
    def closed(self) -> bool:
        """True once ``close`` was called."""
        return self._closed

    @property
    def alive(self) -> bool:
        """True while this process may write: the lock is held and the disk has not failed."""
        return not self._closed and self._writer is not None and self._writer.dead is None

    @property
    def commits(self) -> int:
        """How many transactions were committed since opening, for measurements."""
        return 0 if self._writer is None else self._writer.commits

    # --- topics -------------------------------------------------------------------------------

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """See the port. All of the missing ones are made in one transaction."""
        missing = self._topics.missing(specs)
        if not missing:
            return
        self._must_be_alive()
        partitions = await self._once(lambda connection: self._make_topics(connection, missing))
        self._topics.made(missing, partitions)

    async def keep(self, specs: Sequence[TopicSpec]) -> None:
        """Keep the records of topics that are there as long as these say from now on; the rest of a topic is fixed."""
        changed = self._topics.kept_otherwise(specs)
        if changed:
            self._must_be_alive()
            await self._once(lambda connection: self._topics.keep(connection, changed))
            self._topics.made(changed, ())

    def _make_topics(self, connection: sqlite3.Connection, specs: Sequence[TopicSpec]) -> list[Partition]:
        assert self._writer is not None
        self._writer.reserve(sum(spec.partitions for spec in specs))
        made = self._topics.make(connection, specs)
        self._writer.add_partitions(made)
        return made

    async def topic(self, name: str) -> TopicSpec | None:
        """See the port."""
        if name not in self._topics.specs and self._follower is not None:
            await self._reads.run(self._topics.learn)
        return self._topics.specs.get(name)

    async def topic_identity(self, name: str) -> str:
        """See the port. Topics are never deleted here: it is the log's own."""
        return self.identity

    # --- appending ----------------------------------------------------------------------------

    def writer(self, topic: str, partition: int) -> EmbeddedWriter:
        """See the port. Raises ConfigError for an unknown topic or partition."""
        return EmbeddedWriter(self, self._topics.find(topic, partition))

    def append(
        self, partition: Partition, records: Sequence[Produced], owner: AppendOwner
    ) -> asyncio.Future[int | None]:
        """What ``EmbeddedWriter.append`` does."""
        self._must_be_alive()
        assert self._writer is not None
        size = self._checked_size(partition, records)
        if self._waiting_bytes + size > self._options.waiting_bytes_max and self._waiting_bytes:
            raise Busy(
                f"the log has {self._waiting_bytes} bytes waiting for the disk, at most "
                f"{self._options.waiting_bytes_max} may. Nothing was written; try again in a moment."
            )
        future: asyncio.Future[int | None] = self._loop.create_future()
        self._waiting_bytes += size
        owner.pending += 1
        item = Append(partition, records, size, future, owner)
        if partition.place.kind is TopicKind.STREAM:
            self._writer.put(item)
            return future
        done: asyncio.Future[object] = self._loop.create_future()
        done.add_done_callback(lambda future: self._on_staged(item, future))
        self._writer.put(Stage([(partition, records)], None, done, permitted=_refuse_if_closed(owner)))
        return future

    def _checked_size(self, partition: Partition, records: Sequence[Produced]) -> int:
        if not records:
            raise ValueError("an append needs at least one record")
        size = size_of(records)
        if size > min(BATCH_BYTES_MAX, self._options.waiting_bytes_max):
            raise LimitExceeded(
                f"an append of {size} bytes to topic {partition.place.topic!r} is too large: at most {BATCH_BYTES_MAX} "
                "bytes are taken at once. Split it."
            )
        check_shape(records, partition.place.kind)
        return size

    def _on_staged(self, item: Append, future: asyncio.Future[object]) -> None:
        self._waiting_bytes -= item.size
        item.owner.on_append_done()
        error = future.exception()
        if item.future.done():
            return
        if error is not None:
            item.future.set_exception(error)
        else:
            first = future.result()
            assert isinstance(first, int)
            item.future.set_result(first)

    def _apply(self, report: Report) -> None:
        """On the loop, once per commit: make the commit visible to readers, and resolve its futures."""
        woken: set[Partition] = set()
        for append in report.appended:
            partition = append.partition
            partition.end = append.first + len(append.records)
            if partition.readers:
                partition.tail.add(append.first, append.at_ms, append.records, append.size)
                woken.add(partition)
            self._waiting_bytes -= append.size
            append.owner.on_append_done()
            if not append.future.done():
                append.future.set_result(append.first)
        for append, error in report.refused:
            self._waiting_bytes -= append.size
            append.owner.on_append_done()
            if not append.future.done():
                append.future.set_exception(error)
        for partition, start, end in report.moved:
            partition.moved(start, end)
        for future, result in report.answers:
            if not future.done():
                if isinstance(result, BaseException):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        for partition in woken:
            partition.wake()

    # --- reading ------------------------------------------------------------------------------

    def reader(self, topic: str, partition: int, offset: int) -> EmbeddedReader:
        """See the port. Raises ConfigError for an unknown topic or partition."""
        return EmbeddedReader(self, self._topics.find(topic, partition), offset)

    async def read_from_file(self, partition: Partition, window: Window) -> tuple[list[Record], int]:
        """A snapshot read in a thread, for readers that are behind what memory keeps."""
        return await self._reads.run(lambda connection: read(connection, partition.place, window))

    async def refresh(self, partition: Partition) -> None:
        """In a reading process: learn the partition's bounds from the file. Elsewhere they are known."""
        if self._follower is not None:
            await self._follower.refresh(partition)

    def watch(self) -> None:
        """A reader waits: see to it that it is woken."""
        if self._follower is not None:
            self._follower.wait()

    async def start_offset(self, topic: str, partition: int) -> int:
        """See the port."""
        found = self._topics.find(topic, partition)
        await self.refresh(found)
        return found.start

    async def end_offset(self, topic: str, partition: int) -> int:
        """See the port."""
        found = self._topics.find(topic, partition)
        await self.refresh(found)
        return found.end

    async def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        """See the port. O(log n) rows are looked at."""
        place = self._topics.find(topic, partition).place
        return await self._reads.run(lambda connection: offset_at(connection, place, at_ms))

    # --- trimming, group, end -----------------------------------------------------------------

    async def trim(self, topic: str, partition: int, before_offset: int) -> None:
        """See the port. Returns when the rows are gone; the start has moved long before."""
        found = self._topics.find(topic, partition)
        if found.place.kind is not TopicKind.STREAM:
            raise ValueError(f"topic {topic!r} is compacted: write tombstones instead of trimming it")
        if before_offset > found.start:
            await self.run_job(Trim(found, before_offset, self._loop.create_future()))

    async def retain(self) -> None:
        """Apply the topics' retentions now instead of at the next pass (every 10 s)."""
        writer = self._writer
        assert writer is not None, "a reading process removes nothing"
        await self._once(lambda _: writer.retain())
        # The trims found stand in the queue of jobs; one more per partition ends behind them.
        for partition in list(self._topics.partitions.values()):
            if partition.retention_ms >= 0 and partition.place.kind is TopicKind.STREAM:
                await self.run_job(Trim(partition, 0, self._loop.create_future()))

    async def transaction(self, name: str) -> EmbeddedTransaction:
        """See the port."""
        earlier = self._transactions.get(name)
        if earlier is not None:
            await earlier.abort()
        begun = EmbeddedTransaction(self, self.member)
        self._transactions[name] = begun
        return begun

    def membership(self, group: str, lanes: int) -> EmbeddedMembership:
        """See the port."""
        return EmbeddedMembership(self, group, lanes)

    async def store(self, inbox: InboxPositions) -> None:
        """Store inbox positions durably."""
        await self._once(inbox.store)

    def partition_for(self, topic: str, partition: int, records: Sequence[Produced]) -> Partition:
        """The compacted partition that a transaction writes to; refuses what does not fit one."""
        found = self._topics.find(topic, partition)
        if found.place.kind is not TopicKind.COMPACTED:
            raise ValueError(f"topic {topic!r} is a stream: a transaction writes compacted topics only")
        check_shape(records, found.place.kind)
        return found

    async def run_job(self, job: Job) -> object:
        """Run a job on the writer thread; return its answer."""
        self._must_be_alive()
        assert self._writer is not None
        future = job.future
        assert future is not None
        self._writer.put(job)
        return await future  # Not ``job.future``: a job that is done may have dropped it.

    async def close(self) -> None:
        """Commit what was handed over, then give the directory back. Waiting readers get LogUnavailable."""
        if self._closed:
            return
        if self.member is not None:
            await self.member.leave()
        self._closed = True
        for partition in self._topics.partitions.values():
            partition.wake()
        if self._follower is not None:
            await self._follower.close()
        if self._writer is not None:
            await self._writer.close()
            await asyncio.sleep(0)  # The last report was put on the loop before the thread ended.
        self._release()

    def _release(self) -> None:
        self._reads.close()
        if self._lock_handle is not None:
            unlock(self._lock_handle)

    def _must_be_alive(self) -> None:
        if self._closed or self._writer is None:
            why = "was closed" if self._closed else "was opened for reading only"
            raise LogUnavailable(f"the log in {self._directory} {why}; nothing was written")
        if self._writer.dead is not None:
            raise self._writer.dead

    async def _once(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        done: asyncio.Future[object] = self._loop.create_future()
        return await self.run_job(Once(action, done))  # type: ignore[return-value]  # What the action returned.


def _refuse_if_closed(owner: AppendOwner) -> Callable[[], Exception | None]:
    """Asked by the writer thread before a keyed append becomes visible."""
    closed = LogUnavailable("the writer was closed before this was written")
    return lambda: closed if owner.closed else None
