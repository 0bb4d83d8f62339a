"""A few hundred of the calls that ``make fuzz`` makes 100,000 of."""

from __future__ import annotations

from tests.faults.fuzz import fuzz


def test_any_value_and_any_exception_leaves_a_run_that_ends_and_a_lane_that_lives() -> None:
    fuzz(60)
