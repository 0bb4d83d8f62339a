"""Pairs of events: one that starts a run, and the answer that the run waits for; who sends them over HTTP.

    start   ``pairs/start`` with an order's id, at one of the apis; sent again under its id until it is acknowledged
    answer  ``pairs/answer`` with the same order's id, 0 to 50 ms later, at any of the apis, in the same way

Half of the runs do a step before they wait, so that the answer is often read before anybody waits for it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec

from millstream import App, Context

START: Final = "pairs/start"
ANSWER: Final = "pairs/answer"
SLUG: Final = "chaos-ask"
WAIT: Final = "answer"
UNDER_WAY_MAX: Final = 500
ANSWERED_WITHIN_S: Final = 0.05
TRY_AGAIN_S: Final = 0.1
TRIES_MAX: Final = 600
POST_TIMEOUT_S: Final = 20.0


def declare(app: App) -> None:
    """Add the function that waits for an answer."""

    @app.function(on=START)
    async def ask(ctx: Context) -> dict[str, Any]:
        asked = ctx.event.data
        if asked["works"]:
            await ctx.step.run("before", int)
        came = await ctx.step.wait_for_event(WAIT, event=ANSWER, match="data.order_id", timeout=asked["wait_s"])
        answer = came.data["answer"] if came is not None else None
        return await ctx.step.run("after", lambda: {"order_id": asked["order_id"], "answer": answer})


def start_id(order: int) -> str:
    """The id of the event that starts the order's run."""
    return f"start-{order}"


def answer_id(order: int) -> str:
    """The id of the answer, which its data has as well."""
    return f"answer-{order}"


@dataclass
class Asker:
    """Sends pairs in random order, about ``rate`` a second; ``answered_ms``: when an answer was acknowledged."""

    urls: Sequence[str]
    pairs: int
    rate: float
    dice: random.Random
    wait_s: float
    answered_ms: dict[int, int] = field(default_factory=dict)
    posts_repeated: int = 0
    wrong: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Send all pairs; return when every event is acknowledged."""
        orders = list(range(self.pairs))
        self.dice.shuffle(orders)
        gate = asyncio.Semaphore(UNDER_WAY_MAX)
        timeout = aiohttp.ClientTimeout(total=POST_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            due_s = time.monotonic()
            for order in orders:
                due_s += self.dice.expovariate(self.rate)
                await asyncio.sleep(max(due_s - time.monotonic(), 0.0))
                await gate.acquire()
                task = tasks.create_task(self._pair(session, order))
                task.add_done_callback(lambda _: gate.release())

    async def _pair(self, session: aiohttp.ClientSession, order: int) -> None:
        works = self.dice.random() < 0.5
        start = {"order_id": order, "works": works, "wait_s": self.wait_s}
        await self._deliver(session, {"name": START, "id": start_id(order), "data": start})
        await asyncio.sleep(self.dice.uniform(0.0, ANSWERED_WITHIN_S))
        answer = {"order_id": order, "answer": answer_id(order)}
        await self._deliver(session, {"name": ANSWER, "id": answer_id(order), "data": answer})
        self.answered_ms[order] = time.time_ns() // 1_000_000

    async def _deliver(self, session: aiohttp.ClientSession, event: dict[str, Any]) -> None:
        body, url = msgspec.json.encode(event), self.dice.choice(self.urls)
        for _ in range(TRIES_MAX):
            try:
                async with session.post(f"{url}/e/pairs", data=body) as answer:
                    if answer.status == 200:
                        return
                    if answer.status not in (429, 503):
                        self.wrong.append(
                            f"{event['id']} was answered {answer.status}: {(await answer.read())[:300]!r}"
                        )
                        return
            except (TimeoutError, aiohttp.ClientError, OSError):
                pass
            self.posts_repeated += 1
            await asyncio.sleep(TRY_AGAIN_S)
        self.wrong.append(f"{event['id']} was not taken in {TRIES_MAX} tries")
