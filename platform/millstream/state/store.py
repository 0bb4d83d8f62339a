"""The port behind which a lane's local store stands: RocksDB, memory. Bytes in byte order, and nothing else.

A store is a cache: losing it costs time, never data, because everything in it is in the compacted topics and the
journal. That is why it never syncs, and why a store that looks wrong is wiped instead of repaired.

What every store promises (``tests/contract/test_store.py``): one ``write`` is seen, and survives a crash of the
process, as a whole or not at all; writes survive in their order, so what is lost is the latest; a snapshot stays as it
was.

Add a store: one file beside this one, one line in the contract test's table, one branch in ``worker/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from millstream.errors import OperatorError, StoreDamaged

Change = tuple[bytes, bytes | None]
"""A key and its new value; None deletes the key."""


class StoreBusy(OperatorError):
    """The store cannot take a write now without waiting. Nothing was written; try again in some milliseconds."""


class StoreView(Protocol):
    """What can be read. Raises StoreUnavailable or StoreDamaged, as ``write`` does."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None if there is no such key."""
        ...

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The first ``limit`` keys with ``start`` ≤ key < ``end`` and their values, in key order."""
        ...


class Snapshot(StoreView, Protocol):
    """A store as it was at one moment."""

    def close(self) -> None:
        """Let go of it. An open snapshot keeps old rows on the disk."""
        ...


class Store(StoreView, Protocol):
    """The rows of one lane."""

    def write(self, changes: Sequence[Change]) -> None:
        """Apply all changes at once, in order. Raises StoreBusy, nothing written, where it would have to wait.

        Raises StoreUnavailable, nothing seen of it by now, where the disk takes nothing; it is to be written again.
        Raises StoreDamaged where the store is not what was written.
        """
        ...

    def snapshot(self) -> Snapshot:
        """The store as it is now."""
        ...

    def condemn(self, found: str) -> StoreDamaged:
        """It holds what nobody has written: once closed it is moved aside, and the next one is empty.

        Returns the error to raise.
        """
        ...

    def wipe(self) -> None:
        """Empty it. Snapshots taken before may not be used any more."""
        ...

    def close(self) -> None:
        """Let go of it; what was written stays. Snapshots taken before may not be used any more."""
        ...
