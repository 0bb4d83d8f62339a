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

from millstream.errors import InternalError
from millstream.state.store import Change

UNSYNCED_WRITES_MAX: Final = 64
"""Older writes count as synced: what an operating system does after some seconds."""


class MemoryDisk:
    """The bytes that outlive a store, and how to lose the latest of them."""

    __slots__ = ("_keys", "_undo", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
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
            if value is None:
                if rows.pop(key, None) is not None:
                    self._keys = None
                continue
            if key not in rows:
                self._keys = None
            rows[key] = value


class MemoryStore:
    """A ``Store`` over a ``MemoryDisk``."""

    __slots__ = ("_closed", "disk")

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.disk = disk if disk is not None else MemoryDisk()
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """See ``StoreView``."""
        self._check()
        return self.disk.rows.get(key)

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See ``StoreView``."""
        self._check()
        return _scan(self.disk.keys(), self.disk.rows, start, end, limit)

    def write(self, changes: Sequence[Change]) -> None:
        """See ``Store``; never busy."""
        self._check()
        self.disk.write(changes)

    def snapshot(self) -> MemorySnapshot:
        """See ``Store``; a copy, O(rows)."""
        self._check()
        return MemorySnapshot(dict(self.disk.rows))

    def wipe(self) -> None:
        """See ``Store``."""
        self._check()
        self.disk.wipe()

    def close(self) -> None:
        """See ``Store``."""
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise InternalError("a closed store was used: expected its lane to have ended before it was closed")


class MemorySnapshot:
    """A ``Snapshot``: a copy of the rows."""

    __slots__ = ("_keys", "_rows")

    def __init__(self, rows: dict[bytes, bytes]) -> None:
        self._rows = rows
        self._keys = sorted(rows)

    def get(self, key: bytes) -> bytes | None:
        """See ``StoreView``."""
        return self._rows.get(key)

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See ``StoreView``."""
        return _scan(self._keys, self._rows, start, end, limit)

    def close(self) -> None:
        """See ``Snapshot``."""
        self._rows = {}
        self._keys = []


def _scan(
    keys: list[bytes], rows: dict[bytes, bytes], start: bytes, end: bytes, limit: int
) -> list[tuple[bytes, bytes]]:
    first = bisect_left(keys, start)
    last = bisect_left(keys, end, first)
    return [(key, rows[key]) for key in keys[first : min(last, first + limit)]]
