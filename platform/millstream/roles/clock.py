"""Has this machine's clock been set? The wall clock is compared with the monotonic one, which nobody can set.

A clock that is set back stops more than it seems. The time of a journal does not run backwards (lanes.md rule 8), so
it stands still until the clock shows again what it has shown before, and timers, crons and retries wait as long. So
that is said within some seconds, once, with the moment at which it ends. A lane sees only what is in its log, and an
idle one nothing; this look needs neither.

A clock that is set forward, or a machine that slept, is said, too: timers in between have fired.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from millstream.telemetry import Telemetry, say

LOG: Final = logging.getLogger("millstream.clock")
LOOK_EVERY_S: Final = 5.0
JUMP_MS: Final = 1_000
"""Less is a clock that is kept right in small steps."""
BEHIND: Final = "millstream_clock_behind_seconds"
JUMPS: Final = "millstream_clock_jumps_total"


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class ClockWatch:
    """What the clocks have shown, and what follows. ``look`` is called every few seconds."""

    def __init__(
        self,
        telemetry: Telemetry,
        wall_ms: Callable[[], int] = _wall_ms,
        monotonic_ms: Callable[[], int] = _monotonic_ms,
    ) -> None:
        self._telemetry = telemetry
        self._wall_ms, self._monotonic_ms = wall_ms, monotonic_ms
        self._ahead_ms = wall_ms() - monotonic_ms()
        self._until_ms = 0
        """The latest time that a clock set back has shown; 0: it shows that again."""

    def look(self) -> None:
        """Compare the two clocks."""
        now_ms = self._wall_ms()
        ahead_ms = now_ms - self._monotonic_ms()
        by_ms, self._ahead_ms = ahead_ms - self._ahead_ms, ahead_ms
        if by_ms <= -JUMP_MS:
            self._until_ms = max(self._until_ms, now_ms - by_ms)
            self._telemetry.count(JUMPS, 1, "back")
            say(
                LOG,
                "clock was set back",
                level=logging.ERROR,
                by_ms=-by_ms,
                until=_iso(self._until_ms),
                stands_still="the time of journals, and with it timers, sleeps, crons and retries",
                todo="set it right: keep clocks in step (NTP); all goes on by itself at that time",
            )
        elif by_ms >= JUMP_MS:
            self._telemetry.count(JUMPS, 1, "ahead")
            say(LOG, "clock was set ahead, or the machine slept", level=logging.WARNING, by_ms=by_ms)
        behind_ms = max(self._until_ms - now_ms, 0)
        if self._until_ms and not behind_ms:
            self._until_ms = 0
            say(LOG, "clock has caught up")
        self._telemetry.set(BEHIND, behind_ms / 1000)


async def watch_clock(watch: ClockWatch, *, every_s: float = LOOK_EVERY_S) -> None:
    """Look now and then, for ever."""
    while True:
        watch.look()
        await asyncio.sleep(every_s)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
