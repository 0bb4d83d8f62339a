"""``lane/ownership/checkpoints.py``: compacted topics that were made anew, or are an older copy, become whole again."""

from __future__ import annotations

import logging

import pytest

from millstream.errors import AcknowledgedLost
from millstream.lane.ownership.restore import restore
from millstream.lane.settings import LaneSettings
from millstream.log.port import Produced, Record
from millstream.losses import Losses
from millstream.model.facts import RunStarted
from millstream.model.run_requests import CancelRun
from millstream.state.dump import dump
from millstream.state.keyspace import CHECKPOINT_TOPICS
from millstream.state.memory import MemoryStore
from tests.core.values import PLACE, app, event, function
from tests.lane.rig import EVENTS, JOURNAL, Rig, until

SHOP = app(function("ship", "order/placed"))
EAGER = LaneSettings(flush_after_ms=100, checkpoint_facts=1, checkpoint_gap_ms=500)


async def lived(rig: Rig, first: int = 0, upto: int = 3) -> object:
    """A lane took events and made checkpoints; the tables that it left."""
    owner = await rig.own(settings=EAGER)
    await rig.send(*(event(n) for n in range(first, upto)))
    await until(lambda: len(rig.facts(RunStarted)) == upto)
    await rig.here.sleep(3)
    await owner.stop()
    return dump(owner.lane.tables.durable)


def shown(rig: Rig, which: str) -> list[Record]:
    return rig.records(f"{PLACE.group}.{which}")


async def restored_elsewhere(rig: Rig) -> object:
    tables, _ = await restore(rig.logs["a"], PLACE, MemoryStore(), lambda facts, left: None)
    return dump(tables)


@pytest.mark.parametrize("which", [*CHECKPOINT_TOPICS, "all"])
async def test_topics_that_were_made_anew_get_every_row_again(
    rig: Rig, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.register(SHOP)
    await lived(rig)
    for name in CHECKPOINT_TOPICS if which == "all" else (which,):
        rig.cluster.partitions[f"{PLACE.group}.{name}", 0].make_anew()
    with caplog.at_level(logging.ERROR):
        live = await lived(rig, 3, 4)
    assert "checkpoint lost" in caplog.text
    rig.cluster.partitions[JOURNAL, 0].trim(rig.cluster.partitions[JOURNAL, 0].end - 1)  # Rows are all there is.
    tables, reached = await restore(rig.logs["a"], PLACE, MemoryStore(), lambda facts, left: None)
    assert reached.facts <= 1
    assert dump(tables) == live


async def test_a_topic_restored_from_an_older_copy_loses_rows_that_ended_since(rig: Rig) -> None:
    await rig.register(SHOP)
    await lived(rig)
    older = shown(rig, "steps")
    owner = await rig.own(settings=EAGER)
    runs = [fact.run for fact in rig.facts(RunStarted)]
    for run in runs:  # Their rows are deleted, and tombstones written, before the copy comes back.
        owner.lane.submit(cancelled(run))
    await until(lambda: not owner.lane.tables.durable.runs.scan(limit=1))
    await rig.here.sleep(3)
    await owner.stop()
    partition = rig.cluster.partitions[f"{PLACE.group}.steps", 0]
    partition.make_anew()
    partition.append([Produced(record.value, record.key) for record in older], rig.here.true_ms())
    live = await lived(rig, 3, 4)
    assert await restored_elsewhere(rig) == live
    rig.cluster.partitions[JOURNAL, 0].trim(rig.cluster.partitions[JOURNAL, 0].end - 1)
    assert await restored_elsewhere(rig) == live


async def test_a_lane_whose_topics_are_whole_writes_nothing_anew(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.register(SHOP)
    await lived(rig)
    before = len(shown(rig, "steps"))
    with caplog.at_level(logging.ERROR):
        await lived(rig, 3, 4)
    assert "checkpoint lost" not in caplog.text
    assert len(shown(rig, "steps")) < before * 3


async def test_a_checkpoint_beyond_the_journal_refuses_a_store_that_matches(rig: Rig) -> None:
    """The store is an old copy below the cut; what the topics hold says that the journal was longer."""
    await rig.register(SHOP)
    await lived(rig, 0, 1)
    old = MemoryStore()
    old.write(list(rig.disk.rows.items()))
    end = rig.cluster.partitions[JOURNAL, 0].end
    await lived(rig, 1, 4)
    rig.cluster.partitions[JOURNAL, 0].lose_tail(end)
    with pytest.raises(AcknowledgedLost, match="checkpoint includes record"):
        await restore(rig.logs["a"], PLACE, old, lambda facts, left: None)


@pytest.mark.parametrize("topic", [f"{PLACE.group}.inbox", EVENTS[0]])
async def test_a_position_beyond_the_end_of_a_topic_refuses_and_names_it(rig: Rig, topic: str) -> None:
    await rig.register(SHOP)
    owner = await rig.own(settings=EAGER)
    await rig.send(event(1), event(2))
    owner.lane.submit(cancelled("none"))
    await until(lambda: len(rig.facts(RunStarted)) == 2)
    partition = rig.cluster.partitions[topic, EVENTS[1] if topic == EVENTS[0] else 0]
    if topic != EVENTS[0]:
        await rig.put(topic, Produced(b"no message", b"key"))
    await rig.here.sleep(3)
    await owner.stop()
    partition.make_anew()
    with pytest.raises(AcknowledgedLost, match=topic):
        await restore(rig.logs["a"], PLACE, MemoryStore(), lambda facts, left: None)
    await restore(rig.logs["a"], PLACE, MemoryStore(), lambda facts, left: None, Losses(accepted=True))


def cancelled(run: str) -> CancelRun:
    return CancelRun(run, "test")
