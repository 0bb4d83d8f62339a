"""A run of the chaos test: worlds, kills in each, and what is compared at the end of each."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from millstream.lane.ownership.restore import restore
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.embedded.verify import verify
from millstream.model.limits import DAY_MS
from millstream.model.place import Place
from millstream.state.dump import fingerprint
from millstream.state.memory import MemoryStore
from millstream.state.rocksdb import RocksBudget, RocksStore
from tests.chaos import limited, limits, verdict
from tests.chaos.app import app
from tests.chaos.pressure import Pressure
from tests.chaos.sender import Sender
from tests.chaos.verdict import RunLines
from tests.chaos.world import Shape, World

SHORT_HISTORY_MS = 25_000
READ_WITHIN_MS = 8_000
READS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much chaos. ``between_s``: how long a server that serves lives; ``drain_s``: what ending may take."""

    kills: int
    kills_per_world: int = 10
    between_s: tuple[float, float] = (0.1, 2.5)
    seed: int = 0
    rate: float = 120.0
    drain_s: float = 90.0
    directory: Path
    say: Callable[[str], None] = print

    def shapes(self) -> list[tuple[Shape, int]]:
        """The worlds, each with its number of kills; half of them with two or more lanes."""
        found: list[tuple[Shape, int]] = []
        left = self.kills
        while left > 0:
            number = len(found)
            shape = Shape(
                name=f"world{number}",
                lanes=(2, 1, 3, 1)[number % 4],
                durability="os" if number % 5 == 4 else "fsync",
                history_ms=SHORT_HISTORY_MS if number % 3 == 1 else DAY_MS,
                cli=number % 4 == 3,
            )
            found.append((shape, min(left, self.kills_per_world)))
            left -= self.kills_per_world
        return found


@dataclass
class Total:
    """What happened in all."""

    kills: int = 0
    events: int = 0
    acknowledged: int = 0
    runs: int = 0
    lines: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.events} events sent, {self.acknowledged} acknowledged, {self.runs} runs, "
            f"{self.lines} ledger lines: {len(self.wrong)} violations"
        )


async def run(plan: Plan) -> Total:
    """All worlds, one after another; a world with a violation is the last."""
    total = Total()
    for shape, kills in plan.shapes():
        plan.say(f"{shape}")
        world = World(plan.directory / shape.name, shape, random.Random(f"{plan.seed}/{shape.name}"))
        try:
            await _one(world, kills, plan, total)
        except AssertionError as error:
            total.wrong.append(str(error))
        finally:
            world.kill()
        if total.wrong:
            break
    return total


async def _one(world: World, kills: int, plan: Plan, total: Total) -> None:
    """A world from its first start to its comparison."""
    dice = random.Random(f"{plan.seed}/{world.shape.name}/posts")
    sender = Sender(world.url, plan.rate, dice, f"{plan.seed}-{world.shape.name}")
    pressure = Pressure((world.url,), random.Random(f"{plan.seed}/{world.shape.name}/limits"), world.shape.name)
    sending = asyncio.gather(sender.run(), pressure.run())
    try:
        world.start()
        for number in range(kills):
            killed = await world.live_and_die(plan.between_s)
            world.start()
            runs = verdict.by_run(world.read_ledger())
            plan.say(
                f"  kill {number + 1:3} {'serving ' if killed.served else 'starting'} at {killed.after_s:5.2f} s, "
                f"deleted {'+'.join(killed.wiped) or 'nothing':13} {sender.counts.acknowledged:6} acknowledged, "
                f"{len(runs):6} runs seen, {sum(r.last_ended for r in runs.values()):6} through"
            )
        await world.serving()
        sender.stop()
        pressure.stop()
        await sending
        begun = time.monotonic()
        runs = await _drained(world, sender, pressure, plan.drain_s)
        total.kills += kills
        total.events += len(sender.sent) + len(pressure.posted)
        total.acknowledged += sum(event.acknowledged for event in sender.sent) + len(pressure.posted)
        total.runs += len(runs)
        total.lines += sum(len(run.begins) + len(run.ends) for run in runs.values())
        plan.say(
            f"  drained in {time.monotonic() - begun:.1f} s: {len(runs)} runs; posts {vars(sender.counts)}; "
            f"serving again after {_median(world.served_after_s):.2f} s (median)"
        )
        total.wrong += sender.wrong + pressure.wrong
        total.wrong += limits.judge(pressure.posted, limited.read(world.ledger))
        total.wrong += verdict.unfinished(sender.sent, runs)
        total.wrong += verdict.started_twice(sender.sent, runs)
        total.wrong += verdict.answered_wrongly(sender.sent, runs)
        total.wrong += verdict.out_of_order(runs)
        total.wrong += await _compared(world, sender, runs)
        total.wrong += filter(None, [await world.stop()])
        total.wrong += await _at_rest(world)
    finally:
        sending.cancel()


async def _drained(world: World, sender: Sender, pressure: Pressure, within_s: float) -> dict[str, RunLines]:
    """The ledger once everything is over; a violation by itself if it never is."""
    deadline = time.monotonic() + within_s
    async with aiohttp.ClientSession() as session:
        while True:
            runs = verdict.by_run(world.read_ledger())
            left = verdict.unfinished(sender.sent, runs)
            left += limits.unfinished(pressure.posted, limited.read(world.ledger))
            stuck = await world.get(session, "/api/runs", status="Running,Queued", limit=5)
            if not left and not stuck:
                return runs
            if time.monotonic() > deadline:
                sender.wrong += [f"run {run['run_id']} of {run['function_id']} is stuck" for run in stuck]
                return runs
            await asyncio.sleep(0.2)


async def _compared(world: World, sender: Sender, runs: dict[str, RunLines]) -> list[str]:
    """What the product says of every acknowledged event and of every run, against the ledger."""
    wrong: list[str] = []
    oldest_ns = 0
    if world.shape.history_ms < DAY_MS:  # Older ones are rightly forgotten, or about to be.
        oldest_ns = time.monotonic_ns() - (world.shape.history_ms - READ_WITHIN_MS) * 1_000_000
    fresh = {name for name, run in runs.items() if run.begins and run.begins[0][1].at_ns > oldest_ns}
    of_event: dict[str, set[str]] = {}
    for name, run in runs.items():
        of_event.setdefault(run.event, set()).add(name)
    gate = asyncio.Semaphore(READS_AT_ONCE)

    async with aiohttp.ClientSession() as session:

        async def check_event(internal: str, names: set[str]) -> None:
            async with gate:
                found = await world.get(session, f"/v1/events/{internal}/runs")
            told = {run["run_id"] for run in found or ()}
            if not told <= names:
                wrong.append(f"event {internal}: the product names runs {told}, the ledger {names}")
            seen.update(told)

        async def check_run(name: str) -> None:
            async with gate:
                found = await world.get(session, f"/v1/runs/{name}")
            if found is None:
                wrong.append(f"run {name} is in the ledger and unknown to the product")
            else:
                wrong.extend(verdict.told_differently(found, runs.get(name)))

        seen: set[str] = set()
        acknowledged = [event for event in sender.sent if event.acknowledged]
        pairs = [
            (internal, set().union(*(of_event.get(name, set()) for name in event.names)))
            for event in acknowledged
            for internal in event.internal_ids
        ]
        await asyncio.gather(*(check_event(*pair) for pair in pairs))
        expected = {name for event in acknowledged for n in event.names for name in of_event.get(n, set())}
        wrong += [f"run {name} belongs to no event the product knows" for name in sorted((expected & fresh) - seen)]
        await asyncio.gather(*(check_run(name) for name in fresh))
    return wrong


async def _at_rest(world: World) -> list[str]:
    """The stopped log: every checksum holds, and restoring from topics alone gives what the local store holds."""
    findings = await asyncio.to_thread(verify, world.data / "log")
    wrong = [f"log {f.topic}/{f.partition}@{f.offset}: {f.problem}" for f in findings]
    log = await EmbeddedLog.open(world.data / "log", readonly=True)
    budget = RocksBudget()
    try:
        for lane in range(world.shape.lanes):
            place = Place(app.id, lane, world.shape.lanes, "events", -1)
            store = RocksStore(world.data / "state" / str(lane), budget)
            held, _ = await restore(log, place, store, lambda facts, left: None)
            afresh, _ = await restore(log, place, MemoryStore(), lambda facts, left: None)
            if fingerprint(held.durable) != fingerprint(afresh.durable):
                wrong.append(f"lane {lane}: restored from topics alone, its tables differ from the local store's")
            left = held.durable.runs.scan(limit=5)
            wrong += [f"lane {lane}: run {key} is open in the tables" for key, _ in left]
            store.close()
    finally:
        await log.close()
    return wrong


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
