"""Would anybody notice? Each deliberate fault is caught, by the simulation or by the test that is its example."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.test_rules import test_a_broken_rule_is_noticed_on_a_broker as on_a_broker
from tests.sim.mutants.mutant import Mutant
from tests.sim.mutants.noticing import noticed
from tests.sim.mutants.table import MUTANTS
from tests.sim.world import simulate

ROOT = Path(__file__).parents[2]
HARMLESS = Mutant("change nothing", "1", lambda patch: None)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"rule {mutant.rule}: {mutant.name}")
def test_a_broken_rule_is_noticed(mutant: Mutant) -> None:
    assert noticed(mutant)


def test_a_fault_that_nothing_notices_is_a_failure() -> None:
    with pytest.raises(pytest.fail.Exception, match="nobody noticed within 2 seeds"):
        noticed(HARMLESS, seeds_max=2)

    def emptied() -> None:
        """A test whose lines somebody has deleted."""

    with pytest.raises(pytest.fail.Exception, match="nobody noticed: the example passes"):
        noticed(replace(HARMLESS, example=emptied))


def test_an_example_that_fails_without_the_fault_proves_nothing() -> None:
    def failing() -> None:
        raise AssertionError("always")

    with pytest.raises(AssertionError, match="always"):
        noticed(replace(HARMLESS, example=failing))


def test_a_fault_is_gone_when_its_world_is_over() -> None:
    for mutant in MUTANTS:
        with mutant.at_work():
            pass
    assert not simulate(0).violations


def test_every_rule_has_a_fault_that_is_noticed() -> None:
    rules = set(re.findall(r"^(\d+a?)\. \*\*", (ROOT / "docs/lanes.md").read_text(), re.MULTILINE))
    here = {mutant.rule for mutant in run_by(test_a_broken_rule_is_noticed)}
    on_brokers = {fault.mutant.rule for fault in run_by(on_a_broker)}
    assert rules
    assert rules - here - on_brokers == set(), "rules that nothing keeps"
    assert on_brokers <= rules - here, "rules that have a fault by now, or are none"


def run_by(test: Callable[..., None]) -> tuple[Any, ...]:
    """What a test is run with: every value, for it has no mark that could leave one out."""
    (mark,) = test.pytestmark  # type: ignore[attr-defined]
    assert mark.name == "parametrize"
    return tuple(mark.args[1])
