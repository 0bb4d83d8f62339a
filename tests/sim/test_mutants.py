"""Would the simulation notice? Each deliberate fault is caught within a bounded number of seeds."""

from __future__ import annotations

import logging

import pytest

from tests.sim.mutants.mutant import Mutant
from tests.sim.mutants.table import MUTANTS, SEEDS_MAX
from tests.sim.world import simulate


@pytest.fixture(autouse=True)
def _quiet() -> object:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"rule {mutant.rule}: {mutant.name}")
def test_a_broken_rule_is_noticed(mutant: Mutant) -> None:
    for seed in range(SEEDS_MAX):
        with mutant.at_work():
            world = simulate(seed)
        if world.violations:
            assert not simulate(seed).violations, "the seed fails without the fault too: it proves nothing"
            return
    pytest.fail(f"nobody noticed within {SEEDS_MAX} seeds: {mutant.name} (rule {mutant.rule})")


def test_a_fault_is_gone_when_its_world_is_over() -> None:
    for mutant in MUTANTS:
        with mutant.at_work():
            pass
    assert not simulate(0).violations
