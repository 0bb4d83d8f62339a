"""One flush: the durable overlay becomes rows of the store.

A flush must be all or nothing. The rows of a half-written one would be newer than the marker, and folding again from
the marker over them is wrong: folds read other rows (a counter would count twice, a discovery would find its answer).
Three designs were weighed:

* **One write.** RocksDB applies a batch as a whole. But the binding holds the interpreter's lock while it does:
  measured 2 ms for 2,000 changes, 95 ms for 50,000. Too long for a lane whose steps take half a millisecond.
* **Undo rows** beside each batch, so that an opening store steps back to its marker: three times the work of every
  flush, for a case that needs a crash.
* **A note that a flush is under way**, written with its first batch and removed with its last, which carries the
  marker. A store that is opened with the note is torn; it is wiped and restored from the topics. *Taken.*

So a flush of up to ``FLUSH_BATCH_CHANGES_MAX`` changes is one write and cannot be torn; a larger one costs a restore if
the process dies in its midst. Rows are encoded in slices with turns of the loop between them.

**Dirty marks** (lanes.md rule 11). Every changed row of a checkpointed table leaves a mark in the same write: the
epoch (which counts checkpoints begun) and whether the row was *born* in it, that is, no compacted topic has ever held
it. A born row that is deleted in the same epoch takes its mark with it and never touches a topic. A
committed checkpoint removes the marks that are still as it saw them (``state/checkpoint.py``).

Rows that came and went since the last flush are not written at all.

**History unknown.** These savings need a store that has seen the row's whole history. Where records of another owner
are folded (the lane was on another worker, or the store is an old copy), a row may have been made, checkpointed and
deleted there: the topics hold a key that this store never held. A flush of such rows marks every one, and none as born.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from millstream.errors import Corruption, InternalError
from millstream.model.rows import Row
from millstream.state.keys import Key
from millstream.state.keyspace import EPOCH_KEY, FLUSHING_KEY, MARKER_KEY, MARKS
from millstream.state.layers import LayeredTable
from millstream.state.marker import Marker, encode_marker
from millstream.state.store import Change, Store, StoreBusy
from millstream.wire.rows import encode_row

FLUSH_BATCH_CHANGES_MAX: Final = 2_000
"""Changes in one write, marks and notes included."""
FLUSH_BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
"""A batch is written once it holds this much; one row may go beyond it."""
SLICE_ROWS: Final = 100
"""Rows encoded in one turn of the loop: about a millisecond."""
SLICE_GAIN: Final = 2
"""A slice's size, as a multiple of the rows that came since the slice before. Under load a turn brings more rows than a
slice of fixed size takes away, and each flush would be larger than the last, without end; with a gain of 2 each finds
half. Where few rows come, slices stay small and block the loop only briefly."""
SLICES_MAX: Final = 40
"""A slice holds at most 1/40 of the flush: a large slice delays turns, which then bring more rows, which would make the
next slice larger still."""
FORGET_ROWS: Final = 5_000
"""Rows dropped from memory in one turn of the loop."""
BUSY_WAIT_S: Final = 0.005
BUSY_TRIES_MAX: Final = 6_000
"""Half a minute; a store that is busy for longer is broken."""

_CHANGES_PER_ROW: Final = 2  # the row and its mark
_NOTES: Final = 3  # marker, epoch, flush under way


class Flush:
    """A flush under way. Made in the turn whose state it writes.

    ``history_unknown``: the overlay holds rows of records that another owner wrote; see the module.
    """

    def __init__(
        self,
        tables: Sequence[LayeredTable[Key, Row]],
        store: Store,
        marker: Marker,
        epoch: int,
        *,
        history_unknown: bool = False,
    ) -> None:
        self.marker = marker
        self.history_unknown = history_unknown
        self._tables = tables
        self._store = store
        self._epoch = epoch
        self._born = mark(epoch, born=True)
        self._changed = mark(epoch, born=False)
        self._torn = False  # the store holds a part of this flush
        self._written = False
        self._forgotten: list[tuple[LayeredTable[Key, Row], list[Key]]] = []
        for table in tables:
            table.freeze()

    async def run(self) -> int:
        """Write everything; the number of rows written."""
        batch: list[Change] = []
        size = rows = 0
        pending = self._rows()
        largest = sum(len(table.frozen) for table in self._tables) // SLICES_MAX
        before = 0
        while slice_ := list(
            islice(pending, max(SLICE_ROWS, min(largest, SLICE_GAIN * (self._rows_waiting() - before))))
        ):
            before = self._rows_waiting()
            for table, key, row in slice_:
                if len(batch) > FLUSH_BATCH_CHANGES_MAX - _CHANGES_PER_ROW - _NOTES or size >= FLUSH_BATCH_BYTES_MAX:
                    await self._write_part(batch)
                    batch, size = [], 0
                changes = self._changes(table, key, row)
                batch += changes
                rows += len(changes) > 0
                size += sum(len(value) for _, value in changes if value is not None)
            await asyncio.sleep(0)
        batch.append((MARKER_KEY, encode_marker(self.marker)))
        batch.append((EPOCH_KEY, self._epoch.to_bytes(8, "big")))
        batch.append((FLUSHING_KEY, None))
        await write(self._store, batch)
        self._written = True
        # In this very turn: from here on the store is what lies below the overlay.
        self._forgotten = [(table, table.on_flushed()) for table in self._tables]
        return rows

    async def forget_flushed(self) -> None:
        """Drop the flushed rows from memory, ``FORGET_ROWS`` a turn of the loop."""
        for table, keys in self._forgotten:
            for at in range(0, len(keys), FORGET_ROWS):
                table.forget(keys[at : at + FORGET_ROWS])
                await asyncio.sleep(0)

    def end(self) -> bool:
        """End the flush; whether it is in the store. The next flush writes the rows of one that failed."""
        if not self._written:
            for table in self._tables:
                table.thaw()
        return self._written

    def refused(self) -> InternalError:
        """The error of a second flush while this one is under way."""
        return InternalError(
            f"a flush was begun while the one up to offset {self.marker.offset} was under way; "
            "expected its end to be awaited first"
        )

    def _rows_waiting(self) -> int:
        """The number of rows that wait for the next flush."""
        return sum(len(table.overlay) for table in self._tables)

    def _rows(self) -> Iterator[tuple[LayeredTable[Key, Row], Key, Row | None]]:
        for table in self._tables:
            for key, row in table.frozen.items():
                yield table, key, row

    def _changes(self, table: LayeredTable[Key, Row], key: Key, row: Row | None) -> tuple[Change, ...]:
        """A row's changes in the store: itself and its mark; none if it was made and deleted since the last flush."""
        stored = table.encode(key)
        absent = key in table.frozen_absent
        if row is None:
            return self._deletion(table, stored, absent=absent)
        if table.key_of(row) != key:
            raise Corruption(f"table {table.spec.name}: a row was put under {key!r}, but its own key is {row!r}")
        value = encode_row(row)
        if table.spec.derived:
            return ((stored, value),)
        held = self._store.get(MARKS + stored)
        # A row that the store has never had is born now; one that was born in this epoch stays so.
        born = held == self._born if held is not None else absent or self._store.get(stored) is None
        born = born and not self.history_unknown
        return (stored, value), (MARKS + stored, self._born if born else self._changed)

    def _deletion(self, table: LayeredTable[Key, Row], stored: bytes, *, absent: bool) -> tuple[Change, ...]:
        if table.spec.derived:
            return () if absent else ((stored, None),)
        if self.history_unknown:
            return (stored, None), (MARKS + stored, self._changed)
        held = self._store.get(MARKS + stored)
        if held is None and (absent or self._store.get(stored) is None):
            return ()
        return (stored, None), (MARKS + stored, None if held == self._born else self._changed)

    async def _write_part(self, batch: list[Change]) -> None:
        if not self._torn:
            batch.append((FLUSHING_KEY, b"\x01"))
        await write(self._store, batch)
        self._torn = True


def mark(epoch: int, *, born: bool) -> bytes:
    """A dirty mark's value: the epoch of the last change, and whether the row was born in it."""
    return epoch.to_bytes(8, "big") + (b"\x01" if born else b"\x00")


def epoch_of(mark: bytes) -> int:
    """The epoch of a mark's last change."""
    return int.from_bytes(mark[:8], "big")


async def write(store: Store, changes: Sequence[Change]) -> None:
    """Write, waiting where the store is busy. Raises StoreBusy after ``BUSY_TRIES_MAX`` tries."""
    tries = 0
    while True:
        try:
            store.write(changes)
        except StoreBusy:
            tries += 1
            if tries == BUSY_TRIES_MAX:
                raise
            await asyncio.sleep(BUSY_WAIT_S)
        else:
            return
