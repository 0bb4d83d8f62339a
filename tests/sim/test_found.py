"""What the simulation has found, one small example each; the seed is the one of that day's world."""

from __future__ import annotations

from millstream.log.memory.log import MemoryCluster
from millstream.model.place import Place
from millstream.model.rows import TimerRow
from millstream.sdk.app import App
from millstream.state.checkpoint import Checkpoint
from millstream.state.keyspace import MARKER_KEY
from millstream.state.marker import Marker
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker

PLACE = Place("g", 0, 1)
TIMER = TimerRow(1, "sleep", "run", "step")
KEY = (1, "sleep", "run", "step")


async def test_a_row_that_another_owner_checkpointed_is_deleted_in_the_topics_too() -> None:
    """Seeds 2, 17, 41: an old disk folds a row's coming and going; the topics, which had heard of it, kept it."""
    tables = LaneTables(PLACE, MemoryStore())
    tables.mark_history_unknown()
    tables.timers.put(KEY, TIMER)
    tables.promote()
    tables.timers.delete(KEY)
    tables.promote()
    made = await Checkpoint.begin(tables, Marker("g.journal", 9, b"owner", 9))
    sent = [change async for _, rows in made.chunks() for change in rows if change[0] != MARKER_KEY]
    assert [value for _, value in sent] == [None], "a tombstone for a row that this store never had"


async def test_a_worker_that_is_told_twice_of_a_lane_lives_it_once() -> None:
    """Seeds 90 and 182: two lives of one lane in a worker; the second closed the first one's store, or never ended."""
    cluster = MemoryCluster()
    parts = WorkerParts(
        log=cluster.client("a"), group="g", lanes=1, apps=[App("shop")], make_store=lambda lane: MemoryStore()
    )
    worker = Worker(parts)
    await worker.start()
    life = worker._tasks[0]
    await worker._on_assigned(frozenset({0}))
    assert worker._tasks[0] is life
    await worker.stop()
    assert life.done() and not worker.lanes
