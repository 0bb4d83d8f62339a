"""A key that sends too much is told when to come again, and nothing of the refused post is stored."""

from __future__ import annotations

import pytest

from millstream.api.answers import status_of
from millstream.api.door.quota import BURST_S, Quota
from millstream.errors import TooMany


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_key_may_send_a_burst_and_then_its_rate() -> None:
    clock = Clock()
    quota = Quota(10, clock)
    quota.take("key", 10 * BURST_S)
    with pytest.raises(TooMany) as refused:
        quota.take("key", 10)
    assert refused.value.retry_after_s == 2
    clock.now_s += 1.0
    quota.take("key", 10)
    with pytest.raises(TooMany):
        quota.take("key", 1)


def test_one_key_does_not_use_up_anothers_quota() -> None:
    quota = Quota(1, Clock())
    quota.take("a", BURST_S)
    quota.take("b", BURST_S)
    with pytest.raises(TooMany):
        quota.take("a", 1)


def test_a_post_larger_than_the_burst_is_taken_by_a_full_bucket() -> None:
    clock = Clock()
    quota = Quota(1, clock)
    quota.take("key", 5 * BURST_S)
    clock.now_s += 4 * BURST_S - 1
    with pytest.raises(TooMany):
        quota.take("key", 5 * BURST_S)
    clock.now_s += BURST_S + 1
    quota.take("key", 5 * BURST_S)


def test_without_a_quota_everything_is_taken() -> None:
    Quota(0, Clock()).take("key", 1_000_000)


def test_too_many_is_answered_429() -> None:
    assert status_of(TooMany("x")) == 429
