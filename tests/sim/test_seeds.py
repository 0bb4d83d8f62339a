"""Hundreds of hostile worlds, none of which may break a promise (``make sim SEEDS=a-b`` runs others, and more)."""

from __future__ import annotations

import logging
import os

import pytest

from tests.sim.world import simulate

SEEDS = int(os.environ.get("MILLSTREAM_SIM_SEEDS", "750"))
A_TEST = 25


@pytest.fixture(autouse=True)
def _quiet() -> object:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, SEEDS, A_TEST))
def test_every_promise_is_kept_whatever_happens(first: int) -> None:
    for seed in range(first, first + A_TEST):
        world = simulate(seed)
        assert not world.violations, world.report()


def test_the_same_seed_is_the_same_world() -> None:
    one, other = simulate(5), simulate(5)
    assert [text % values for _, text, values in one.traced] == [text % values for _, text, values in other.traced]
    assert [at for at, _, _ in one.traced] == [at for at, _, _ in other.traced]
