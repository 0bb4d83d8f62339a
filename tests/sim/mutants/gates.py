"""Faults at gates: no limit is exceeded, nobody waits for ever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from millstream.core import settle
from millstream.core.flow import gates, passage, queues
from millstream.core.flow.kinds import Room
from millstream.core.runs import ending
from millstream.model.facts import GateOpened
from tests.sim.mutants.mutant import Mutant, Patch


def _let_one_more_pass(patch: Patch) -> None:
    for name in ("steps", "runs"):
        gate = gates.QUEUE_GATES[name]

        def room(flow: Any, rule: str, row: Any, now_ms: int, real: Any = gate.room) -> Room:
            found: Room = real(flow, rule, replace_held(row), now_ms)
            return found

        patch.set(gates.QUEUE_GATES, name, replace(gate, room=room))


def replace_held(row: Any) -> Any:
    """The gate as if one fewer counted there."""
    return queues.replace(row, held=max(row.held - 1, 0))


def _keep_what_is_over(patch: Patch) -> None:
    patch.set(ending, "leaving", lambda tables, run: ())


def _keep_slots_of_those_that_sleep(patch: Patch) -> None:
    patch.set(passage, "leaves", lambda *given: ())


def _let_nobody_follow(patch: Patch) -> None:
    real = queues._next

    def none(tables: Any, gate: Any, now_ms: int) -> Any:
        facts, after = real(tables, gate, now_ms)
        return [fact for fact in facts if not isinstance(fact, GateOpened)][:0], after

    patch.set(queues, "_next", none)


def _ask_nobody(patch: Patch) -> None:
    patch.set(settle, "follow", lambda tables, facts: [])


MUTANTS = (
    Mutant("let one more pass than the limit says", "30", _let_one_more_pass),
    Mutant("hold the places of a run that is over", "30", _keep_what_is_over),
    Mutant("hold the slot of a body that sleeps", "30", _keep_slots_of_those_that_sleep),
    Mutant("let nobody follow who leaves", "30", _let_nobody_follow),
    Mutant("queue without asking", "30", _ask_nobody),
)
