"""How many events a second each event key may send: beyond it a post is answered 429 with Retry-After.

A virtual-scheduling token bucket (GCRA, ITU-T I.371): one number a key says when its bucket would be empty again. A
post of many events is taken whole or refused whole; one larger than the burst is taken when the bucket is full, else
nobody could send it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from millstream.errors import TooMany

BURST_S: Final = 10
KEYS_MAX: Final = 10_000


class Quota:
    """Events a second for each key; ``per_s`` 0: as many as they like. ``clock`` gives seconds."""

    __slots__ = ("_clock", "_full_at_s", "_per_s")

    def __init__(self, per_s: int, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._full_at_s: dict[str, float] = {}

    def take(self, key: str, events: int) -> None:
        """Count the events of a post in. Raises TooMany when the key has sent too many."""
        if not self._per_s:
            return
        now_s = self._clock()
        full_at_s = max(self._full_at_s.get(key, 0.0), now_s)
        cost_s = events / self._per_s
        wait_s = full_at_s + min(cost_s, BURST_S) - BURST_S - now_s
        if wait_s > 0:
            raise TooMany(
                f"this event key may send {self._per_s} events a second (in bursts of up to {BURST_S * self._per_s}); "
                f"a post of {events} more was refused and nothing of it was stored. Send it again in {wait_s:.1f} s.",
                retry_after_s=int(wait_s) + 1,
            )
        if len(self._full_at_s) >= KEYS_MAX:
            self._full_at_s = {k: at for k, at in self._full_at_s.items() if at > now_s}
        self._full_at_s[key] = full_at_s + cost_s
