"""Faults in holding: what has failed for good waits for an operator, and is resumed with all its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from millstream.core import fold as core_fold
from millstream.core.runs.deciding import Case
from millstream.model.facts import HeldResumed
from tests.sim.mutants.mutant import Mutant, Patch


def _fail_what_is_to_be_held(patch: Patch) -> None:
    patch.set(Case, "holds", property(lambda case: False))


def _resume_with_the_last_attempt(patch: Patch) -> None:
    def resumed(tables: Any, fact: Any, at_ms: int) -> Sequence[Any]:
        effects = real(tables, fact, at_ms)
        step = tables.steps.get((fact.run, fact.step)) if fact.step else None
        if step is not None:
            tables.steps.put((fact.run, fact.step), replace(step, attempt=step.attempt + 1))
        return effects

    real = patch.set(core_fold.FOLD, HeldResumed, resumed)  # type: ignore[arg-type]


MUTANTS: tuple[Mutant, ...] = (
    Mutant("fail what is to be held", "32", _fail_what_is_to_be_held),
    Mutant("resume with the last attempt", "24", _resume_with_the_last_attempt),
)
