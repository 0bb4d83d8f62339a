"""The checkpoint: the rows that changed, exact at one record, for the compacted topics.

    1. ``Checkpoint.begin(tables, marker)``  flush up to the record, take a snapshot of the store
    2. ``chunks()``      the marked rows of the snapshot and a marker for *each* topic, to be sent in one transaction
    3. ``committed()``   the transaction is: remove the marks that are still as the snapshot has them
       or ``abandoned()``  it is not, or nobody knows: the marks stay, and the next checkpoint writes those rows again

It is exact, not fuzzy: every row is as the record left it, because folds read other rows, and going on from rows of
different moments would count twice or forget (lanes.md rule 12). The lane goes on meanwhile; its flushes write newer
marks (a later epoch), which ``committed`` leaves alone.

What a crash leaves: marks that are too many are harmless (a row is written again), marks that are too few are not (its
journal would be trimmed). So marks go after the commit, and a store that died in between still has them.

This file knows no log: topics by their short names, keys and values as bytes. ``state/restore.py`` reads them back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Final

from millstream.errors import InternalError
from millstream.state.checkpointed import Checkpointed, encode_checkpointed
from millstream.state.flush import BUSY_TRIES_MAX, BUSY_WAIT_S, epoch_of, write
from millstream.state.keyspace import CHECKPOINT_TOPICS, CHECKPOINTED_KEY, KEYS, KEYSPACE, MARKER_KEY, MARKS
from millstream.state.marker import Marker, decode_marker, encode_marker
from millstream.state.store import Change, Snapshot, StoreBusy
from millstream.state.tables import LaneTables

CHUNK_ROWS: Final = 500
"""Rows handed over in one turn of the loop: some milliseconds."""
UNMARK_ROWS: Final = 500
"""Marks looked at in one turn of the loop: about a millisecond."""
CHUNK_BYTES: Final = 4 * 1024 * 1024
"""A chunk ends once it holds this much; one row may go beyond it."""
_TABLES_END: Final = b"\xff"

Chunk = tuple[str, list[Change]]
"""A compacted topic's short name, and keys with their values for it; None is a tombstone."""


class Checkpoint:
    """One checkpoint. Ends with ``committed`` or ``abandoned``; until then it keeps old rows on the disk."""

    __slots__ = ("_done", "_epoch", "_snapshot", "_tables", "marker")

    def __init__(self, tables: LaneTables, marker: Marker, snapshot: Snapshot, done: Sequence[Checkpointed]) -> None:
        self.marker = marker
        self._done = [(CHECKPOINTED_KEY, encode_checkpointed(done))] if done else []
        self._tables = tables
        self._epoch = tables.epoch
        self._snapshot = snapshot

    @classmethod
    async def begin(cls, tables: LaneTables, marker: Marker, done: Sequence[Checkpointed] = ()) -> Checkpoint:
        """Flush and take the snapshot. ``marker`` names the last acknowledged record at this moment, ``done`` the
        lane's committed checkpoints and, as the last, this one.

        To be awaited where the marker is taken, not made a task: what is acknowledged before it starts is in it.
        Raises what a flush raises.
        """
        await tables.flush(marker)
        if tables.marker != marker:
            raise InternalError(f"expected the store at {marker} after its flush, got {tables.marker}")
        # No await between the flush's end and here: nobody can have flushed more.
        snapshot = tables.store.snapshot()
        held = snapshot.get(MARKER_KEY)
        if held is None or decode_marker(held) != marker:
            snapshot.close()
            raise InternalError(f"expected a snapshot at {marker}, got {held!r}: flushes overlapped")
        begun = cls(tables, marker, snapshot, done)
        tables.next_epoch()
        return begun

    async def chunks(self) -> AsyncIterator[Chunk]:
        """What to send, a turn of the loop for each chunk; the marker of each topic comes after its rows."""
        for topic in CHECKPOINT_TOPICS:
            rows: list[Change] = []
            size = 0
            for spec in KEYSPACE:
                if spec.topic != topic or spec.derived:
                    continue
                for marked, _ in self._marks(spec.prefix, spec.end):
                    key = marked[len(MARKS) :]
                    value = self._snapshot.get(key)
                    rows.append((key, value))
                    size += len(key) + len(value or b"")
                    if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                        yield topic, rows
                        rows, size = [], 0
                        await asyncio.sleep(0)
            if topic == KEYS:
                rows += self._done
            rows.append((MARKER_KEY, encode_marker(self.marker)))
            yield topic, rows

    async def committed(self, beside: Callable[[], Awaitable[None]] | None = None) -> int:
        """The topics have it, surely. The number of marks removed; those of rows changed again since stay.

        ``beside`` is awaited between the turns: there may be millions of marks, and memory must not wait for the last.
        """
        if self._done:
            await write(self._tables.store, self._done)
        removed, at = 0, MARKS
        while True:
            count, at = await self._unmark(at)
            removed += count
            if not at:
                break
            if beside is not None:
                await beside()
        self._snapshot.close()
        return removed

    def abandoned(self) -> None:
        """The transaction failed, or its outcome is unknown: nothing is forgotten."""
        self._snapshot.close()

    async def _unmark(self, at: bytes) -> tuple[int, bytes]:
        """Remove a chunk of marks from ``at`` on; how many, and where to go on, nothing at the end.

        A mark that is no newer than the snapshot's epoch is the one that the snapshot holds: what came after it has
        been marked with a later one. So the store is read in its order, and not asked for each mark.
        """
        store = self._tables.store
        for _ in range(BUSY_TRIES_MAX):
            # Looked at and written in one turn: a flush in between could have made a mark that must stay.
            page = store.scan(at, MARKS + _TABLES_END, UNMARK_ROWS)
            changes: list[Change] = [(marked, None) for marked, value in page if epoch_of(value) <= self._epoch]
            try:
                if changes:
                    store.write(changes)
            except StoreBusy:
                await asyncio.sleep(BUSY_WAIT_S)
                continue
            await asyncio.sleep(0)
            return len(changes), page[-1][0] + b"\x00" if len(page) == UNMARK_ROWS else b""
        raise StoreBusy(f"the marks of the checkpoint at offset {self.marker.offset} could not be removed; they stay")

    def _marks(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        at = MARKS + start
        while page := self._snapshot.scan(at, MARKS + end, CHUNK_ROWS):
            yield from page
            at = page[-1][0] + b"\x00"
