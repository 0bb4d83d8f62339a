"""One partition of the embedded log in memory: what the loop knows of it and what the writer thread knows.

The two halves have two owners and no lock. The loop's half is what was *acknowledged*; the writer thread's half is
what it will write next. The writer thread tells the loop about changes with one call per commit.
"""

from __future__ import annotations

import asyncio

from millstream.log.embedded.file import Place
from millstream.log.embedded.tail import Tail, TailBudget
from millstream.log.port import TopicSpec


class Partition:
    """Bounds, followers and the next offset of one partition."""

    __slots__ = (
        "end",
        "kept_from",
        "last_at_ms",
        "next",
        "place",
        "readers",
        "retention_ms",
        "staged",
        "start",
        "tail",
        "waiting",
    )

    def __init__(self, place: Place, spec: TopicSpec, budget: TailBudget) -> None:
        self.place = place
        self.retention_ms = spec.retention_ms
        # The loop's.
        self.start = 0
        self.end = 0
        self.readers = 0
        self.waiting: list[asyncio.Future[None]] = []
        self.tail = Tail(budget)
        # The writer thread's.
        self.kept_from = 0
        self.next = 0
        self.last_at_ms = 0
        self.staged: object = None  # The transaction whose rows lie behind the visible end.

    def moved(self, start: int, end: int) -> None:
        """On the loop: the acknowledged bounds are these now. Wakes the readers that wait for records."""
        self.start = max(self.start, start)
        self.end = max(self.end, end)
        self.wake()

    def wake(self) -> None:
        """On the loop: let every waiting reader look again."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def awaited(self) -> bool:
        """On the loop: whether anybody waits for this partition; forgets those that gave up."""
        self.waiting = [future for future in self.waiting if not future.done()]
        return bool(self.waiting)
