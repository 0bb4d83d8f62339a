"""``model/backoff.py``: pauses grow to their maximum and stay there."""

from __future__ import annotations

from millstream.model.backoff import doubling_s


def test_a_pause_doubles_with_each_failure_and_ends_at_its_maximum() -> None:
    assert [doubling_s(0.1, failures, 1.0) for failures in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_no_number_of_failures_is_too_many() -> None:
    assert doubling_s(0.1, 10**9, 30.0) == 30.0
