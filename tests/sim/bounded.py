"""Functions that are bounded from outside: events that cancel their runs, and times by which they must be over.

    hold   an event with a number; its functions work on it for a minute
    halt   sent by a client: the run of that number is to be cancelled

The model knows the outcomes: a run is cancelled by its own halt or by its own time and by nothing else; one whose halt
was acknowledged does not come to its end long after; and code that executes is told that its run is over, wherever.
"""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

from millstream.model import facts as f
from tests.sim.programs import Planned, Sleep, Step
from tests.sim.waits import Sender

if TYPE_CHECKING:
    from tests.sim.world import World

APP = "bounded"
HALT = "halt"
WORK_S = 60.0
FINISH_S = 40.0
FULL_MAX = 100
"""An executor with room for more bodies than these is never full."""
HEEDED_S = 25.0
"""When all is well, an acknowledged halt has done its work after so long, and so has an end."""


def plan(rng: Random) -> list[Planned]:
    """Functions that take long."""
    work = Step("work", length_s=WORK_S)
    return [
        Planned(f"{APP}-hold", "hold", "hold/0", (work,), 1, False, halt=HALT),
        Planned(f"{APP}-timed", "timed", "hold/1", (Sleep("first", rng.choice((0.0, 1.0))), work), 1, False,
                halt=HALT if rng.random() < 0.5 else "", finish_s=FINISH_S),
    ]  # fmt: skip


class Bounded(Sender):
    """Who starts such runs and halts them; and what they know afterwards."""

    def __init__(self, world: World, rng: Random) -> None:
        super().__init__(world, rng)
        self.planned = plan(rng) if rng.random() < 0.35 else []
        self.halted: dict[int, float] = {}
        """The numbers whose halt was acknowledged, and when."""
        self.tried: set[int] = set()
        self.ended_s: dict[str, float] = {}

    async def run(self, length_s: float) -> None:
        """Start and halt for so long."""
        if not self.planned:
            return
        rng, world = self._rng, self._world
        ends_s = world.loop.now_s + length_s
        number = 0
        while world.loop.now_s < ends_s:
            await self._pause(rng.expovariate(4 / length_s))
            number += 1
            if await self._append(rng.choice(self.planned).event, {"q": number}) is None:
                continue
            if rng.random() < 0.7:
                await self._pause(rng.choice((0.0, 0.3, 2.0)))
                self.tried.add(number)
                if await self._append(HALT, {"q": number}) is not None:
                    self.halted[number] = world.loop.now_s

    # --- what the journals say ----------------------------------------------------------------

    def ended(self, run: str) -> None:
        """A run is over."""
        self.ended_s[run] = self._world.loop.now_s

    def may_be_cancelled(self, run: str) -> bool:
        """Whether the run's halt may have come, or its time was over."""
        fact, start = self._world.observer.ends[run], self._world.observer.starts[run]
        planned = self._world.planned.get(start.function)
        if planned is None or not isinstance(fact, f.RunCancelled):
            return False
        if "timeouts.finish" in fact.reason:
            return bool(planned.finish_s)
        return bool(planned.halt) and self._number(run) in self.tried

    def _number(self, run: str) -> int:
        observer = self._world.observer
        (event, *_) = observer.starts[run].events
        return int(json.loads(observer.accepted[event].data).get("q", 0))

    def check(self) -> None:
        """No halt was lost, and no time passed over."""
        world, observer = self._world, self._world.observer
        for run, start in observer.starts.items():
            planned, end = world.planned.get(start.function), observer.ends.get(run)
            if planned is None or not isinstance(end, f.RunCompleted) or not (planned.halt or planned.finish_s):
                continue
            # A lane reads no events while its executor is full: then a halt waits with all others.
            is_heeded = planned.halt and world.live_bodies_max > FULL_MAX
            halted_s = self.halted.get(self._number(run)) if is_heeded else None
            if halted_s is not None and self.ended_s[run] > max(halted_s, world.healed_s) + HEEDED_S:
                world.violate("an event that cancels is not lost (rule 31)", f"{end}, halted at {halted_s:.1f} s")
            took_ms = observer.ended_ms[run] - observer.queued_ms[run]
            if planned.finish_s and took_ms > (planned.finish_s + HEEDED_S) * 1000 and not world.weather.jumps:
                world.violate("a run is over by its time", f"{end} after {took_ms} ms")

    def look(self) -> None:
        """While all is well: nobody still works for a run that is long over."""
        world = self._world
        if world.loop.now_s < world.healed_s + HEEDED_S:
            return
        for process, run, step in world.ledger.under_way():
            ended_s = self.ended_s.get(run)
            if ended_s is not None and world.loop.now_s > ended_s + HEEDED_S:
                world.violate(
                    "code that executes is told that its run is over", f"{process} still runs {step} of {run}"
                )
