"""What the embedded log's writer thread does besides appending, each in steps small enough to append between.

A **job** is stepped inside the transaction that commits the appends waiting at that moment, one step of one job
per transaction: a checkpoint of 100,000 rows or a trim of a gigabyte never keeps a lane waiting for more than a
step. ``step`` answers True when the job is over. Jobs that hold the same partition run one after the other.

    Once       one statement or a few, at once: topics, inbox positions
    Stage      records for compacted topics: rows behind the visible end, in steps; the last Stage of a transaction
               moves the ends and stores the inbox positions at once; then what was superseded is swept
    Trim       the start moves at once, the rows go in steps
    Vacuum     give pages back to the file system when many are free

A step is a few statements, each over many rows: ``sqlite3`` gives the interpreter lock back at every row it
steps over, and taking it again from a busy loop can take 5 ms, so ``executemany`` over 500 rows could take seconds.

A step that fails is rolled back with its transaction, and the job is over. Rows a failed Stage left behind the
visible end are removed by the next one of that partition. Add a job: a class with these four members.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from millstream.errors import LogUnavailable
from millstream.log.embedded.file import SPAN, latest_checksum, offset_at
from millstream.log.embedded.packing import pack
from millstream.log.embedded.partition import Partition
from millstream.log.port import TOMBSTONE_KEPT_MS, Produced

STAGE_ROWS_PER_STEP = 500
STAGE_BYTES_PER_STEP = 1 << 20
TRIM_ROWS_PER_STEP = 64
SWEEP_ROWS_PER_STEP = 500
VACUUM_PAGES_PER_STEP = 64
FREE_PAGES_MIN = 4_096
TOMBSTONES_PER_STEP = 500


class Job(Protocol):
    """Work for the writer thread. ``moved`` is filled with partitions whose bounds changed in the last step."""

    future: asyncio.Future[object] | None
    holds: frozenset[int]
    moved: list[tuple[Partition, int, int]]

    def step(self, connection: sqlite3.Connection, now_ms: int) -> bool: ...

    def result(self) -> object: ...

    def undo(self) -> None:
        """The transaction of the last step was rolled back."""
        ...


@dataclass(slots=True)
class Once:
    """Run a function in the next transaction and answer with what it returns."""

    action: Callable[[sqlite3.Connection], object]
    future: asyncio.Future[object] | None
    holds: frozenset[int] = frozenset()
    moved: list[tuple[Partition, int, int]] = field(default_factory=list)
    _result: object = None

    def step(self, connection: sqlite3.Connection, now_ms: int) -> bool:
        self._result = self.action(connection)
        return True

    def result(self) -> object:
        return self._result

    def undo(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class InboxPositions:
    """The group's inbox positions that a transaction commits with its records."""

    group: str
    positions: Mapping[int, int]

    def store(self, connection: sqlite3.Connection) -> None:
        """Store them; a lane's position replaces the earlier one."""
        if self.positions:
            rows = [value for lane, position in self.positions.items() for value in (self.group, lane, position)]
            connection.execute(_insert("OR REPLACE INTO inbox_position", 3, len(self.positions)), rows)


class Staged:
    """How far the rows of one transaction lie behind the visible ends: what its ``Stage`` jobs, one after another, add
    to. The writer thread's alone, but for ``holds``, which is the loop's.
    """

    __slots__ = ("begun", "ends", "first", "holds", "last_at_ms", "partitions")

    def __init__(self) -> None:
        self.holds: frozenset[int] = frozenset()
        self.partitions: dict[int, Partition] = {}
        self.begun: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self.last_at_ms: dict[int, int] = {}
        self.first: int | None = None


class Stage:
    """Write records of compacted topics so that they become visible together.

    One job for all of them, or several that share ``staged`` and of which only the ``last`` makes anything visible.
    """

    def __init__(
        self,
        records: Sequence[tuple[Partition, Sequence[Produced]]],
        inbox: InboxPositions | None,
        future: asyncio.Future[object] | None,
        *,
        permitted: Callable[[], Exception | None],
        staged: Staged | None = None,
        last: bool = True,
    ) -> None:
        """``permitted`` is asked in the very transaction that makes them visible; an error aborts all of it."""
        self.future = future
        self.moved: list[tuple[Partition, int, int]] = []
        self.visible = False
        self._staged = staged or Staged()
        self._last = last
        self._rows = [(partition, one) for partition, batch in records for one in batch]
        self._partitions = {partition.place.id: partition for partition, _ in records}
        self.holds = self._staged.holds = self._staged.holds.union(self._partitions)
        self._inbox = inbox
        self._permitted = permitted
        self._begun = False
        self._at = 0
        self._sweeps: list[Sweep] = []

    def step(self, connection: sqlite3.Connection, now_ms: int) -> bool:
        if self.visible:
            return self._sweep(connection, now_ms)
        if not self._begun:
            self._begin(connection)
        taken = self._take()
        if taken:
            values = [value for partition, one in taken for value in self._row(partition, one, now_ms)]
            connection.execute(_insert("INTO latest", 6, len(taken)), values)
        if self._at < len(self._rows):
            return False
        error = self._permitted()
        if error is not None:
            raise error
        if not self._last:
            return True
        for number, end in self._staged.ends.items():
            partition = self._staged.partitions[number]
            connection.execute("UPDATE topic_partition SET end_offset = ? WHERE id = ?", (end, number))
            self._sweeps.append(Sweep(partition, partition.next, end))
            self.moved.append((partition, partition.start, end))
        if self._inbox is not None:
            self._inbox.store(connection)
        self.visible = True
        return not self._sweeps

    def _begin(self, connection: sqlite3.Connection) -> None:
        self._begun = True
        staged = self._staged
        for number, partition in staged.partitions.items():
            if partition.next != staged.begun[number] or partition.staged is not staged:  # Its rows lie where ours did.
                raise LogUnavailable(
                    "somebody else wrote to a partition of this transaction while it was under way; nothing of it is "
                    "visible, begin another one"
                )
        for number, partition in self._partitions.items():
            if number in staged.partitions:
                continue
            # What an earlier transaction left there when it failed was never visible.
            connection.execute(
                "DELETE FROM latest WHERE position >= ? AND position < ?",
                (partition.place.base + partition.next, partition.place.base + SPAN),
            )
            partition.staged = staged
            staged.partitions[number] = partition
            staged.begun[number] = staged.ends[number] = partition.next
            staged.last_at_ms[number] = partition.last_at_ms
            if staged.first is None:
                staged.first = partition.next

    def _take(self) -> list[tuple[Partition, Produced]]:
        size = 0
        begin = self._at
        while self._at < len(self._rows) and self._at - begin < STAGE_ROWS_PER_STEP and size < STAGE_BYTES_PER_STEP:
            size += len(self._rows[self._at][1].value or b"")
            self._at += 1
        return self._rows[begin : self._at]

    def _row(self, partition: Partition, one: Produced, now_ms: int) -> tuple[int, int, bytes, int, int, bytes | None]:
        number, staged = partition.place.id, self._staged
        position = partition.place.base + staged.ends[number]
        staged.ends[number] += 1
        at_ms = staged.last_at_ms[number] = max(now_ms, staged.last_at_ms[number])
        key = one.key
        assert key is not None, "checked when it was handed over"
        payload = None if one.value is None else pack((Produced(one.value, None, one.headers),))
        return position, number, key, at_ms, latest_checksum(position, key, at_ms, payload), payload

    def _sweep(self, connection: sqlite3.Connection, now_ms: int) -> bool:
        if self._sweeps and self._sweeps[0].step(connection, now_ms):
            del self._sweeps[0]
        return not self._sweeps

    def committed(self) -> None:
        """The step that made it visible is durable: the writer thread goes on from the new ends."""
        for number, partition in self._staged.partitions.items():
            partition.next, partition.last_at_ms = self._staged.ends[number], self._staged.last_at_ms[number]

    def result(self) -> object:
        return self._staged.first

    def undo(self) -> None:
        self.moved.clear()


class Sweep:
    """Remove what the rows from ``begin`` to ``end`` supersede, then note how far it was done."""

    def __init__(self, partition: Partition, begin: int, end: int) -> None:
        self.future: asyncio.Future[object] | None = None
        self.holds = frozenset((partition.place.id,))
        self.moved: list[tuple[Partition, int, int]] = []
        self._partition = partition
        self._at = begin
        self._end = end

    def step(self, connection: sqlite3.Connection, now_ms: int) -> bool:
        number, base = self._partition.place.id, self._partition.place.base
        begin = base + self._at
        last, count = connection.execute(
            "SELECT max(position), count(*) FROM"
            " (SELECT position FROM latest WHERE position >= ? AND position < ? ORDER BY position LIMIT ?)",
            (begin, base + self._end, SWEEP_ROWS_PER_STEP),
        ).fetchone()
        if count:
            connection.execute(
                "DELETE FROM latest WHERE position IN (SELECT older.position FROM latest newer CROSS JOIN latest older"
                " ON older.partition_id = newer.partition_id AND older.key = newer.key"
                " AND older.position < newer.position WHERE newer.position >= ? AND newer.position <= ?)",
                (begin, last),
            )
        if count == SWEEP_ROWS_PER_STEP:
            self._at = last - base + 1
            return False
        connection.execute("UPDATE topic_partition SET swept_to = ? WHERE id = ?", (self._end, number))
        return True

    def result(self) -> object:
        return None

    def undo(self) -> None:
        return  # A sweep that failed is found again by ``swept_to`` at the next start.


class Trim:
    """Move a stream's start, then remove the rows wholly below it."""

    def __init__(self, partition: Partition, before_offset: int, future: asyncio.Future[object] | None) -> None:
        self.future = future
        self.holds = frozenset((partition.place.id,))
        self.moved: list[tuple[Partition, int, int]] = []
        self._partition = partition
        self._before = before_offset
        self._kept_from_before = -1
        self._moved_start = False

    def step(self, connection: sqlite3.Connection, now_ms: int) -> bool:
        partition = self._partition
        base = partition.place.base
        if not self._moved_start:
            # The end is stored with it: there may soon be no row left that shows it.
            start = max(partition.kept_from, min(self._before, partition.next))
            connection.execute(
                "UPDATE topic_partition SET start_offset = ?, end_offset = ? WHERE id = ?",
                (start, partition.next, partition.place.id),
            )
            self._moved_start = True
            self._kept_from_before = partition.kept_from
            partition.kept_from = start
            self.moved.append((partition, start, partition.next))
        below = base + partition.kept_from
        last, count = connection.execute(
            "SELECT max(position), count(*) FROM"
            " (SELECT position, count FROM batch WHERE position >= ? AND position < ? ORDER BY position LIMIT ?)"
            " WHERE position + count <= ?",
            (base, below, TRIM_ROWS_PER_STEP, below),
        ).fetchone()
        if count:
            connection.execute("DELETE FROM batch WHERE position >= ? AND position <= ?", (base, last))
        return bool(count < TRIM_ROWS_PER_STEP)

    def result(self) -> object:
        return None

    def undo(self) -> None:
        if self.moved:  # It was the first step that was undone: the start has not moved.
            self.moved.clear()
            self._partition.kept_from = self._kept_from_before


class Vacuum:
    """Shrink the file while more than a quarter of its pages, and more than a minimum, are free."""

    def __init__(self) -> None:
        self.future: asyncio.Future[object] | None = None
        self.holds: frozenset[int] = frozenset()
        self.moved: list[tuple[Partition, int, int]] = []

    def step(self, connection: sqlite3.Connection, now_ms: int) -> bool:
        if not is_wasteful(connection):
            return True
        connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES_PER_STEP})").fetchall()
        return False

    def result(self) -> object:
        return None

    def undo(self) -> None:
        return


@cache
def _insert(into: str, columns: int, rows: int) -> str:
    one = f"({', '.join('?' * columns)})"
    return f"INSERT {into} VALUES {', '.join([one] * rows)}"


def is_wasteful(connection: sqlite3.Connection) -> bool:
    """Whether enough pages are free for the file to shrink; a steady load reuses them instead."""
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    return bool(free > FREE_PAGES_MIN and free * 4 > pages)


def expired(connection: sqlite3.Connection, partitions: Sequence[Partition], now_ms: int) -> list[Trim]:
    """The trims that the topics' retentions ask for."""
    trims = []
    for partition in partitions:
        if partition.retention_ms < 0 or partition.kept_from >= partition.next:
            continue
        cut = offset_at(connection, partition.place, now_ms - partition.retention_ms)
        if cut > partition.kept_from:
            trims.append(Trim(partition, cut, None))
    return trims


def forget_tombstones(connection: sqlite3.Connection, now_ms: int) -> object:
    """Remove a bounded number of tombstones that every reader in time has seen. Answers how many."""
    return connection.execute(
        # Below ``swept_to`` only: until then a tombstone may still have a value to supersede.
        "DELETE FROM latest WHERE position IN (SELECT l.position FROM latest l JOIN topic_partition p"
        " ON p.id = l.partition_id WHERE l.payload IS NULL AND l.at_ms < ?"
        f" AND l.position - (l.partition_id << 44) < p.swept_to ORDER BY l.at_ms LIMIT {TOMBSTONES_PER_STEP})",
        (now_ms - TOMBSTONE_KEPT_MS,),
    ).rowcount
