"""``lane/maintenance/offsets.py``: what watches the group sees a lane's progress, never further than its journal."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest

from millstream.errors import LogUnavailable
from millstream.lane.maintenance.offsets import COMMIT_EVERY_S
from tests.core.values import PLACE, app, event, function
from tests.lane.rig import EVENTS, INBOX, Rig, until

SHOP = app(function("ship", "order/placed"))


def committed(rig: Rig) -> dict[tuple[str, int], int]:
    return rig.cluster.group(PLACE.group, PLACE.lanes).committed


def held(rig: Rig) -> dict[tuple[str, int], int]:
    """Positions as the journal has them."""
    return {(p.topic, p.partition): p.offset for record in rig.decisions() for p in record.positions}


async def test_what_is_durable_is_committed_to_the_group(rig: Rig) -> None:
    await rig.own()
    await rig.register(SHOP)
    await rig.send(event(1), event(2))
    await until(lambda: committed(rig).get(EVENTS) == 2)
    assert held(rig)[EVENTS] == 2
    assert (INBOX, PLACE.lane) not in committed(rig)  # Nothing came in there yet.


async def test_a_lane_commits_at_most_once_a_second(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, _ = await rig.parts()
    times: list[float] = []
    commit = parts.membership.commit

    async def noted(positions: Mapping[tuple[str, int], int]) -> None:
        times.append(rig.here.true_ms() / 1_000)
        await commit(positions)

    monkeypatch.setattr(parts.membership, "commit", noted)
    await rig.own()
    await rig.register(SHOP)
    for number in range(40):
        await rig.send(event(number))
        await rig.here.sleep(0.1)
    await until(lambda: committed(rig).get(EVENTS) == 40)
    assert len(times) >= 3
    assert min(later - earlier for earlier, later in pairwise(times)) >= COMMIT_EVERY_S * 0.99


async def test_a_commit_that_failed_is_made_good(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, _ = await rig.parts()
    commit, failures = parts.membership.commit, [LogUnavailable("away")] * 3

    async def failing(positions: Mapping[tuple[str, int], int]) -> None:
        if failures:
            raise failures.pop()
        await commit(positions)

    monkeypatch.setattr(parts.membership, "commit", failing)
    await rig.own()
    await rig.register(SHOP)
    await rig.send(event(1))
    await until(lambda: committed(rig).get(EVENTS) == 1)
    assert failures == []


async def test_a_take_over_commits_what_the_last_owner_no_longer_did(rig: Rig) -> None:
    first = await rig.own()
    await rig.register(SHOP)
    await rig.send(event(1))
    await until(lambda: held(rig).get(EVENTS) == 1)
    await first.stop()
    committed(rig).clear()
    await rig.own()
    await until(lambda: committed(rig).get(EVENTS) == 1)
