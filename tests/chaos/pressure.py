"""The client of the functions with limits: bursts of events of a few keys, each key's in order, until acknowledged."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from itertools import cycle
from typing import Final

import aiohttp
import msgspec

from tests.chaos.limits import FUNCTIONS_OF, Posted
from tests.chaos.sender import JSON, POST_TIMEOUT_S, TRIES_MAX, TRY_AGAIN_S

KEYS: Final = ("ann", "bob", "cid")
BURST_MAX: Final = 8


class Pressure:
    """Posts until ``stop``, a burst of each key every ``every_s`` or so; ``posted`` is all that was acknowledged."""

    def __init__(self, urls: tuple[str, ...], dice: random.Random, world: str, every_s: float = 0.7) -> None:
        self.posted: list[Posted] = []
        self.wrong: list[str] = []
        self._urls = cycle(urls)
        self._dice = dice
        self._world = world
        self._every_s = every_s
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Post until ``stop``; return when every post is answered."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=POST_TIMEOUT_S)) as session:
            await asyncio.gather(*(self._of_key(session, key) for key in KEYS))

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping.set()

    async def _of_key(self, session: aiohttp.ClientSession, key: str) -> None:
        numbers: Counter[str] = Counter()
        while not self._stopping.is_set():
            name = self._dice.choice([*FUNCTIONS_OF])
            begins, count = numbers[name], self._dice.randint(1, BURST_MAX)
            numbers[name] += count
            at_ns = time.monotonic_ns()
            await self._take(session, [Posted(name, key, begins + n, at_ns) for n in range(count)])
            await asyncio.sleep(self._dice.expovariate(1 / self._every_s))

    async def _take(self, session: aiohttp.ClientSession, burst: list[Posted]) -> None:
        """Post until it is acknowledged: the next one of the key must come behind it."""
        body = msgspec.json.encode([one.body(self._world) for one in burst])
        for _ in range(TRIES_MAX):
            try:
                async with session.post(f"{next(self._urls)}/e/chaos", data=body, headers=JSON) as answer:
                    if answer.status == 200:
                        self.posted += burst
                        return
                    if answer.status not in (503, 429):
                        self.wrong.append(f"a good post was answered {answer.status}: {(await answer.read())[:300]!r}")
            except (TimeoutError, aiohttp.ClientError, OSError):
                pass  # It may have been taken, or not: its ids say so when it comes again.
            await asyncio.sleep(TRY_AGAIN_S)
        self.wrong.append(f"a post was not taken in {TRIES_MAX} tries: {burst[0]}")
