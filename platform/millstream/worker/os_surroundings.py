"""The time and chance of a real process (``lane.port.Surroundings``)."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable


class OsSurroundings:
    """The machine's clock and chance."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back after ``delay_s`` seconds."""
        return asyncio.get_running_loop().call_later(delay_s, callback)

    async def sleep(self, delay_s: float) -> None:
        """Wait for ``delay_s`` seconds."""
        await asyncio.sleep(delay_s)

    def entropy(self, size: int) -> bytes:
        """Random bytes of the operating system."""
        return os.urandom(size)

    def chance(self) -> float:
        """A number in [0, 1)."""
        return random.random()
