"""A key that sends too much is told when to come again, and nothing of the refused post is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream.api.answers import status_of
from millstream.api.door.quota import BURST_S, SENDERS_MAX, Quota, client_of
from millstream.errors import TooMany
from tests.api.door import open_world


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


def test_where_too_many_send_the_newest_share_one_quota_and_memory_stays_bounded() -> None:
    clock = Clock()
    quota = Quota(1, clock)
    for number in range(SENDERS_MAX):
        quota.take(f"sender {number}", BURST_S)
    quota.take("one more", BURST_S)
    with pytest.raises(TooMany):
        quota.take("another", 1)
    clock.now_s += BURST_S + 1  # Those before are at rest again, and forgotten.
    quota.take("another", BURST_S)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::2", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
    ],
)
def test_a_client_is_its_address_or_its_network(address: str | None, client: str) -> None:
    assert client_of(address) == client


async def test_without_keys_the_client_is_counted_whatever_key_it_writes(tmp_path: Path) -> None:
    async with open_world(tmp_path, events_per_s=1) as world:
        answers = [(await world.call("POST", f"/e/key-{n}", json={"name": "a"}))[0] for n in range(BURST_S + 5)]
        assert answers.count(200) <= BURST_S + 2 and answers[-1] == 429
    async with open_world(tmp_path, events_per_s=1, event_keys=frozenset({"a", "b"})) as world:
        for key in ("a", "b"):
            many = [{"name": "a"}] * BURST_S
            assert (await world.call("POST", f"/e/{key}", json=many))[0] == 200


def test_without_a_quota_everything_is_taken() -> None:
    Quota(0, Clock()).take("key", 1_000_000)


def test_too_many_is_answered_429() -> None:
    assert status_of(TooMany("x")) == 429
