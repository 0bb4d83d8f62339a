"""``lane/input/backlog.py``: what waits for a lane is counted, whether or not it has been read; and what a lane shows
goes with the lane."""

from __future__ import annotations

import asyncio

from millstream.log.memory.faults import REFUSED
from millstream.log.memory.log import MemoryCluster
from millstream.state.memory import MemoryStore
from millstream.telemetry import METRICS, OUTLIVE_LANES, Telemetry
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker
from tests.core.values import PLACE, app, event, function
from tests.lane.rig import JOURNAL, TELEMETRY, Here, Rig, until

SHOP = app(function("ship", "order/placed"))
AGE = "millstream_oldest_event_age_seconds"


def shown(name: str) -> float | None:
    return TELEMETRY.registry.get_sample_value(name, {"lane": str(PLACE.lane)})


async def test_an_idle_lane_has_no_backlog(rig: Rig) -> None:
    await rig.own()
    await rig.register(SHOP)
    await rig.send(event(1), event(2))
    taken = shown("millstream_lane_records_total") or 0
    await until(lambda: shown("millstream_lane_records_total") == taken + 2)
    await asyncio.sleep(60)
    assert (shown("millstream_lane_lag"), shown(AGE)) == (0, 0)


async def test_events_that_a_full_lane_does_not_read_are_counted_and_grow_old(rig: Rig) -> None:
    rig.busy = True
    owner = await rig.own()
    await rig.register(SHOP)
    await asyncio.sleep(1)
    await rig.send(event(1))
    await asyncio.sleep(50)
    await rig.send(event(2), event(3))
    await asyncio.sleep(50)
    assert shown("millstream_lane_lag") == 3
    assert 98 <= (shown(AGE) or 0) <= 101
    owner.desk.full = False
    owner.lane._signal_capacity()
    await until(lambda: shown("millstream_lane_lag") == 0)
    assert shown(AGE) == 0


async def test_events_that_cannot_be_recorded_are_counted_and_grow_old(rig: Rig) -> None:
    await rig.own()
    await rig.register(SHOP)
    await asyncio.sleep(10)
    rig.faults.always[JOURNAL] = REFUSED
    await rig.send(event(1))
    await asyncio.sleep(100)
    assert shown("millstream_lane_lag") == 1
    assert 98 <= (shown(AGE) or 0) <= 101
    del rig.faults.always[JOURNAL]
    await until(lambda: shown("millstream_lane_lag") == 0)
    assert shown(AGE) == 0


async def test_nothing_of_a_lane_is_shown_by_the_worker_that_had_it() -> None:
    here = Here()
    cluster = MemoryCluster(now_ms=here.true_ms)
    cluster.group("shop", 2)
    workers: dict[str, Worker] = {}

    async def start(name: str) -> None:
        workers[name] = Worker(
            WorkerParts(
                log=cluster.client(name),
                group="shop",
                lanes=2,
                apps=(),
                make_store=lambda lane: MemoryStore(),
                name=name,
                surroundings=here,
                telemetry=Telemetry(),
            )
        )
        await workers[name].start()

    await cluster.assign({"a": [0, 1]})
    await start("a")
    await start("b")
    await asyncio.sleep(20)
    of_lanes = {metric.name for metric in METRICS if "lane" in metric.labels} - {"millstream_history_lag"}
    assert {name for name, lane in by_lane(workers["a"]) if lane == "1"} >= of_lanes
    await cluster.assign({"a": [0], "b": [1]})
    await until(lambda: {lane for _, lane in by_lane(workers["b"])} == {"1"})
    await asyncio.sleep(60)
    assert {lane for _, lane in by_lane(workers["a"])} == {"0"}
    await cluster.assign({"a": [0, 1]})  # And back.
    await until(lambda: by_lane(workers["b"]) == set())
    await until(lambda: {lane for _, lane in by_lane(workers["a"])} == {"0", "1"})
    for worker in workers.values():
        await worker.stop(0)


def by_lane(worker: Worker) -> set[tuple[str, str]]:
    """Every metric that a worker shows with a lane, and the lane."""
    found = set()
    for family in worker.parts.telemetry.registry.collect():
        for sample in family.samples:
            if "lane" in sample.labels and not sample.name.endswith("_created"):
                found.add((sample.name, sample.labels["lane"]))
    return found


def test_a_metric_of_a_lane_has_no_other_label_unless_it_outlives_the_lane() -> None:
    """``forget_lane`` takes back what has the lane as its one label."""
    of_lanes = [metric for metric in METRICS if "lane" in metric.labels]
    assert {metric.name for metric in of_lanes if metric.labels != ("lane",)} <= OUTLIVE_LANES
    telemetry = Telemetry()
    for metric in of_lanes:
        if metric.name not in OUTLIVE_LANES:
            (telemetry.count if metric.kind == "counter" else telemetry.set)(metric.name, 1, "7")
    assert b'lane="7"' in telemetry.exposition()[0]
    telemetry.forget_lane(7)
    assert b'lane="7"' not in telemetry.exposition()[0]
