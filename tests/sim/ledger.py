"""What the functions themselves saw, kept outside of the product; and the rules that hold at those moments.

* Code never begins for a run, or an attempt, that is not durable.
* Code behind a step never sees a result that is not the recorded one, or not recorded yet.
* Once code has seen a step's result, that step's code never begins again (a zombie, cut off from the group, may).
* A step's code is under way at most once in a process.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from millstream.errors import StepError
from millstream.model.operations import failure_of
from tests.sim.loop import PROCESS, Killed
from tests.sim.programs import Planned

if TYPE_CHECKING:
    from tests.sim.world import World


class Ledger:
    """One for a whole world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = 0
        self._booms: Counter[tuple[str, str]] = Counter()
        self._seen: set[tuple[str, str]] = set()
        self._under_way: Counter[tuple[str, str, str]] = Counter()
        self.begun: Counter[tuple[str, str, int]] = Counter()
        self.planned: dict[str, Planned] = {}

    def true_ms(self) -> int:
        return self._world.true_ms()

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def boom(self, run: str, id: str, times: int) -> bool:
        """Whether to raise: as a service that is down so many times."""
        self._booms[run, id] += 1
        return self._booms[run, id] <= times

    def entered(self, run: str, planned: Planned) -> None:
        """A handler begins (or is led over its steps again)."""
        world = self._world
        self._alive()
        if run not in world.observer.starts:
            world.violate("act only on what is durable", f"the body of {run} began, which no record started")
        self.planned[run] = planned

    def remembers(self, run: str) -> bool:
        """Whether a step of the run has ended, so that its body is gone over again."""
        observer = self._world.observer
        return any(of == run for ended in (observer.results, observer.failures) for of, _ in ended)

    def began(self, run: str, step: str, attempt: int) -> None:
        """A step's code begins."""
        world, process = self._world, PROCESS.get()
        self._alive()
        process_name = process.name if process is not None else ""
        world.trace("%s: code of %s %s attempt %d begins", process_name, run[-6:], step, attempt)
        observer = world.observer
        if run not in observer.starts:
            world.violate("act only on what is durable", f"step {step} of {run} began, which no record started")
        if attempt > 0 and (run, step, attempt - 1) not in observer.attempts_ever_failed:
            world.violate(
                "act only on what is durable", f"attempt {attempt} of {run} {step}, the one before is not over"
            )
        if (run, step) in self._seen and world.owns_truly(process, run):
            world.violate(
                "no step begins after its result was seen", f"step {step} of {run} began again in {process_name}"
            )
        if self._under_way[process_name, run, step]:
            world.violate("one execution at a time", f"step {step} of {run} is under way in {process_name} already")
        self._under_way[process_name, run, step] += 1
        self.begun[run, step, attempt] += 1

    def left(self, run: str, step: str) -> None:
        """A step's code has ended, however."""
        process = PROCESS.get()
        if not self._world.over:
            self._under_way[process.name if process is not None else "", run, step] -= 1

    def under_way(self) -> list[tuple[str, str, str]]:
        """Process, run and step of all code that executes in a process that lives."""
        living = {machine.process.name for machine in self._world.machines if machine.up}
        return [place for place, times in self._under_way.items() if times and place[0] in living]

    def saw(self, run: str, step: str, value: Any) -> None:
        """The body has the result of a step."""
        self._alive()
        world = self._world
        self._seen.add((run, step))
        if isinstance(value, StepError):
            failed = world.observer.failures.get((run, step))
            if failed is None or failure_of(failed).message != str(value):
                world.violate("a body sees recorded results only", f"{run} saw {step} fail with {value}: {failed!r}")
            return
        recorded = world.observer.results.get((run, step))
        if recorded is None or msgspec.json.decode(recorded) != value:
            world.violate("a body sees recorded results only", f"{run} saw {step} = {value}, recorded: {recorded!r}")

    def _alive(self) -> None:
        if self._world.over:
            raise Killed
