"""Functions with limits, and the check that none is ever exceeded: not by crashes, not by owners that change.

The journals are looked at in the order in which they are written, over all lanes: whatever has passed a gate and counts
there is counted after each record. What a limit holds back must come to its end like every run.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

from millstream.core.flow.gates import way_of
from millstream.core.triggers.readable import readable
from millstream.model import facts as f
from millstream.model.event import Envelope
from millstream.model.ids import run_id
from millstream.model.journal import JournalRecord
from millstream.model.rows import Hand, RunRow
from millstream.sdk.flow import Batch, Concurrency, Debounce, RateLimit, Singleton, Throttle
from tests.sim.programs import Gather, Planned, Program, Sleep, Step
from tests.sim.waits import Sender

if TYPE_CHECKING:
    from tests.sim.world import World

APP = "gates"
KEY = "event.data.q"
KEYS = 3


def plan(rng: Random) -> list[Planned]:
    """Functions with gates, alone and together; some share one."""
    shared = Concurrency(rng.randint(1, 2), key="'all'", scope="env", per=rng.choice(["step", "run"]))
    planned = []
    for number in range(rng.randint(1, 3)):
        options: dict[str, Any] = {}
        rules = [Concurrency(rng.randint(1, 2), key=rng.choice(["", KEY]), per=rng.choice(["step", "step", "run"]))]
        if rng.random() < 0.5:
            rules = [*rules, shared] if rng.random() < 0.5 else [shared]
        if rng.random() < 0.8:
            options["concurrency"] = rules
        if rng.random() < 0.4 or not options:
            options["throttle"] = Throttle(rng.randint(1, 4), "1s", burst=rng.randint(1, 2), key=rng.choice(["", KEY]))
        if rng.random() < 0.4:
            options |= _admitting(rng)
            if "singleton" in options and "concurrency" in options:  # One open run: others to count there are none.
                counted = [rule for rule in rules if rule.per == "step" or rule.scope != "fn"]
                options["concurrency"] = counted or [shared]
        elif rng.random() < 0.25 and all(rule.per == "step" for rule in options.get("concurrency", ())):
            options["ordered_by"] = KEY
            options.pop("throttle", None)
        slug = f"{APP}-gate{number}"
        planned.append(
            Planned(slug, f"gate{number}", f"gate/{number}", _program(rng), 1, False, flow=tuple(options.items()))
        )
    return planned


def _admitting(rng: Random) -> dict[str, Any]:
    """A gate that says whether an event starts a run."""
    kind, key = rng.randrange(5), rng.choice(["", KEY])
    if kind == 0:
        return {"debounce": Debounce("1s", key=key, timeout=rng.choice([None, "2s"]))}
    if kind == 1:
        return {"batch": Batch(rng.randint(2, 4), "1s", key=key, if_=rng.choice(["", "event.data.q != 1"]))}
    if kind == 2:
        return {"rate_limit": RateLimit(rng.randint(1, 3), "2s", key=key)}
    if kind == 3:
        return {"idempotency": KEY}
    return {"singleton": Singleton(rng.choice(["skip", "cancel", "latest"]), key=key)}


def _program(rng: Random) -> Program:
    ops: list[Any] = [Step("first", fails=rng.choice([0, 0, 1]), length_s=rng.choice([0.0, 0.2]))]
    if rng.random() < 0.4:
        ops.append(Sleep("rest", rng.choice([0.05, 1.0])))
    if rng.random() < 0.4:
        ops.append(Gather(tuple((Step(f"part{n}", length_s=rng.choice([0.0, 0.2])),) for n in range(3))))
    return tuple(ops)


class Gates(Sender):
    """Who sends events through gates, and what the journals say of them."""

    def __init__(self, world: World, rng: Random) -> None:
        super().__init__(world, rng)
        self.planned = plan(rng) if rng.random() < 0.4 else []

    async def run(self, length_s: float) -> None:
        """Send for so long: sometimes many at once, so that some must queue."""
        rng, world = self._rng, self._world
        ends_s = world.loop.now_s + length_s
        while self.planned and world.loop.now_s < ends_s:
            await asyncio.sleep(rng.expovariate(5 / length_s))
            for _ in range(rng.choice([1, 1, 4])):
                await self._append(rng.choice(self.planned).event, {"q": rng.randrange(KEYS)})

    def is_accounted_for(self, planned: Planned, event: Envelope) -> bool:
        """Whether an event has started a run of a function with gates, alone or with others, or was skipped."""
        observer = self._world.observer
        key = (event.internal_id, planned.slug)
        run = self._run_of(planned, event)
        return run in observer.starts or key in observer.skipped or key in observer.started_with

    def is_gated(self, slug: str) -> bool:
        """Whether the function has gates."""
        spec = self._world.specs.get(slug)
        return spec is not None and spec.flow is not None

    def may_be_cancelled(self, run: str) -> bool:
        """Whether a newer event may have cancelled the run."""
        spec = self._world.specs.get(self._world.observer.starts[run].function)
        flow = spec.flow if spec is not None else None
        return flow is not None and flow.singleton is not None and flow.singleton.mode == "cancel"

    def _run_of(self, planned: Planned, event: Envelope) -> str:
        """The id of the run that an event starts alone."""
        spec = self._world.specs[planned.slug]
        way = way_of(spec, readable(event), event.received_at_ms, lane=0, lanes=self._world.lanes)
        return run_id(event.ts_ms, event.internal_id, planned.slug, "", lane=way.lane, lanes=self._world.lanes)

    def recorded(self, record: JournalRecord) -> None:
        """A record was written: whatever passed a gate has found room there."""
        if not any(type(fact) is f.GatePassed for fact in record.facts):
            return
        counted: Counter[str] = Counter()
        most: dict[str, int] = {}
        for lane in self._world.observer.lanes:
            for id, run in lane.tables.runs.scan(limit=1_000):
                if run.flow is None:
                    continue
                rows = [lane.tables.steps.get((id, step)) for step in run.steps]
                out = (run.body == Hand.OUT) + sum(row is not None and row.hand == Hand.OUT for row in rows)
                for place in run.flow.slots:
                    counted[place] += out
                for place in run.flow.gates[: run.flow.passed]:
                    counted[place] += 1
                self._limits(run, most)
        for place, limit in most.items():
            if counted[place] > limit:
                self._world.violate("no limit is exceeded", f"{counted[place]} at {place}, the limit is {limit}")

    def _limits(self, run: RunRow, most: dict[str, int]) -> None:
        assert run.flow is not None
        flow = self._world.specs[run.function].flow
        assert flow is not None
        for place in (*run.flow.gates, *run.flow.slots):
            _, gate, _, rest = place.split("/", 3)
            if gate == "order":
                most[place] = 1
            for rule in flow.concurrency:
                whose = run.function if rule.scope == "fn" else rule.scope
                if gate == {"step": "steps", "run": "runs"}[rule.per] and rest.startswith(f"{whose}/"):
                    most[place] = max(most.get(place, 0), rule.limit)

    def check(self) -> None:
        """Nobody is at a gate when all runs are over."""
        for lane in self._world.observer.lanes:
            of = lane.tables
            for table in (of.asks, of.queues, of.kept_starts, of.batches, of.singletons):
                for key, row in table.scan(limit=1):
                    self._world.violate("nobody is at a gate when all runs are over", f"{key}: {row}")
