"""The proof of waiting on a real broker: pairs of events at a fleet whose workers are killed, and what came of them.

load   ``Asker`` at two apis
fire   ``Storm``: kill -9 of workers, one or several at once, which come back at once or after their session
end    every run has ended once, with its answer and before its time; every lane is live and its journal is whole
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.chaos.on_kafka.fleet import LANES, Fleet
from tests.chaos.on_kafka.pairs.asking import Asker
from tests.chaos.on_kafka.pairs.verdict import Judged, judge
from tests.chaos.on_kafka.storm import KILLS, Storm
from tests.kafka.broker import Broker, fresh, own_broker
from tests.kafka.fleet import journals


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many pairs, at about ``rate`` a second. ``broker``: one that runs; None: one of its own.

    ``wait_s``: a run that has no answer by then ends without one, which is a violation. ``script``: see ``Storm``.
    """

    pairs: int = 10_000
    rate: float = 100.0
    wait_s: float = 180.0
    pause_s: tuple[float, float] = (0.3, 2.0)
    drain_s: float = 240.0
    seed: int = 0
    script: tuple[str, ...] = ()
    broker: Broker | None = None
    directory: Path
    say: Callable[[str], None] = print


@dataclass
class Total:
    """What happened in all. ``seconds``: from the first event to the last answer that a run took."""

    acts: Counter[str] = field(default_factory=Counter)
    killed: int = 0
    judged: Judged = field(default_factory=Judged)
    seconds: float = 0.0
    late_ms: list[int] = field(default_factory=list)
    repeated: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        resolved, late = len(self.judged.resolved_ms), sorted(self.late_ms) or [0]
        return (
            f"{len(self.judged.runs)} runs, {resolved} waits resolved in {self.seconds:.0f} s "
            f"({resolved / (self.seconds or 1):.0f}/s), {self.judged.by_timeout} by timeout; behind the answer "
            f"{late[len(late) // 2]} ms p50, {late[len(late) * 99 // 100]} ms p99, {late[-1]} ms at most; "
            f"{self.killed} workers killed, {self.repeated} posts repeated: {len(self.wrong)} violations"
        )


async def run(plan: Plan) -> Total:
    """The whole of it."""
    total = Total()
    with ExitStack() as stack:
        broker = plan.broker or stack.enter_context(own_broker(plan.directory, 1, "--load"))
        fleet = Fleet(plan.directory, broker, copies=1, group=fresh("pairs"))
        stack.callback(fleet.kill)
        try:
            fleet.apply_topics()
            await fleet.start()
            await _fire(fleet, plan, total)
        except AssertionError as error:
            total.wrong.append(str(error))
    return total


async def _fire(fleet: Fleet, plan: Plan, total: Total) -> None:
    urls = [api.url for api in fleet.apis]
    asker = Asker(urls, plan.pairs, plan.rate, random.Random(f"{plan.seed}/pairs"), plan.wait_s)
    dice = random.Random(f"{plan.seed}/storm")
    storm = Storm(fleet, dice, plan.pause_s, plan.say, plan.script, KILLS)
    begun, begun_ms = time.monotonic(), time.time_ns() // 1_000_000
    fire, load = asyncio.ensure_future(storm.run()), asyncio.ensure_future(asker.run())
    try:
        await load
        plan.say(f"  all is acknowledged after {time.monotonic() - begun:.0f} s")
        if not plan.script:
            storm.stop()
        await fire
    finally:
        fire.cancel()
        load.cancel()
    storm.restore()
    total.acts, total.repeated = storm.did, asker.posts_repeated
    total.wrong += [*storm.wrong, *asker.wrong]
    total.killed = sum(len(worker.pids) - 1 for worker in fleet.workers)
    total.judged = await _drained(fleet, plan)
    total.wrong += total.judged.wrong
    resolved = total.judged.resolved_ms
    total.seconds = (max(resolved.values(), default=begun_ms) - begun_ms) / 1_000
    total.late_ms = [max(at_ms - asker.answered_ms[order], 0) for order, at_ms in resolved.items()]
    total.wrong += await fleet.wrong_lanes()


async def _drained(fleet: Fleet, plan: Plan) -> Judged:
    """The journals once every run is over; or as they are when that takes too long."""
    deadline = time.monotonic() + plan.drain_s
    async with aiohttp.ClientSession() as session:
        while True:
            late = time.monotonic() > deadline
            if late or not await fleet.read(session, "/api/runs", status="Running,Queued", limit=1):
                records = await journals(fleet.broker.bootstrap, fleet.group, LANES)
                judged = await asyncio.to_thread(judge, records, range(plan.pairs))
                if late or len(judged.closed) >= plan.pairs:
                    return judged
            await asyncio.sleep(0.5)
