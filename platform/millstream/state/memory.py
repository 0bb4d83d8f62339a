"""The memory store: for tests and the simulation. Ordered, exact, and with a disk that can lose its tail.

``MemoryDisk`` is what a crash leaves behind: closing a store (or just dropping it) and opening another on the same
disk is a restart. RocksDB here never syncs its write-ahead log, so a *process* that dies loses nothing while a
*machine* that dies loses the latest writes, whole batches from the end: ``lose_unsynced``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from millstream.errors import InternalError, StoreDamaged
from millstream.state.store import Change

UNSYNCED_WRITES_MAX: Final = 64
"""Older writes count as synced: what an operating system does after some seconds."""


class MemoryDisk:
    """The bytes that outlive a store, and how to lose the latest of them."""

    __slots__ = ("_keys", "_undo", "damaged", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.damaged: set[bytes] = set()
        """Keys of rows in which a bit has flipped: who reads one is told so, as checksums tell; a new row heals it."""
        self._keys: list[bytes] | None = None  # sorted; None: some came or went since
        self._undo: deque[list[Change]] = deque(maxlen=UNSYNCED_WRITES_MAX)

    @property
    def unsynced(self) -> int:
        """How many writes the disk may still lose."""
        return len(self._undo)

    def lose_unsynced(self, keep: int) -> None:
        """The power failed: of the writes since the last sync only the first ``keep`` survive."""
        while len(self._undo) > keep:
            self._apply(reversed(self._undo.pop()))

    def sync(self) -> None:
        """From here on, everything written so far survives."""
        self._undo.clear()

    def write(self, changes: Sequence[Change]) -> None:
        """Apply a batch, remembering how to lose it."""
        rows = self.rows
        undo: list[Change] = []
        for change in changes:
            undo.append((change[0], rows.get(change[0])))
            self._apply((change,))
        self._undo.append(undo)

    def wipe(self) -> None:
        """Empty, and surely so."""
        self.rows.clear()
        self.damaged.clear()
        self._keys = None
        self._undo.clear()

    def keys(self) -> list[bytes]:
        """All keys in order."""
        if self._keys is None:
            self._keys = sorted(self.rows)
        return self._keys

    def _apply(self, changes: Iterable[Change]) -> None:
        rows = self.rows
        for key, value in changes:
            self.damaged.discard(key)
            if value is None:
                if rows.pop(key, None) is not None:
                    self._keys = None
                continue
            if key not in rows:
                self._keys = None
            rows[key] = value


class MemoryStore:
    """A ``Store`` over a ``MemoryDisk``."""

    __slots__ = ("_closed", "_condemned", "disk")

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.disk = disk if disk is not None else MemoryDisk()
        self._closed = False
        self._condemned = False

    def get(self, key: bytes) -> bytes | None:
        """See ``StoreView``."""
        self._check()
        if key in self.disk.damaged:
            raise self.condemn(_flipped(key))
        return self.disk.rows.get(key)

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See ``StoreView``."""
        self._check()
        found = _scan(self.disk.keys(), self.disk.rows, start, end, limit)
        for key, _ in found if self.disk.damaged else ():
            if key in self.disk.damaged:
                raise self.condemn(_flipped(key))
        return found

    def write(self, changes: Sequence[Change]) -> None:
        """See ``Store``; never busy."""
        self._check()
        self.disk.write(changes)

    def snapshot(self) -> MemorySnapshot:
        """See ``Store``; a copy, O(rows)."""
        self._check()
        return MemorySnapshot(self)

    def condemn(self, found: str) -> StoreDamaged:
        """See ``Store``."""
        self._condemned = True
        return StoreDamaged(f"this store in memory is damaged: {found}. It is emptied when it is closed.")

    def wipe(self) -> None:
        """See ``Store``."""
        self._check()
        self.disk.wipe()

    def close(self) -> None:
        """See ``Store``."""
        self._closed = True
        if self._condemned:
            self.disk.wipe()
            self._condemned = False

    def _check(self) -> None:
        if self._closed:
            raise InternalError("a closed store was used: expected its lane to have ended before it was closed")


class MemorySnapshot:
    """A ``Snapshot``: a copy of the rows, with what is damaged of them."""

    __slots__ = ("_damaged", "_keys", "_rows", "_store")

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._rows = dict(store.disk.rows)
        self._keys = sorted(self._rows)
        self._damaged = frozenset(store.disk.damaged)

    def get(self, key: bytes) -> bytes | None:
        """See ``StoreView``."""
        if key in self._damaged:
            raise self._store.condemn(_flipped(key))
        return self._rows.get(key)

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See ``StoreView``."""
        found = _scan(self._keys, self._rows, start, end, limit)
        for key, _ in found if self._damaged else ():
            if key in self._damaged:
                raise self._store.condemn(_flipped(key))
        return found

    def close(self) -> None:
        """See ``Snapshot``."""
        self._rows = {}
        self._keys = []


def _flipped(key: bytes) -> str:
    return f"the row of {key[:64].hex()} has another checksum than was written with it"


def _scan(
    keys: list[bytes], rows: dict[bytes, bytes], start: bytes, end: bytes, limit: int
) -> list[tuple[bytes, bytes]]:
    first = bisect_left(keys, start)
    last = bisect_left(keys, end, first)
    return [(key, rows[key]) for key in keys[first : min(last, first + limit)]]
