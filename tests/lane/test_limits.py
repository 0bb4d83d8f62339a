"""Overrides of limits as a lane takes them from the functions topic: in order, once, and over restarts."""

from __future__ import annotations

import msgspec

from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.log.port import Produced
from millstream.model.facts import LimitsSeen, RunStarted
from millstream.model.gates.declared import ConcurrencyRule, FlowSpec
from millstream.model.gates.overrides import FunctionLimits, Override
from millstream.wire.limits_record import RECORD_PREFIX, limits_record
from tests.core.values import app, event, function
from tests.lane.rig import FUNCTIONS, LETTERS, Rig, until

SHIP = msgspec.structs.replace(function("ship", "order/placed"), flow=FlowSpec((ConcurrencyRule(1),)))
FIVE = Override("concurrency", 5, scope="fn", per="step")


async def override(rig: Rig, *overrides: Override) -> None:
    key, value = limits_record(FunctionLimits("ship", overrides))
    await rig.put(FUNCTIONS, Produced(value, key))


def limit(tables: Tables) -> int:
    flow = catalogue(tables).functions["ship"].flow
    assert flow is not None
    return flow.concurrency[0].limit


async def test_an_override_outlives_a_lane_s_owner_its_disk_and_a_deploy(rig: Rig) -> None:
    await rig.register(app(SHIP))
    await override(rig, FIVE)
    first = await rig.own()
    await until(lambda: limit(first.lane.tables) == 5)
    await first.stop()
    second = await rig.own()
    assert limit(second.lane.tables) == 5
    await rig.register(app(msgspec.structs.replace(SHIP, retries=7)))
    await until(lambda: catalogue(second.lane.tables).functions["ship"].retries == 7)
    assert limit(second.lane.tables) == 5 and len(rig.facts(LimitsSeen)) == 1
    await override(rig)
    await until(lambda: limit(second.lane.tables) == 1)
    rows = await rig.rows_from_topics()
    assert rows["limits"], "which record was taken last is known after a reset, too"


async def test_runs_that_queue_are_handed_out_when_the_override_comes(rig: Rig) -> None:
    await rig.register(app(SHIP))
    owner = await rig.own()
    await rig.send(event(1), event(2), event(3))
    await until(lambda: len(rig.facts(RunStarted)) == 3 and owner.desk.started)
    assert len(owner.desk.started) == 1
    await override(rig, FIVE)
    await until(lambda: len(owner.desk.started) == 3)


async def test_an_override_that_cannot_be_read_is_refused_and_the_one_before_stays(rig: Rig) -> None:
    await rig.register(app(SHIP))
    await override(rig, FIVE)
    owner = await rig.own()
    await rig.put(FUNCTIONS, Produced(b"garbage", RECORD_PREFIX + b"ship"))
    await until(lambda: rig.records(LETTERS))
    assert limit(owner.lane.tables) == 5
