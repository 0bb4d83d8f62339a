"""The client: posts events over HTTP while the server dies and comes back, and knows what it was promised.

Four kinds of posts: single and batched with ids of ours, batched under a seed, and plain. Whatever can be repeated
safely (ids, seed) is repeated when the answer got lost, or given up and then *unknown*: such an event may have
started a run, once. Some acknowledged posts are repeated on purpose. Plain posts are never repeated.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from tests.chaos.functions import SENT

POSTS_UNDER_WAY_MAX = 200
TRY_AGAIN_S = 0.15
TRIES_MAX = 400
POST_TIMEOUT_S = 20.0


@dataclass
class Sent:
    """An event as the client knows it. ``internal_ids``: one for every acknowledged post of it."""

    function: str
    id: str
    data: dict[str, Any]
    acknowledged: bool = False
    internal_ids: list[str] = field(default_factory=list)
    posts: int = 0

    @property
    def names(self) -> set[str]:
        """What a function can see as the event's id."""
        return {self.id} if self.id else set(self.internal_ids)


@dataclass
class Counts:
    """What the client did."""

    posts: int = 0
    acknowledged: int = 0
    repeated: int = 0
    unanswered: int = 0
    refused: int = 0


class Sender:
    """Posts at about ``rate`` events a second until ``stop``; ``sent`` are all events, ``plain`` posts included."""

    def __init__(self, url: str, rate: float, dice: random.Random, world: str) -> None:
        self.url = url
        self.sent: list[Sent] = []
        self.counts = Counts()
        self.wrong: list[str] = []
        self._rate = rate
        self._dice = dice
        self._world = world
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Post until ``stop``; return when every post is answered or given up."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=POST_TIMEOUT_S)) as session:
            while not self._stopping:
                size = 0
                if len(self._tasks) < POSTS_UNDER_WAY_MAX:
                    size = self._begin(session)
                await asyncio.sleep(self._dice.expovariate(1.0) * max(size, 1) / self._rate)
            await asyncio.gather(*self._tasks)

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True

    def _begin(self, session: aiohttp.ClientSession) -> int:
        dice = self._dice
        kind = dice.choices(("single", "batch", "seed", "plain"), (40, 25, 20, 15))[0]
        size = 1 if kind == "single" else dice.randint(2, 12)
        events = [self._event(kind in ("single", "batch")) for _ in range(size)]
        self.sent += events
        headers = {}
        if kind == "seed":
            entropy = base64.b64encode(dice.randbytes(10)).decode()
            headers["x-inngest-event-id-seed"] = f"{time.time_ns() // 1_000_000},{entropy}"
        task = asyncio.ensure_future(self._deliver(session, events, headers, kind))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return size

    def _event(self, with_id: bool) -> Sent:
        number = len(self.sent) + self._dice.randrange(1 << 30) * 1_000_000
        function = self._dice.choices(SENT, (30, 10, 15, 15, 10, 10, 10))[0]
        data = {"nap_s": round(self._dice.uniform(1.0, 3.0), 3)} if function == "nap" else {}
        return Sent(function, f"{self._world}-{number}" if with_id else "", data)

    async def _deliver(
        self, session: aiohttp.ClientSession, events: list[Sent], headers: dict[str, str], kind: str
    ) -> None:
        """One post, with its repetitions."""
        dice = self._dice
        gives_up = kind == "plain" or dice.random() < 0.2
        for _ in range(TRIES_MAX):
            if await self._post(session, events, headers):
                break
            if gives_up:
                return
            await asyncio.sleep(TRY_AGAIN_S)
        else:
            self.wrong.append(f"a post was not taken in {TRIES_MAX} tries: {events[0]}")
            return
        while kind != "plain" and dice.random() < 0.2:
            await asyncio.sleep(dice.choice((0.0, 0.0, 0.5, 2.0)))
            self.counts.repeated += 1
            await self._post(session, events, headers)

    async def _post(self, session: aiohttp.ClientSession, events: list[Sent], headers: dict[str, str]) -> bool:
        body: list[dict[str, Any]] = []
        for event in events:
            event.posts += 1
            body.append(
                {"name": f"chaos/{event.function}", "data": event.data} | ({"id": event.id} if event.id else {})
            )
        self.counts.posts += 1
        try:
            async with session.post(
                f"{self.url}/e/chaos", data=msgspec.json.encode(body if len(body) > 1 else body[0]), headers=headers
            ) as answer:
                text = await answer.read()
                status = answer.status
        except (TimeoutError, aiohttp.ClientError, OSError):
            self.counts.unanswered += 1
            return False
        if status != 200:
            self.counts.refused += 1
            if status not in (503, 429):
                self.wrong.append(f"a good post was answered {status}: {text[:300]!r}")
            return False
        ids = msgspec.json.decode(text)["ids"]
        if len(ids) != len(events):
            self.wrong.append(f"a post of {len(events)} events got {len(ids)} ids")
            return False
        self.counts.acknowledged += len(ids)
        for event, internal in zip(events, ids, strict=True):
            event.acknowledged = True
            if internal not in event.internal_ids:
                event.internal_ids.append(internal)
            elif not headers:
                self.wrong.append(f"two posts got the same internal id {internal}")
        return True
