"""Faults in what bounds runs from outside: their halts, their times, and whoever executes them then."""

from __future__ import annotations

from typing import Any

from millstream.core import nouns, starting
from millstream.core.runs import bounds
from millstream.core.timers import FINISH
from millstream.lane.ownership.ends_elsewhere import EndsElsewhere
from millstream.model.facts import Post
from tests.lane import test_timers
from tests.sim.mutants.mutant import Mutant, Patch, on_loop


def _ask_no_home(patch: Patch) -> None:
    """The run has places of events that cancel it, and nobody there knows of it."""

    def bounded(*given: Any) -> list[Any]:
        return [fact for fact in bounds.bounded(*given) if type(fact) is not Post]

    patch.set(starting, "bounded", bounded)


def _end_runs_only_while_there_is_room(patch: Patch) -> None:
    patch.set(nouns.FIRE, FINISH, nouns.FIRE[FINISH]._replace(starts_work=True))


def _tell_no_former_owner(patch: Patch) -> None:
    def look(self: Any, value: bytes | None) -> None:
        """Whatever the next owner records, we execute on."""

    patch.set(EndsElsewhere, "_look", look)


async def _full_of_runs_that_hang() -> None:
    bench = test_timers.Bench()
    await test_timers.test_what_ends_runs_or_looks_on_fires_while_the_executor_is_full(bench, FINISH)
    bench.timers.close()


MUTANTS: tuple[Mutant, ...] = (
    Mutant("ask no home for what cancels a run", "31", _ask_no_home),
    Mutant(
        "end runs by their time only while there is room for others",
        "32",
        _end_runs_only_while_there_is_room,
        on_loop(_full_of_runs_that_hang),
    ),
    Mutant("tell no former owner of a cancel", "25", _tell_no_former_owner),
)
