"""Would the simulation notice? Each deliberate fault is caught within a bounded number of seeds."""

from __future__ import annotations

import logging
import re
import traceback
from pathlib import Path

import pytest

from tests.sim.mutants.mutant import Mutant
from tests.sim.mutants.table import MUTANTS, SEEDS_MAX
from tests.sim.rules import KEPT_ELSEWHERE
from tests.sim.world import simulate

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quiet() -> object:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"rule {mutant.rule}: {mutant.name}")
def test_a_broken_rule_is_noticed(mutant: Mutant) -> None:
    if mutant.example is not None:
        mutant.example()
        with mutant.at_work(), pytest.raises(AssertionError):
            mutant.example()
        return
    for seed in range(SEEDS_MAX):
        with mutant.at_work():
            world = simulate(seed)
        if world.violations:
            assert not of_the_mutant(world.failed_with), f"the fault itself is broken: {world.failed_with!r}"
            assert not simulate(seed).violations, "the seed fails without the fault too: it proves nothing"
            return
    pytest.fail(f"nobody noticed within {SEEDS_MAX} seeds: {mutant.name} (rule {mutant.rule})")


def of_the_mutant(error: BaseException | None) -> bool:
    """Whether it was raised by the fault's own code, which no longer fits the product."""
    if not isinstance(error, TypeError | AttributeError | NameError):
        return False
    return "mutants" in Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts


def test_a_fault_is_gone_when_its_world_is_over() -> None:
    for mutant in MUTANTS:
        with mutant.at_work():
            pass
    assert not simulate(0).violations


def test_every_rule_has_a_fault_that_is_noticed_or_a_test_elsewhere() -> None:
    rules = set(re.findall(r"^(\d+a?)\. \*\*", (ROOT / "docs/lanes.md").read_text(), re.MULTILINE))
    broken_here = {mutant.rule for mutant in MUTANTS}
    assert rules - broken_here - KEPT_ELSEWHERE.keys() == set(), "rules that nothing keeps"
    assert KEPT_ELSEWHERE.keys() <= rules - broken_here, "rules that have a fault by now, or are none"
    for where in KEPT_ELSEWHERE.values():
        path, _, name = where.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(), f"{where} is not there"
