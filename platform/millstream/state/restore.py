"""Restoring a store from the compacted topics: the rows of the last checkpoint, and where the journal goes on.

    restore = Restore(store)                       empties the store
    await restore.take(topic, [(key, value), …])   all records of the lane's partition of each compacted topic, in order
    restore.marker()                               the checkpoint that *all* topics show; None: read their tails again
    await restore.finish()                         rebuilds what is derived; the store may be opened now

The topics are read one after another while their lane may still be checkpointing, so one can show a later checkpoint
than another; its rows would be of different moments. Each topic therefore ends a checkpoint with a marker, and only
when all markers are equal, and nothing came after them, do the rows belong together (lanes.md rule 14).

A restore that dies half-way leaves the note of a flush under way, so that the next opener wipes the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from millstream.errors import Corruption
from millstream.model.rows import SeenChunkRow, SeenRow
from millstream.model.seen import HASH_BYTES, until_ms
from millstream.state.checkpointed import Checkpointed, decode_checkpointed
from millstream.state.flush import write
from millstream.state.keyspace import (
    BY_NAME,
    BY_PREFIX,
    CHECKPOINT_TOPICS,
    CHECKPOINTED_KEY,
    FLUSHING_KEY,
    KEYS,
    MARKER_KEY,
)
from millstream.state.marker import Marker, decode_marker, encode_marker
from millstream.state.store import Change, Store
from millstream.wire.rows import decode_row, encode_row

WRITE_ROWS: Final = 500
"""Rows in one write and one turn of the loop: other lanes are held up for two milliseconds, not for ten."""
WRITE_BYTES: Final = 4 * 1024 * 1024


class Restore:
    """One restore. It writes in pieces, with turns of the loop between them for the other lanes of the worker."""

    __slots__ = ("_behind", "_checkpointed", "_markers", "_pending", "_rows", "_size", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._markers: dict[str, Marker] = {}
        self._behind: set[str] = set()  # topics with rows behind their last marker
        self._pending: list[Change] = [(FLUSHING_KEY, b"\x01")]
        self._checkpointed: bytes | None = None
        self._size = 0
        self._rows = 0
        store.wipe()

    @property
    def rows(self) -> int:
        """How many records were taken, for progress."""
        return self._rows

    async def take(self, topic: str, records: Iterable[Change]) -> None:
        """Records of a compacted topic (short name), in the order of the log. Raises Corruption on foreign keys."""
        if topic not in CHECKPOINT_TOPICS:
            raise ValueError(f"expected one of the topics {CHECKPOINT_TOPICS}, got {topic!r}")
        for key, value in records:
            self._rows += 1
            if key == MARKER_KEY:
                if value is None:
                    raise Corruption(f"topic {topic!r}: expected a marker, got a tombstone of it; restore its topics")
                self._markers[topic] = decode_marker(value)
                self._behind.discard(topic)
                continue
            if key == CHECKPOINTED_KEY and topic == KEYS:
                self._checkpointed = value
                self._behind.add(topic)
                continue
            spec = BY_PREFIX.get(key[:1])
            if spec is None or spec.topic != topic or spec.derived:
                raise Corruption(
                    f"topic {topic!r}: expected keys of its tables, got {key[:64].hex()}. "
                    "Was it written by a newer version, or by something else?"
                )
            self._behind.add(topic)
            await self._put(key, value)

    def marker(self) -> Marker | None:
        """The one checkpoint that all topics show; None if they differ: read the rest of each and ask again.

        With no records at all it is None too: nothing was ever checkpointed, see ``empty``.
        """
        found = set(self._markers.values())
        if self._behind or len(found) != 1 or len(self._markers) != len(CHECKPOINT_TOPICS):
            return None
        return found.pop()

    @property
    def empty(self) -> bool:
        """Whether the topics have nothing: the journal is read from its beginning."""
        return not self._markers and not self._behind

    @property
    def checkpointed(self) -> tuple[Checkpointed, ...]:
        """The checkpoints that the topics say were committed, oldest first; the last is the one of ``marker``."""
        return decode_checkpointed(self._checkpointed)

    async def finish(self) -> Marker | None:
        """Rebuild what is derived and make the store openable. The marker: fold the journal from behind it.

        None if the topics are empty. Raises Corruption if they do not agree; ask ``marker`` first.
        """
        marker = self.marker()
        if marker is None and not self.empty:
            raise Corruption(
                f"the compacted topics show different checkpoints: expected one marker in each, got {self._markers}, "
                f"with rows behind it in {sorted(self._behind)}. Read them to their ends first."
            )
        await self._rebuild_seen()
        if marker is not None:
            self._pending.append((MARKER_KEY, encode_marker(marker)))
            if self._checkpointed is not None:
                self._pending.append((CHECKPOINTED_KEY, self._checkpointed))
        self._pending.append((FLUSHING_KEY, None))
        await self._write()
        return marker

    async def _rebuild_seen(self) -> None:
        await self._write()  # The chunks are read back from the store.
        chunks, seen = BY_NAME["seen_chunks"], BY_NAME["seen"]
        at = chunks.prefix
        while page := self._store.scan(at, chunks.end, 10):
            for _, raw in page:  # Of one source the older buckets come first: an id that came again ends up as such.
                chunk = decode_row(SeenChunkRow, raw)
                hashes, over_ms = chunk.hashes, until_ms(chunk.clients, chunk.bucket)
                for i in range(0, len(hashes), HASH_BYTES):
                    one = hashes[i : i + HASH_BYTES]
                    await self._put(seen.prefix + one, encode_row(SeenRow(one, over_ms)))
            at = page[-1][0] + b"\x00"

    async def _put(self, key: bytes, value: bytes | None) -> None:
        self._pending.append((key, value))
        self._size += len(value or b"")
        if len(self._pending) >= WRITE_ROWS or self._size >= WRITE_BYTES:
            await self._write()

    async def _write(self) -> None:
        pending, self._pending, self._size = self._pending, [], 0
        await write(self._store, pending)
        await asyncio.sleep(0)
