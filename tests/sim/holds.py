"""Functions that are held where they have failed for good, and the operator who resumes them or lets them fail.

The model knows the outcomes: nothing of such a function fails unless the operator has asked for it while it was held;
what is held is tried again only where the operator has asked for that; and each run ends.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

from millstream.errors import LogUnavailable
from millstream.log.port import Produced
from millstream.model import facts as f
from millstream.model.ids import lane_of
from millstream.model.messages import InboxRecord, group_topic
from millstream.model.run_requests import FailRun, ResumeRun
from millstream.wire.messages import encode_inbox
from tests.sim.programs import Boom, Down, Gather, Op, Planned, Program, Sleep, Step

if TYPE_CHECKING:
    from tests.sim.world import World

APP = "holds"


def plan(rng: Random) -> list[Planned]:
    """One or two functions that are held."""
    planned = []
    for number in range(rng.randint(1, 2)):
        retries = rng.choice([0, 0, 1, 2])
        program = _program(rng, retries)
        planned.append(Planned(f"{APP}-f{number}", f"f{number}", f"hold/{number}", program, retries, False, holds=True))
    return planned


def _program(rng: Random, retries: int) -> Program:
    def down(id: str) -> Down:
        return Down(id, rng.randint(1, 2 * retries + 2), final=rng.random() < 0.2, caught=rng.random() < 0.5)

    ops: list[Op] = [down("down")]
    if rng.random() < 0.4:
        ops.append(Gather(((down("left"), Step("then")), (down("right"),))))
    if rng.random() < 0.4:
        ops.append(Boom("boom", rng.randint(1, 2 * retries + 2)))
    if rng.random() < 0.3:
        ops.append(Sleep("sleep", 1.0))
    rng.shuffle(ops)
    return tuple(ops)


class Holds:
    """The operator, and what came of it."""

    def __init__(self, world: World, rng: Random) -> None:
        self._world = world
        self._rng = rng
        self.planned = plan(rng) if rng.random() < 0.3 else []
        self._resumed: set[str] = set()
        self._let_fail: set[str] = set()
        """The runs for which the operator has asked so, heard or not."""
        self._held: set[tuple[str, str]] = set()
        """What is held, by the journals."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on somebody looks after held runs; in no process, which may be killed."""
        if self.planned:
            self._task = self._world.loop.create_task(self._operate(), context=self._world.context)

    async def _operate(self) -> None:
        rng, world = self._rng, self._world
        while not world.over:
            await asyncio.sleep(rng.choice([0.1, 0.5, 2.0]))
            for lane in world.observer.lanes:
                for run in dict.fromkeys(row.run for _, row in lane.tables.held.scan(limit=100)):
                    if rng.random() < 0.6:
                        await self._decide(run)

    async def _decide(self, run: str) -> None:
        world, request = self._world, self._world.clients.new_id()
        message: ResumeRun | FailRun
        if self._rng.random() < 0.7:
            message = ResumeRun(run, request, 0)
            self._resumed.add(run)
        else:
            message = FailRun(run, request, 0)
            self._let_fail.add(run)
        record = Produced(encode_inbox(InboxRecord(-1, 0, message)))
        log = world.cluster.client("api")
        for _ in range(2 if self._rng.random() < 0.3 else 1):
            writer = log.writer(group_topic("sim", "inbox"), lane_of(run, world.lanes))
            try:
                await writer.append([record])
                world.clients.asked[request] = message
            except LogUnavailable:
                pass
            await writer.close()
        world.trace("operator: %s", message)

    # --- what the journals say ----------------------------------------------------------------

    def held(self, fact: f.StepHeld | f.BodyHeld) -> None:
        """Something is held."""
        step = fact.step if isinstance(fact, f.StepHeld) else ""
        if not self._is_ours(fact.run):
            self._world.violate("only functions that want it are held", f"{fact}")
        if (fact.run, step) in self._held:
            self._world.violate("what is held is held once", f"{fact}")
        self._held.add((fact.run, step))

    def resumed(self, fact: f.HeldResumed) -> None:
        """Something is tried again."""
        if fact.run not in self._resumed or (fact.run, fact.step) not in self._held:
            self._world.violate("what is held waits for an operator", f"{fact}")
        self._held.discard((fact.run, fact.step))

    def done(self, run: str, step: str) -> None:
        """A late success ends a hold."""
        self._held.discard((run, step))

    def failed(self, fact: f.StepFailed | f.RunFailed) -> None:
        """A step or run of such a function fails only from a hold, or since the body has let a StepError through."""
        if not self._is_ours(fact.run):
            return
        step = fact.step if isinstance(fact, f.StepFailed) else ""
        was_held = (fact.run, step) in self._held
        passed_on = not step and any(run == fact.run for run, _ in self._world.observer.failures)
        if fact.run not in self._let_fail or not (was_held or passed_on):
            self._world.violate("what is held waits for an operator", f"{fact}")
        self._held.discard((fact.run, step))

    def _is_ours(self, run: str) -> bool:
        start = self._world.observer.starts.get(run)
        return start is not None and start.function.startswith(f"{APP}-")

    # --- the end ------------------------------------------------------------------------------

    def check(self) -> None:
        """Nothing is held any more."""
        for lane in self._world.observer.lanes:
            rows: Any = lane.tables.held.scan(limit=1)
            if rows:
                self._world.violate("nothing is held when all runs are over", f"{rows}")
