"""Faults in cancelling many runs: every run of the range ends, on every lane, and none outside of it does."""

from __future__ import annotations

from typing import Any

from millstream.core import nouns
from millstream.core.handles import Handler
from millstream.core.runs import cancellations
from millstream.core.timers import CANCEL
from millstream.model.facts import CancellationAdvanced, CancellationEnded
from tests.sim.mutants.mutant import Mutant, Patch


def _forget_to_go_on(patch: Patch) -> None:
    """The first page is taken for all."""

    def look(tables: Any, command: Any, now_ms: int) -> list[Any]:
        facts = cancellations.look_on(tables, command, now_ms)
        if any(type(fact) is CancellationEnded for fact in facts):
            return facts
        (page,) = (fact for fact in facts if type(fact) is CancellationAdvanced)
        return [*facts, CancellationEnded(command.id, page.lane, False, page.looked, page.cancelled)]

    patch.set(nouns.FIRE, CANCEL, Handler(look))


def _tell_no_other_lane(patch: Patch) -> None:
    patch.set(cancellations, "_told", lambda tables, message: [])


def _pass_over_the_range(patch: Patch) -> None:
    patch.set(cancellations, "_is_in_range", lambda row, run: run.function == row.function)


def _pass_over_the_expression(patch: Patch) -> None:
    patch.set(cancellations, "_fits", lambda expression, event: True)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("take the first page of runs for all", "32", _forget_to_go_on),
    Mutant("tell no other lane of a cancellation", "32", _tell_no_other_lane),
    Mutant("cancel runs of any time", "32", _pass_over_the_range),
    Mutant("cancel whatever the expression says", "32", _pass_over_the_expression),
)
