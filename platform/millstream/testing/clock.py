"""``VirtualClock``: the time of a test. It stands still until the test moves it.

What the lane would do later waits in a heap. ``leap`` sets the time and calls everything that is due by then, in order
of its time. The clock leaps from one stored timer to the next (``rig.py``), so three days cost as many leaps as
something happens in them: to the lane's housekeeping it looks like a machine that was suspended.

The loop's own time stays real: user code that really waits sees it, and the kit's patience is counted in it. Chance is
seeded: the same test gives the same ids.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

SEED: Final = 1


class _Alarm:
    """Something to be called at a time; in the heap by time, then by order of arrival."""

    __slots__ = ("at_ms", "callback", "number")

    def __init__(self, at_ms: int, number: int, callback: Callable[[], None]) -> None:
        self.at_ms = at_ms
        self.number = number
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: _Alarm) -> bool:
        return (self.at_ms, self.number) < (other.at_ms, other.number)

    def cancel(self) -> None:
        """Do not call it."""
        self.callback = None


class VirtualClock:
    """Time and chance of a lane under test: its ``lane.port.Surroundings``."""

    def __init__(self, start: datetime) -> None:
        """``start`` needs a zone."""
        self._now_ms = round(start.timestamp() * 1_000)
        self._alarms: list[_Alarm] = []
        self._count = 0
        self._soon = 0
        self._random = random.Random(SEED)

    @property
    def ringing(self) -> bool:
        """Whether an alarm that is due has yet to be called."""
        return self._soon > 0

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.fromtimestamp(self._now_ms / 1_000, UTC)

    def leap(self, to_ms: int) -> None:
        """It is ``to_ms`` now, or stays as late as it is: call what is due."""
        self._now_ms = max(self._now_ms, to_ms)
        while self._alarms and self._alarms[0].at_ms <= self._now_ms:
            callback = heapq.heappop(self._alarms).callback
            if callback is not None:
                callback()

    # --- Surroundings -----------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self._now_ms

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> _Alarm:
        """Call back after ``delay_s`` virtual seconds; without a delay, in the next turn of the loop."""
        self._count += 1
        alarm = _Alarm(self._now_ms + round(delay_s * 1_000), self._count, callback)
        if alarm.at_ms > self._now_ms:
            heapq.heappush(self._alarms, alarm)
        else:
            self._soon += 1
            asyncio.get_running_loop().call_soon(self._ring, alarm)
        return alarm

    async def sleep(self, delay_s: float) -> None:
        """Wait for ``delay_s`` virtual seconds."""
        done = asyncio.get_running_loop().create_future()
        alarm = self.call_later(delay_s, lambda: None if done.done() else done.set_result(None))
        try:
            await done
        finally:
            alarm.cancel()

    def entropy(self, size: int) -> bytes:
        """Bytes that only look random."""
        return self._random.randbytes(size)

    def chance(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def _ring(self, alarm: _Alarm) -> None:
        self._soon -= 1
        if alarm.callback is not None:
            alarm.callback()
