"""The embedded log's writer: one thread that commits everything that waits with one sync.

    loop                                writer thread
    append ── SimpleQueue ────────────> take all that waits (bounded), give offsets
                                        one transaction: every batch + one step of one job   (jobs.py)
    <──────── one call_soon_threadsafe  commit = one fsync of the WAL
    set futures, move ends, wake readers

What arrives during a commit is the next commit: no timer, no linger. When nothing but appends waits, the whole
transaction is *one* INSERT statement in autocommit mode: one release of the interpreter lock, because taking it
back from a busy loop can cost more than the sync.

A write of WAL pages back into the database file is done by another thread while appending goes on; only the small
rest of it, which lets the WAL start again from its beginning, is done here.

Failures (lanes.md rule 17): no room: rolled back, these appends are refused, the next ones may succeed. A failed
write or sync: ``on_fatal``, never a second try. Damage: everything is refused from then on.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from millstream.disk import passing
from millstream.errors import Corruption, InternalError, LogUnavailable, MillstreamError
from millstream.log.embedded.file import connect, explain, is_fatal, is_uncertain
from millstream.log.embedded.jobs import Job, Stage, Vacuum, expired, forget_tombstones, is_wasteful
from millstream.log.embedded.mark import Mark
from millstream.log.embedded.packing import checksum, pack
from millstream.log.embedded.partition import Partition
from millstream.log.port import OutcomeUnknown, Produced

COMMIT_BYTES_MAX = 8 << 20
ROWS_PER_STATEMENT_MAX = 64
WAL_PAGES_SOFT = 4_096  # 16 MiB: written back beside the appends
WAL_PAGES_HARD = 65_536  # 256 MiB: appending waits until readers let the WAL start again
UPKEEP_EVERY_S = 10.0
MARK_SYNC_EVERY_S = 1.0
_PAGE_BYTES = 4096


class AppendOwner:
    """A port Writer as the writer thread sees it: whether it was closed meanwhile."""

    __slots__ = ("closed", "idle", "pending")

    def __init__(self) -> None:
        self.closed = False  # Set by the loop, read by the thread.
        self.pending = 0  # The loop's, and so is ``idle``: done when nothing is pending any more.
        self.idle: asyncio.Future[None] | None = None

    def on_append_done(self) -> None:
        """On the loop: one append of this writer has its outcome."""
        self.pending -= 1
        if self.pending == 0 and self.idle is not None and not self.idle.done():
            self.idle.set_result(None)


class Append:
    """One batch on its way in. ``first`` and ``at_ms`` are given by the writer thread."""

    __slots__ = ("at_ms", "first", "future", "owner", "partition", "records", "size")

    def __init__(
        self,
        partition: Partition,
        records: Sequence[Produced],
        size: int,
        future: asyncio.Future[int | None],
        owner: AppendOwner,
    ) -> None:
        self.partition = partition
        self.records = records
        self.size = size
        self.future = future
        self.owner = owner
        self.first = -1
        self.at_ms = 0


@dataclass(slots=True)
class Report:
    """The outcome of one commit, for the loop to apply in this order."""

    appended: Sequence[Append]
    refused: Sequence[tuple[Append, Exception]]
    moved: Sequence[tuple[Partition, int, int]]
    answers: Sequence[tuple[asyncio.Future[object], object]]


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How the writer thread works."""

    directory: Path
    durability: str
    now_ms: Callable[[], int]
    on_fatal: Callable[[str], None]
    disk_pages_max: int | None = None


@cache
def _insert(rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO batch (position, count, at_ms, crc, payload) VALUES {values}"


class SqliteWriter:
    """The thread and its queue. Every method but ``_run`` and what it calls belongs to the loop."""

    def __init__(
        self,
        settings: WriterSettings,
        files: tuple[sqlite3.Connection, Mark],
        partitions: Sequence[Partition],
        report: Callable[[Report], None],
    ) -> None:
        self.commits = 0
        self._settings = settings
        connection, self._mark = files
        self._connection = connection
        self._partitions = list(partitions)
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Append | Job | None] = queue.SimpleQueue()
        self._jobs: deque[Job] = deque()
        self._dead: Exception | None = None
        self._wal_pages = 0
        self._write_back: ThreadFuture[None] | None = None
        self._write_back_thread = ThreadPoolExecutor(1, thread_name_prefix="millstream-log-write-back")
        self._mark_sync: ThreadFuture[None] | None = None
        self._mark_sync_at = 0.0
        self._upkeep_at = time.monotonic() + UPKEEP_EVERY_S
        self._thread = threading.Thread(target=self._run, name="millstream-log-writer", daemon=True)
        if settings.disk_pages_max is not None:
            connection.execute(f"PRAGMA max_page_count = {settings.disk_pages_max}")
        self._thread.start()

    @property
    def dead(self) -> Exception | None:
        """Why nothing can be written any more, or None."""
        return self._dead

    def put(self, item: Append | Job) -> None:
        """Hand over; the order of appends is kept."""
        self._queue.put(item)

    def add_partitions(self, partitions: Sequence[Partition]) -> None:
        """Called from within a job's action, so on the writer thread: upkeep looks after these as well."""
        self._partitions += partitions
        self._mark.add(partitions)

    def reserve(self, partitions: int) -> None:
        """Called from within a job's action: see that so many can be added."""
        self._mark.reserve(partitions)

    async def close(self) -> None:
        """Commit what was handed over, refuse unfinished jobs, and end the thread."""
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        self._write_back_thread.shutdown()

    # --- the writer thread --------------------------------------------------------------------

    def _run(self) -> None:
        stopping = False
        while not stopping:
            appends, once, stopping = self._take()
            job = self._next_job()
            try:
                if appends or once or job is not None:
                    self._commit(appends, once, job)
                self._upkeep()
            except sqlite3.Error as error:
                self._broken(error)
            except Exception as error:  # A bug of ours: nobody may wait for ever for a thread that is gone.
                self._dead = InternalError(f"the log's writer thread failed: {error!r}. Please report this.")
                self._refuse(appends, [*once, *([job] if job else [])], OutcomeUnknown(str(self._dead)))
                self._settings.on_fatal(str(self._dead))
        gone = LogUnavailable("the log was closed before this was done; nothing of it is visible")
        self._send_report(Report((), (), (), [(job.future, gone) for job in self._jobs if job.future is not None]))
        for under_way in (self._write_back, self._mark_sync):
            if under_way is not None:
                under_way.exception()
        with suppress(OSError):  # It is evidence, no truth.
            self._mark.close()
        if self._dead is None:
            with suppress(sqlite3.Error):  # The WAL holds everything: the next start writes it back.
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.close()

    def _take(self) -> tuple[list[Append], list[Job], bool]:
        """Everything that waits, up to a commit's size; waits for something unless there are jobs to step."""
        appends: list[Append] = []
        once: list[Job] = []
        size = 0
        block = not self._jobs
        while size < COMMIT_BYTES_MAX:
            try:
                item = self._queue.get(block, 1.0 if block else None)
            except queue.Empty:
                break
            block = False
            if item is None:
                return appends, once, True
            if isinstance(item, Append):
                appends.append(item)
                size += item.size
            elif item.holds:
                self._jobs.append(item)
            else:
                once.append(item)
        return appends, once, False

    def _next_job(self) -> Job | None:
        """The first job whose partitions no earlier job holds, moved to the end of its equals."""
        held: set[int] = set()
        for at, job in enumerate(self._jobs):
            if held.isdisjoint(job.holds):
                del self._jobs[at]
                return job
            held |= job.holds
        return None

    def _commit(self, appends: list[Append], once: list[Job], job: Job | None) -> None:
        if self._dead is not None:
            self._refuse(appends, [*once, *([job] if job else [])], self._dead)
            return
        given, refused = self._give_offsets(appends)
        answers: list[tuple[asyncio.Future[object], object]] = []
        connection = self._connection
        finished = True
        failed_job: MillstreamError | None = None
        try:
            if not once and job is None and len(given) <= ROWS_PER_STATEMENT_MAX:
                self._insert(given)
            else:
                connection.execute("BEGIN IMMEDIATE")
                self._insert(given)
                answers = [(one.future, self._act(one)) for one in once if one.future is not None]
                if job is not None:
                    try:
                        finished = job.step(connection, self._settings.now_ms())
                    except MillstreamError as error:
                        failed_job = error  # Its rows lie behind the visible end; nobody sees them.
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._failed(error, appends, [*once, *([job] if job else [])])
            return
        self.commits += 1
        # Before anybody learns of it: what was acknowledged is in the mark, unless the power goes in this second.
        self._mark.note({append.partition for append in given})
        self._wal_pages += sum(2 + append.size // _PAGE_BYTES for append in given) + (64 if job else 4)
        moved = [change for one in once for change in one.moved]
        if job is not None:
            moved += self._after_step(job, finished, failed_job, answers)
        if moved:
            self._mark.note({partition for partition, _, _ in moved})
        self._send_report(Report(given, refused, moved, answers))

    def _after_step(
        self,
        job: Job,
        finished: bool,
        failed: MillstreamError | None,
        answers: list[tuple[asyncio.Future[object], object]],
    ) -> list[tuple[Partition, int, int]]:
        """The job's next turn, its answer, and what it moved."""
        moved, job.moved = job.moved, []
        if failed is not None:
            if job.future is not None:
                answers.append((job.future, failed))
            return []
        if isinstance(job, Stage) and moved:
            job.committed()
            if job.future is not None:  # Visible is done; the sweep that follows is nobody's wait.
                answers.append((job.future, job.result()))
                job.future = None
        if finished:
            if job.future is not None:
                answers.append((job.future, job.result()))
        else:
            # Behind the others, so that two checkpoints share the thread, but before jobs that wait for its partitions.
            at = next(
                (n for n, other in enumerate(self._jobs) if not job.holds.isdisjoint(other.holds)), len(self._jobs)
            )
            self._jobs.insert(at, job)
        return moved

    def _act(self, one: Job) -> object:
        try:
            one.step(self._connection, self._settings.now_ms())
        except MillstreamError as error:
            return error  # Raised before anything was written: the others are not its business.
        return one.result()

    def _give_offsets(self, appends: list[Append]) -> tuple[list[Append], list[tuple[Append, Exception]]]:
        now_ms = self._settings.now_ms()
        given: list[Append] = []
        refused: list[tuple[Append, Exception]] = []
        for append in appends:
            if append.owner.closed:
                refused.append((append, LogUnavailable("the writer was closed before this was written")))
                continue
            partition = append.partition
            append.first = partition.next
            append.at_ms = partition.last_at_ms = max(now_ms, partition.last_at_ms)
            partition.next += len(append.records)
            given.append(append)
        return given, refused

    def _insert(self, appends: list[Append]) -> None:
        for begin in range(0, len(appends), ROWS_PER_STATEMENT_MAX):
            values: list[int | bytes] = []
            some = appends[begin : begin + ROWS_PER_STATEMENT_MAX]
            for append in some:
                position = append.partition.place.base + append.first
                count = len(append.records)
                payload = pack(append.records)
                values += (position, count, append.at_ms, checksum(position, count, append.at_ms, payload), payload)
            self._connection.execute(_insert(len(some)), values)

    def _failed(self, error: sqlite3.Error, appends: list[Append], jobs: list[Job]) -> None:
        """Roll back, refuse exactly what was in this transaction, and decide whether the log lives on."""
        fatal = is_fatal(error)
        if self._connection.in_transaction and not fatal:
            self._connection.execute("ROLLBACK")
        for append in reversed(appends):
            if append.first >= 0:
                append.partition.next = append.first
                append.first = -1
        for job in jobs:
            job.undo()
        if fatal:
            self._broken(error)
            reason: Exception = OutcomeUnknown(f"the disk failed while this was being written: {error}")
        elif is_uncertain(error):
            reason = OutcomeUnknown(f"there was no room for the index of the log's WAL: {error}. It goes on by itself.")
        else:
            reason = explain(error, self._settings.directory)
            if isinstance(reason, Corruption):
                self._dead = reason
        self._refuse(appends, jobs, reason)

    def _refuse(self, appends: Sequence[Append], jobs: Sequence[Job], reason: Exception) -> None:
        answers = [(job.future, reason) for job in jobs if job.future is not None]
        self._send_report(Report((), [(append, reason) for append in appends], (), answers))

    def _broken(self, error: sqlite3.Error) -> None:
        """A failed read, write or sync ends the log; other errors of the upkeep are tried again later."""
        if is_fatal(error):
            self._end(str(error))

    def _end(self, why: str) -> None:
        text = (
            f"the disk under {self._settings.directory} failed: {why}. What was acknowledged is on it; nothing more "
            "is written, because a page that could not be synced may be gone. Check the disk, then start again."
        )
        self._dead = LogUnavailable(text)
        self._settings.on_fatal(text)

    def _send_report(self, report: Report) -> None:
        if not (report.appended or report.refused or report.moved or report.answers):
            return
        with suppress(RuntimeError):  # The loop is closed: nobody is left to tell.
            self._loop.call_soon_threadsafe(self._report, report)

    # --- upkeep, on the writer thread ---------------------------------------------------------

    def _upkeep(self) -> None:
        if self._dead is not None:
            return
        if self._write_back is not None and self._write_back.done():
            done, self._write_back = self._write_back, None
            done.result()
            # The rest, so that the next commit starts the WAL from its beginning.
            _, pages, written = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._wal_pages = max(0, pages - written)
            if pages > WAL_PAGES_HARD:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if self._write_back is None and self._wal_pages > WAL_PAGES_SOFT:
            self._write_back = self._write_back_thread.submit(_write_back, self._settings)
        self._sync_mark()
        if time.monotonic() >= self._upkeep_at:
            self._upkeep_at = time.monotonic() + UPKEEP_EVERY_S
            self.retain()

    def _sync_mark(self) -> None:
        """Once a second, beside the commits: the mark of the second before survives a power cut."""
        now_s = time.monotonic()
        if now_s < self._mark_sync_at or (self._mark_sync is not None and not self._mark_sync.done()):
            return
        failed = None if self._mark_sync is None else self._mark_sync.exception()
        if failed is not None and not passing(failed):
            self._end(f"its mark could not be synced: {failed}")
            return
        self._mark_sync_at = now_s + MARK_SYNC_EVERY_S
        self._mark_sync = self._write_back_thread.submit(self._mark.sync)

    def retain(self) -> None:
        """On the writer thread: begin the trims that retentions ask for, forget old tombstones, shrink the file."""
        now_ms = self._settings.now_ms()
        self._jobs.extend(expired(self._connection, self._partitions, now_ms))
        forget_tombstones(self._connection, now_ms)
        if is_wasteful(self._connection) and not any(isinstance(job, Vacuum) for job in self._jobs):
            self._jobs.append(Vacuum())

    def resume(self, jobs: Sequence[Job]) -> None:
        """Before anything else: work that the last process left unfinished."""
        for job in jobs:
            self._queue.put(job)


def _write_back(settings: WriterSettings) -> None:
    connection = connect(settings.directory, durability=settings.durability)
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    finally:
        connection.close()
