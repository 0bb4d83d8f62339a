"""One partition of a memory log: a list of records and who waits for more. No clock, no loop, no faults."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence

from millstream.errors import OffsetOutOfRange
from millstream.log.port import TOMBSTONE_KEPT_MS, Produced, Record, TopicKind, TopicSpec

_SUPERSEDED_KEPT = 256


class MemoryPartition:
    """Records in order of offset; those of a compacted topic that were superseded are skipped, and removed in bulk."""

    def __init__(self, spec: TopicSpec, number: int) -> None:
        self.spec = spec
        self.number = number
        self.start = 0
        self.end = 0
        self.waiting: list[asyncio.Future[None]] = []
        self._records: list[Record] = []
        self._newest: dict[bytes, int] = {}
        self._last_at_ms = 0

    @property
    def held(self) -> int:
        """How many records it holds, superseded ones too until they are removed."""
        return len(self._records)

    def append(self, records: Sequence[Produced], now_ms: int) -> int:
        """Write and wake the readers. Returns the first offset."""
        first = self.end
        self._last_at_ms = at_ms = max(now_ms, self._last_at_ms)
        for one in records:
            self._records.append(Record(self.end, at_ms, one.value, one.key, one.headers))
            if one.key is not None and self.spec.kind is TopicKind.COMPACTED:
                self._newest[one.key] = self.end
            self.end += 1
        if self._newest and len(self._records) > 2 * len(self._newest) + _SUPERSEDED_KEPT:
            self._records = [record for record in self._records if self._is_newest(record)]
        self.wake()
        return first

    def wake(self) -> None:
        """Let every waiting reader look again."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def read(self, position: int, max_records: int, max_bytes: int) -> tuple[list[Record], int]:
        """Records from ``position`` on and the position behind them. Raises OffsetOutOfRange."""
        if not self.start <= position <= self.end:
            raise OffsetOutOfRange(
                f"topic {self.spec.name!r} partition {self.number}: offset {position} was asked for, but the log holds "
                f"{self.start} to {self.end}. Begin again from the compacted topics, or at offset {self.start}.",
                start=self.start,
                end=self.end,
            )
        found: list[Record] = []
        size = 0
        for at in range(self._index(position), len(self._records)):
            record = self._records[at]
            if not self._is_newest(record):
                continue
            found.append(record)
            size += len(record.value or b"")
            if len(found) >= max_records or size >= max_bytes:
                return found, record.offset + 1
        return found, self.end

    def trim(self, before_offset: int) -> None:
        """Remove the records below an offset; the end stays."""
        self.start = max(self.start, min(before_offset, self.end))
        del self._records[: self._index(self.start)]

    def lose_tail(self, end: int) -> None:
        """A disk lost what it had said was safe: the records from ``end`` on were never there."""
        self.end = min(self.end, max(end, self.start))
        del self._records[self._index(self.end) :]
        self.wake()

    def make_anew(self) -> None:
        """Nothing is there, nor ever was."""
        self.start = self.end = 0
        self._records.clear()
        self._newest.clear()
        self.wake()

    def retain(self, now_ms: int) -> None:
        """Apply the topic's retention, or forget tombstones that every reader in time has seen."""
        if self.spec.kind is TopicKind.STREAM:
            if self.spec.retention_ms >= 0:
                self.trim(self.offset_at(now_ms - self.spec.retention_ms))
            return
        cut_ms = now_ms - TOMBSTONE_KEPT_MS
        gone = {r.offset for r in self._records if r.value is None and r.at_ms < cut_ms and self._is_newest(r)}
        self._records = [r for r in self._records if r.offset not in gone and self._is_newest(r)]
        self._newest = {key: offset for key, offset in self._newest.items() if offset not in gone}

    def offset_at(self, at_ms: int) -> int:
        """The first offset appended at ``at_ms`` or later, else the end."""
        at = bisect_left(self._records, at_ms, key=lambda record: record.at_ms)
        return self._records[at].offset if at < len(self._records) else self.end

    def _index(self, offset: int) -> int:
        return bisect_left(self._records, offset, key=lambda record: record.offset)

    def _is_newest(self, record: Record) -> bool:
        compacted = self.spec.kind is TopicKind.COMPACTED
        return not compacted or record.key is None or self._newest.get(record.key) == record.offset
