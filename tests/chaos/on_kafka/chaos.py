"""A run of the chaos test on Kafka: a fleet under load and under fire, and what is compared when it is over.

    load   events over HTTP at two apis (``Sender``), and many more straight to the topic (``Pourer``)
    fire   ``Storm``
    end    the fire stops, everything acknowledged must come to its end, every lane must be live

Compared are what the clients were told, what the step functions wrote, what the history says, and the journals.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec

from tests.chaos import limited, limits, verdict
from tests.chaos.functions import Line
from tests.chaos.on_kafka.fleet import Fleet
from tests.chaos.on_kafka.storm import Storm
from tests.chaos.on_kafka.volume import Pourer, judge
from tests.chaos.pressure import Pressure
from tests.chaos.sender import Sender
from tests.chaos.verdict import RunLines
from tests.kafka.broker import own_broker

READS_AT_ONCE = 16
SENDERS_RATE = 0.5  # Of the rate over HTTP: there are two apis.


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much chaos. ``volume``: events straight to the topic, at most so many; ``rate``: events a second by HTTP.

    ``script``: see ``Storm``; with one, ``seconds`` is the longest it may take.
    """

    seconds: float
    brokers: int = 3
    volume: int = 1_000_000
    volume_rate: float = 1_500.0
    rate: float = 40.0
    pause_s: tuple[float, float] = (1.0, 8.0)
    drain_s: float = 180.0
    seed: int = 0
    script: tuple[str, ...] = ()
    directory: Path
    say: Callable[[str], None] = print


@dataclass
class Total:
    """What happened in all."""

    acts: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    runs: int = 0
    again: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        acts = ", ".join(f"{count} {name}" for name, count in self.acts.most_common())
        return (
            f"{self.seconds:.0f} s, {self.acknowledged} events acknowledged, {self.runs} runs "
            f"({self.again} second executions of a step), {acts or 'no fire'}: {len(self.wrong)} violations"
        )


async def run(plan: Plan) -> Total:
    """The whole of it."""
    total = Total()
    with own_broker(plan.directory, plan.brokers, "--load") as broker:
        fleet = Fleet(plan.directory, broker, copies=min(plan.brokers, 3))
        try:
            fleet.apply_topics()
            await fleet.start()
            await _fire(fleet, plan, total)
        except AssertionError as error:
            total.wrong.append(str(error))
        finally:
            fleet.kill()
    return total


async def _fire(fleet: Fleet, plan: Plan, total: Total) -> None:
    begun = time.monotonic()
    senders = [
        Sender(api.url, plan.rate * SENDERS_RATE, random.Random(f"{plan.seed}/{api.name}"), f"{plan.seed}-{api.name}")
        for api in fleet.apis
    ]
    pourer = Pourer(fleet.broker.bootstrap, fleet.volume, total=plan.volume, rate=plan.volume_rate)
    pressure = Pressure(tuple(api.url for api in fleet.apis), random.Random(f"{plan.seed}/limits"), f"{plan.seed}", 1.5)
    storm = Storm(fleet, random.Random(f"{plan.seed}/storm"), plan.pause_s, plan.say, plan.script)
    load = [asyncio.ensure_future(one.run()) for one in (*senders, pressure, pourer)]
    fire = asyncio.ensure_future(storm.run())
    telling = asyncio.ensure_future(_tell(plan, pourer, begun))
    try:
        if plan.script:
            await asyncio.wait([fire], timeout=plan.seconds)
        else:
            await asyncio.wait([*load, fire], timeout=plan.seconds, return_when="FIRST_EXCEPTION")
        storm.stop()
        await fire  # What it took away comes back first: acknowledgements need the brokers.
        for one in (*senders, pressure, pourer):
            one.stop()
        await asyncio.gather(*load)
    finally:
        for task in (*load, fire, telling):
            task.cancel()
    total.acts, total.wrong = storm.did, [*total.wrong, *storm.wrong]
    storm.restore()
    plan.say(f"  fire over after {time.monotonic() - begun:.0f} s; waiting for the end of everything acknowledged")
    await _judge(fleet, plan, total, (senders, pressure, pourer), storm)
    total.seconds = time.monotonic() - begun


async def _tell(plan: Plan, pourer: Pourer, begun: float) -> None:
    while True:
        await asyncio.sleep(15.0)
        poured = pourer.poured
        plan.say(
            f"  {time.monotonic() - begun:7.1f} s poured {poured.sent}, acknowledged {len(poured.acknowledged)}, "
            f"through {pourer.through()}"
        )


async def _judge(
    fleet: Fleet, plan: Plan, total: Total, load: tuple[list[Sender], Pressure, Pourer], storm: Storm
) -> None:
    begun = time.monotonic()
    senders, pressure, pourer = load
    sent = [event for sender in senders for event in sender.sent]
    runs = await _drained(fleet, plan, total, (sent, pressure, pourer))
    plan.say(f"  drained in {time.monotonic() - begun:.1f} s")
    with fleet.volume.open("rb") as lines:
        seen = await asyncio.to_thread(judge, lines, storm.halts)
    total.acknowledged = sum(event.acknowledged for event in sent) + len(pourer.poured.acknowledged)
    total.acknowledged += len(pressure.posted)
    total.runs, total.again = len(runs) + seen.runs, seen.again
    missing = pourer.poured.acknowledged - seen.finished
    if missing:
        total.wrong.append(f"{len(missing)} acknowledged records have no finished run, such as volume-{min(missing)}")
    total.wrong += seen.wrong[:50]
    for sender in senders:
        total.wrong += sender.wrong
    total.wrong += pressure.wrong
    total.wrong += limits.judge(pressure.posted, limits.without(limited.read(fleet.ledger), storm.halts))
    total.wrong += verdict.unfinished(sent, runs)
    total.wrong += verdict.started_twice(sent, runs)
    total.wrong += verdict.answered_wrongly(sent, runs)
    total.wrong += verdict.out_of_order(runs, storm.halts)
    total.wrong += await _compared(fleet, runs, plan)
    total.wrong += await fleet.wrong_lanes()


async def _drained(
    fleet: Fleet, plan: Plan, total: Total, load: tuple[list[verdict.Sent], Pressure, Pourer]
) -> dict[str, RunLines]:
    """The ledger once everything is over; a violation if it never is."""
    sent, pressure, pourer = load
    deadline = time.monotonic() + plan.drain_s
    decode = msgspec.json.Decoder(Line).decode
    async with aiohttp.ClientSession() as session:
        while True:
            lines = fleet.ledger.read_bytes().splitlines() if fleet.ledger.exists() else []
            runs = verdict.by_run([decode(line) for line in lines])
            left = verdict.unfinished(sent, runs)
            left += limits.unfinished(pressure.posted, limited.read(fleet.ledger))
            stuck = [] if left else await fleet.read(session, "/api/runs", status="Running,Queued", limit=5)
            if not left and not stuck and pourer.through() >= len(pourer.poured.acknowledged) - 1:
                return runs
            if time.monotonic() > deadline:
                total.wrong += [f"run {run['run_id']} of {run['function_id']} is stuck" for run in stuck or ()]
                return runs
            await asyncio.sleep(1.0)


async def _compared(fleet: Fleet, runs: dict[str, RunLines], plan: Plan) -> list[str]:
    """What the history says of every run with a ledger of its own."""
    wrong: list[str] = []
    gate = asyncio.Semaphore(READS_AT_ONCE)
    async with aiohttp.ClientSession() as session:

        async def check(name: str) -> None:
            async with gate:
                found = await fleet.read(session, f"/v1/runs/{name}")
            if found is None:
                wrong.append(f"run {name} is in the ledger and unknown to the history")
            else:
                wrong.extend(verdict.told_differently(found, runs[name]))

        await asyncio.gather(*(check(name) for name in runs))
    return wrong
