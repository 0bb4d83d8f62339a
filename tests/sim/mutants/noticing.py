"""Whether a deliberate fault is noticed: by a test that is its example, or by the simulation within some seeds."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from tests.sim.mutants.mutant import Mutant
from tests.sim.mutants.table import SEEDS_MAX
from tests.sim.world import simulate

FAILURES = (AssertionError, TimeoutError, pytest.fail.Exception)
"""How a test fails that notices something; anything else is an error in the fault or in the test."""


def noticed(mutant: Mutant, seeds_max: int = SEEDS_MAX) -> str:
    """Put the fault to work; what noticed it, in words.

    Fails where nothing does, and where what does also fails without the fault: it proves nothing then.
    """
    if mutant.example is not None:
        mutant.example()
        with mutant.at_work():
            try:
                mutant.example()
            except FAILURES as error:
                return f"its example: {error!r}"
        pytest.fail(f"nobody noticed: the example passes with the fault {mutant.name!r} (rule {mutant.rule})")
    for seed in range(seeds_max):
        with mutant.at_work():
            world = simulate(seed)
        if world.violations:
            assert not _of_the_mutant(world.failed_with), f"the fault itself is broken: {world.failed_with!r}"
            assert not simulate(seed).violations, "the seed fails without the fault too: it proves nothing"
            return f"seed {seed}: {world.violations[0]}"
    pytest.fail(f"nobody noticed within {seeds_max} seeds: {mutant.name} (rule {mutant.rule})")


def _of_the_mutant(error: BaseException | None) -> bool:
    """Whether it was raised by the fault's own code, which no longer fits the product."""
    if not isinstance(error, TypeError | AttributeError | NameError):
        return False
    return "mutants" in Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts
