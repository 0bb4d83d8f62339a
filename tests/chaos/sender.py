"""The client: posts events over HTTP while the server dies and comes back, and knows what it was promised.

Four kinds of posts: single and batched with ids of ours, batched under a seed, and plain. Whatever can be repeated
safely (ids, seed) is repeated when the answer got lost, or given up and then *unknown*: such an event may have
started a run, once. Some acknowledged posts are repeated on purpose. Plain posts are never repeated.

Where the run waits for events or a signal (``ANSWERS``), those are sent as soon as its own event is, with ids, until
they are acknowledged; a signal until a run takes it.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from tests.chaos.functions import ANSWERS, SENT

POSTS_UNDER_WAY_MAX = 200
TRY_AGAIN_S = 0.15
TRIES_MAX = 400
ANSWERED_AGAIN_S = 0.5
"""So much later an answer or a signal that nobody took is sent again: they are many, the server needs the cores."""
POST_TIMEOUT_S = 20.0
JSON = {"Content-Type": "application/json"}  # Events come without it, as from web pages.
SEED_HEADER = "x-inngest-event-id-seed"
SIGNALLED_S = 3_600.0
"""So long a run waits for a signal, which comes much sooner."""
UNSIGNALLED_S = 60.0
"""The same where its own event may not have been taken: then nobody knows whether there is a run to send it to."""
UNKNOWN_SIGNALLED_S = 10.0
"""So long such a signal is tried."""


@dataclass
class Sent:
    """An event as the client knows it. ``internal_ids``: one for every acknowledged post of it.

    ``answers``: the tokens of the events that its run may take, by their name. ``signal``: the token of the signal that
    a run has taken.
    """

    function: str
    id: str
    data: dict[str, Any]
    acknowledged: bool = False
    internal_ids: list[str] = field(default_factory=list)
    posts: int = 0
    answers: dict[str, list[str]] = field(default_factory=dict)
    signal: str = ""

    @property
    def names(self) -> set[str]:
        """What a function can see as the event's id."""
        return {self.id} if self.id else set(self.internal_ids)

    @property
    def is_signalled(self) -> bool:
        """Whether its run gets a signal for certain."""
        return bool(self.data.get("wait_s", 0) == SIGNALLED_S)


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
            while self._tasks:
                await asyncio.gather(*self._tasks)

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True

    def _begin(self, session: aiohttp.ClientSession) -> int:
        dice = self._dice
        kind = dice.choices(("single", "batch", "seed", "plain"), (40, 25, 20, 15))[0]
        size = 1 if kind == "single" else dice.randint(2, 12)
        gives_up = kind == "plain" or dice.random() < 0.2
        events = [self._event(kind in ("single", "batch"), gives_up) for _ in range(size)]
        self.sent += events
        headers = {}
        if kind == "seed":
            headers[SEED_HEADER] = self._seed()
        self._later(self._deliver(session, events, headers, repeats=not gives_up))
        return size

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _seed(self) -> str:
        entropy = base64.b64encode(self._dice.randbytes(10)).decode()
        return f"{time.time_ns() // 1_000_000},{entropy}"

    def _event(self, with_id: bool, gives_up: bool) -> Sent:
        number = len(self.sent) + self._dice.randrange(1 << 30) * 1_000_000
        function = self._dice.choices([*SENT], [*SENT.values()])[0]
        data: dict[str, Any] = {"key": f"{self._world}-{number}"}
        if function == "signalled":
            data["wait_s"] = UNSIGNALLED_S if gives_up else SIGNALLED_S
        if function == "nap":
            data["nap_s"] = round(self._dice.uniform(1.0, 3.0), 3)
        return Sent(function, f"{self._world}-{number}" if with_id else "", data)

    async def _deliver(
        self, session: aiohttp.ClientSession, events: list[Sent], headers: dict[str, str], *, repeats: bool
    ) -> None:
        """One post, with its repetitions, and what the runs wait for."""
        dice = self._dice
        await self._take(session, events, headers, repeats=repeats)
        for event in events:
            if event.function == "signalled":
                self._later(self._signal(session, event))
            for name in dice.choice(ANSWERS.get(event.function, ((),))):
                self._later(self._answer(session, event, name))
        while repeats and events[0].acknowledged and dice.random() < 0.2:
            await asyncio.sleep(dice.choice((0.0, 0.0, 0.5, 2.0)))
            self.counts.repeated += 1
            await self._post(session, events, headers)

    async def _take(
        self, session: aiohttp.ClientSession, events: list[Sent], headers: dict[str, str], *, repeats: bool
    ) -> None:
        """Post until it is acknowledged, or once."""
        for _ in range(TRIES_MAX):
            if await self._post(session, events, headers) or not repeats:
                return
            await asyncio.sleep(TRY_AGAIN_S)
        self.wrong.append(f"a post was not taken in {TRIES_MAX} tries: {events[0]}")

    async def _answer(self, session: aiohttp.ClientSession, event: Sent, name: str) -> None:
        """An event that the run waits for, soon or a little later, until it is acknowledged."""
        dice, tokens = self._dice, event.answers.setdefault(name, [])
        token = f"{event.data['key']}/{name}/{len(tokens)}"
        tokens.append(token)
        await asyncio.sleep(dice.choice((0.0, dice.uniform(0.0, 0.05), dice.uniform(0.0, 1.0))))
        body = {"name": name, "id": token, "data": {"key": event.data["key"], "token": token}}
        for _ in range(TRIES_MAX):
            if await self._send(session, "/e/chaos", body, {}) is not None:
                return
            await asyncio.sleep(ANSWERED_AGAIN_S)
        self.wrong.append(f"an answer was not taken in {TRIES_MAX} tries: {body}")

    async def _signal(self, session: aiohttp.ClientSession, event: Sent) -> None:
        """A signal until a run takes it; under one seed as long as nobody knows whether one has."""
        token, seed = f"{event.data['key']}/signal", self._seed()
        body = {"signal": event.data["key"], "data": token}
        tries = TRIES_MAX if event.is_signalled else int(UNKNOWN_SIGNALLED_S / ANSWERED_AGAIN_S)
        for _ in range(tries):
            answer = await self._send(session, "/v1/signals", body, JSON | {SEED_HEADER: seed}, absent=404)
            if answer is not None and answer["data"]:
                event.signal = token
                return
            if answer is not None:
                seed = self._seed()
            await asyncio.sleep(ANSWERED_AGAIN_S)
        if event.is_signalled:
            self.wrong.append(f"no run took the signal of {event} in {TRIES_MAX} tries")

    async def _post(self, session: aiohttp.ClientSession, events: list[Sent], headers: dict[str, str]) -> bool:
        body: list[dict[str, Any]] = []
        for event in events:
            event.posts += 1
            body.append(
                {"name": f"chaos/{event.function}", "data": event.data} | ({"id": event.id} if event.id else {})
            )
        answer = await self._send(session, "/e/chaos", body if len(body) > 1 else body[0], headers)
        if answer is None:
            return False
        ids = answer["ids"]
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

    async def _send(
        self, session: aiohttp.ClientSession, path: str, body: object, headers: dict[str, str], *, absent: int = 200
    ) -> dict[str, Any] | None:
        """What was answered with 200, or with ``absent``; None: it may have been taken, or not."""
        self.counts.posts += 1
        try:
            async with session.post(self.url + path, data=msgspec.json.encode(body), headers=headers) as answer:
                text, status = await answer.read(), answer.status
        except (TimeoutError, aiohttp.ClientError, OSError):
            self.counts.unanswered += 1
            return None
        if status in (200, absent):
            found: dict[str, Any] = msgspec.json.decode(text)
            return found
        self.counts.refused += 1
        if status not in (503, 429):
            self.wrong.append(f"a good post to {path} was answered {status}: {text[:300]!r}")
        return None
