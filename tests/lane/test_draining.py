"""``lane/ownership/draining.py``: a former lane ends as soon as it can, whenever it is told so."""

from __future__ import annotations

import asyncio

import pytest

from millstream.core.tables import Tables
from millstream.lane.ownership.draining import DrainingLane, Released
from millstream.model.commands import HandOut, ParkDispatch
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from tests.core.values import PLACE
from tests.lane.rig import Desk, Rig

OUT = (HandOut("run-1", "a", 1), HandOut("run-1", "b", 1))
HEARTBEAT_MS = 3_000
TURNS = range(12)
"""Turns of the loop between a report and what comes next: some of them lie within the append of that report."""


def drained(rig: Rig) -> tuple[DrainingLane, Desk]:
    """A former lane with two hand-outs under way."""
    tables: Tables = LaneTables(PLACE, MemoryStore()).durable
    desk = Desk(tables, lambda command: lane.submit(command))
    desk.under_way = {(out.run, out.step, out.dispatch) for out in OUT}
    lane = DrainingLane(rig.logs["a"], PLACE, Released("a-1", OUT, 0), desk, rig.here)
    return lane, desk


def report(lane: DrainingLane, desk: Desk, out: HandOut) -> None:
    desk.under_way.discard((out.run, out.step, out.dispatch))
    lane.submit(ParkDispatch(out.run, out.step, out.dispatch))


async def ends_at_once(running: asyncio.Task[None]) -> bool:
    before_s = asyncio.get_running_loop().time()
    await running
    return asyncio.get_running_loop().time() - before_s < HEARTBEAT_MS / 1_000 / 2


@pytest.mark.parametrize("turns", TURNS)
async def test_a_lane_that_gives_back_while_it_reports_ends_at_once(rig: Rig, turns: int) -> None:
    lane, desk = drained(rig)
    running = asyncio.ensure_future(lane.run(HEARTBEAT_MS))
    await asyncio.sleep(0.1)
    report(lane, desk, OUT[0])
    for _ in range(turns):
        await asyncio.sleep(0)
    lane.give_back()
    assert await ends_at_once(running)


@pytest.mark.parametrize("turns", TURNS)
async def test_a_lane_whose_last_hand_out_is_reported_meanwhile_ends_at_once(rig: Rig, turns: int) -> None:
    lane, desk = drained(rig)
    running = asyncio.ensure_future(lane.run(HEARTBEAT_MS))
    await asyncio.sleep(0.1)
    report(lane, desk, OUT[0])
    for _ in range(turns):
        await asyncio.sleep(0)
    report(lane, desk, OUT[1])
    assert await ends_at_once(running)
