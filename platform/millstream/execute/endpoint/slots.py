"""``Slots``: how many requests may be under way to one place at a time, and who waits for his turn.

Who waits is counted here and nowhere else. Where too many wait the next is turned away, to be parked; whoever has
turned one away must hear that there is room again, however the others have left: begun or dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

WAITING_MAX: Final = 10_000
"""Dispatches that wait for a slot of one place; more are parked."""


class Waiting(Protocol):
    """Something that waits for its turn."""

    def begin(self) -> None: ...


class Slots:
    """At most ``slots_max`` at a time, the others in the order in which they came. Each call is O(1)."""

    def __init__(self, slots_max: int, on_room: Callable[[], None]) -> None:
        """``on_room`` is called when less than half of WAITING_MAX wait, after one was turned away."""
        self._slots_max = slots_max
        self._on_room = on_room
        self._taken = 0
        # A plain dict finds its first entry in O(n) after many have left.
        self._waiting: OrderedDict[Waiting, None] = OrderedDict()
        self._has_turned_away = False

    @property
    def taken(self) -> int:
        """How many are under way."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    def takes(self) -> bool:
        """Whether one more may enter; where not, ``on_room`` follows."""
        return self._takes_below(WAITING_MAX)

    def takes_many(self) -> bool:
        """Whether a page of parked ones may enter and leave room for new ones; where not, ``on_room`` follows."""
        return self._takes_below(WAITING_MAX // 2)

    def enter(self, job: Waiting) -> None:
        """Begin now, or when a slot is free."""
        if self._taken < self._slots_max:
            self._taken += 1
            job.begin()
        else:
            self._waiting[job] = None

    def drop(self, job: Waiting) -> None:
        """It waits no more."""
        self._waiting.pop(job, None)
        self._look_for_room()

    def leave(self) -> None:
        """A slot is free: the next begins."""
        if not self._waiting:
            self._taken -= 1
            return
        job, _ = self._waiting.popitem(last=False)
        job.begin()
        self._look_for_room()

    def _takes_below(self, waiting: int) -> bool:
        if len(self._waiting) < waiting:
            return True
        self._has_turned_away = True
        return False

    def _look_for_room(self) -> None:
        if self._has_turned_away and len(self._waiting) < WAITING_MAX // 2:
            self._has_turned_away = False
            self._on_room()
