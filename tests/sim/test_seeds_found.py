"""Seeds that once broke a promise, each with what was wrong; they keep it now."""

from __future__ import annotations

import pytest

from tests.sim.world import simulate


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(10104, id="a body answered while a step ran whose late answer had been taken"),
        pytest.param(10232, id="the same, in another order"),
        pytest.param(10513, id="a branch was given a result between its attempt's end and its next wait"),
        pytest.param(10693, id="a reopen forgot the positions of records that led to nothing"),
        pytest.param(11783, id="the same, for an inbox"),
        pytest.param(13122, id="the same, for another lane"),
        pytest.param(35763, id="a lane let go lost a former owner's hand-out whose report it had not taken"),
        pytest.param(38457, id="the same, with other lanes on the move"),
        pytest.param(43006, id="a worker that did not know whether its last record counts left its successor waiting"),
        pytest.param(77086, id="a lane that an append kept from reading took its former owner for silent"),
        pytest.param(1505, id="a turn whose positions could not be read was not undone"),
        pytest.param(2511, id="a wait ended in vain beside an event whose meeting with others was held up"),
        pytest.param(943, id="a process that fenced its lane again went on with a run that was over"),
        pytest.param(82993, id="a lane that went and came back unnoticed laid an old checkpoint over a newer one"),
    ],
)
def test_a_seed_that_once_failed_keeps_every_promise(seed: int) -> None:
    world = simulate(seed)
    assert not world.violations, world.report()
