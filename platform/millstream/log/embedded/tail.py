"""The newest acknowledged batches of a partition, kept in memory for readers that follow the tail.

A reader in the writing process gets its records here, as the very objects that were appended: no disk, no
unpacking, no thread. Only partitions that somebody is reading keep any. Everything here belongs to the loop.

The rule: what is kept is contiguous and ends at the partition's acknowledged end, so a position inside it can be
served without asking the file; a position before it is the file's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from millstream.log.port import Produced, Record

TAIL_BYTES_MAX_PER_PARTITION = 4 << 20
TAIL_BYTES_MAX = 64 << 20


class TailBudget:
    """The bytes all tails of one log keep together."""

    __slots__ = ("maximum", "tails", "used")

    def __init__(self, maximum: int = TAIL_BYTES_MAX) -> None:
        self.maximum = maximum
        self.used = 0
        self.tails: list[Tail] = []

    def shrink(self) -> None:
        """Back below the maximum: the largest tails give up their older half."""
        while self.used > self.maximum:
            largest = max(self.tails, key=lambda tail: tail.size)
            largest.drop_to(largest.size // 2)


class _Batch:
    """One append. ``records`` are made when the first reader wants them, then kept."""

    __slots__ = ("_made", "at_ms", "first", "produced", "size")

    def __init__(self, first: int, at_ms: int, produced: Sequence[Produced], size: int) -> None:
        self.first = first
        self.at_ms = at_ms
        self.produced = produced
        self.size = size
        self._made: list[Record] | None = None

    def records(self) -> list[Record]:
        if self._made is None:
            at_ms = self.at_ms
            self._made = [
                Record(offset, at_ms, one.value, one.key, one.headers)
                for offset, one in enumerate(self.produced, self.first)
            ]
        return self._made


class Tail:
    """The newest batches of one partition, within its own limit and the shared budget."""

    __slots__ = ("_batches", "_budget", "_firsts", "size")

    def __init__(self, budget: TailBudget) -> None:
        self._budget = budget
        self._batches: list[_Batch] = []
        self._firsts: list[int] = []
        self.size = 0
        budget.tails.append(self)

    def add(self, first: int, at_ms: int, produced: Sequence[Produced], size: int) -> None:
        """Take the batch just acknowledged. ``first`` is the end of what is kept, if anything is."""
        if size > TAIL_BYTES_MAX_PER_PARTITION:
            self.drop_to(0)  # Too large to keep; what lies before it is no longer the tail.
            return
        self._batches.append(_Batch(first, at_ms, produced, size))
        self._firsts.append(first)
        self.size += size
        self._budget.used += size
        if self.size > TAIL_BYTES_MAX_PER_PARTITION:
            self.drop_to(TAIL_BYTES_MAX_PER_PARTITION * 3 // 4)
        if self._budget.used > self._budget.maximum:
            self._budget.shrink()

    def drop_to(self, size: int) -> None:
        """Forget the oldest batches until at most ``size`` bytes are kept."""
        dropped = 0
        count = 0
        for batch in self._batches:
            if self.size - dropped <= size:
                break
            dropped += batch.size
            count += 1
        del self._batches[:count], self._firsts[:count]
        self.size -= dropped
        self._budget.used -= dropped

    def read(self, position: int, max_records: int, max_bytes: int) -> list[Record]:
        """Records from ``position`` on; empty when the position lies before what is kept."""
        at = bisect_right(self._firsts, position) - 1
        if at < 0:
            return []
        records: list[Record] = []
        size = 0
        for batch in self._batches[at : at + max_records]:
            made = batch.records()
            skipped = max(0, position - batch.first)
            room = max_records - len(records)
            if skipped == 0 and len(made) <= room and size + batch.size <= max_bytes:
                records += made  # The whole batch fits, by an estimate that is never too small.
                size += batch.size
                continue
            for record in made[skipped : skipped + room]:
                records.append(record)
                size += len(record.value or b"")
                if size >= max_bytes:
                    return records
            if len(records) >= max_records:
                return records
        return records
