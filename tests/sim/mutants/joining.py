"""Faults in joint bodies: one that waits for all its steps goes on with the last of them."""

from __future__ import annotations

from typing import Any

from millstream.core.runs import closing
from tests.sim.mutants.mutant import Mutant, Patch


def _wait_for_one_that_has_ended(patch: Patch) -> None:
    def pending(case: Any, facts: Any) -> int:
        return max(int(real(case, facts)), min(case.run.pending, 1))

    real = patch.set(closing, "_pending", pending)


MUTANTS: tuple[Mutant, ...] = (Mutant("wait for a step that has ended", "32", _wait_for_one_that_has_ended),)
