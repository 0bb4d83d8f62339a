"""``Slots``: how many requests may be under way to one place at a time, and who waits for his turn."""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Waiting(Protocol):
    """Something that waits for its turn. ``is_gone``: it does not want it any more."""

    is_gone: bool

    def begin(self) -> None: ...


class Slots:
    """At most ``slots_max`` at a time, the others in the order in which they came."""

    def __init__(self, slots_max: int) -> None:
        self._slots_max = slots_max
        self._taken = 0
        self._waiting: deque[Waiting] = deque()

    @property
    def taken(self) -> int:
        """How many are under way."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(not job.is_gone for job in self._waiting)

    def enter(self, job: Waiting) -> None:
        """Begin now, or when a slot is free."""
        if self._taken < self._slots_max:
            self._taken += 1
            job.begin()
        else:
            self._waiting.append(job)

    def leave(self) -> None:
        """A slot is free: the next begins."""
        while self._waiting:
            job = self._waiting.popleft()
            if not job.is_gone:
                job.begin()
                return
        self._taken -= 1
