"""What the simulation has found, one small example each; the seed is the one of that day's world."""

from __future__ import annotations

from functools import partial
from typing import Any

from millstream.log.memory.group import MemoryMembership
from millstream.log.memory.log import MemoryCluster, MemoryLog
from millstream.log.port import LanesChanged
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


class Repeating:
    """A membership that can say once more what it has said."""

    def __init__(self, inner: MemoryMembership) -> None:
        self.reader, self.still_owns, self.commit, self.leave = (
            inner.reader, inner.still_owns, inner.commit, inner.leave
        )  # fmt: skip
        self._join = inner.join
        self._inner = inner

    @property
    def live(self) -> bool:
        return bool(self._inner.live)

    async def join(self, *, on_assigned: LanesChanged, on_revoked: LanesChanged) -> None:
        self.repeat = partial(on_assigned, frozenset({0}))
        await self._join(on_assigned=on_assigned, on_revoked=on_revoked)


class RepeatingLog(MemoryLog):
    """Its last membership is ``said``."""

    said: Repeating

    def membership(self, group: str, lanes: int) -> Any:
        self.said = Repeating(super().membership(group, lanes))
        return self.said


async def test_a_worker_that_is_told_twice_of_a_lane_lives_it_once() -> None:
    """Seeds 90 and 182: two lives of one lane in a worker; the second closed the first one's store, or never ended."""
    log = RepeatingLog(cluster=MemoryCluster(), name="a")
    stores: list[MemoryStore] = []

    def make_store(lane: int) -> MemoryStore:
        stores.append(MemoryStore())
        return stores[-1]

    worker = Worker(WorkerParts(log=log, group="g", lanes=1, apps=[App("shop")], make_store=make_store))
    await worker.start()
    life = worker.lanes[0]
    await log.said.repeat()
    assert worker.lanes[0] is life
    await worker.stop()
    assert not life.live and not worker.lanes and len(stores) == 1
