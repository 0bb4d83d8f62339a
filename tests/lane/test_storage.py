"""A lane whose store fails: what passes is waited for, damage ends this life of it, and no command is to blame."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from millstream.errors import StoreDamaged, StoreUnavailable
from millstream.lane.lane import Lane
from millstream.lane.ownership.restore import restore
from millstream.lane.settings import LaneSettings
from millstream.log.memory.faults import NO_ROOM
from millstream.log.port import Produced
from millstream.model.facts import CommandRefused, RequestAnswered, RunStarted
from millstream.model.ids import lane_of
from millstream.model.messages import InboxRecord
from millstream.model.run_requests import CancelRun
from millstream.state.keyspace import BY_NAME
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.state.store import Change
from millstream.wire.messages import encode_inbox
from tests.core.values import PLACE, app, event, function, internal_id
from tests.lane.rig import EVENTS, INBOX, JOURNAL, Owner, Rig, until

SHOP = app(function("ship", "order/placed"))
QUICK = LaneSettings(flush_after_ms=200)


class Failing(MemoryStore):
    """A store that can be told what it cannot do."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self.unread = ""
        """The table that cannot be read."""
        self.writes = True
        self.refused = 0

    def get(self, key: bytes) -> bytes | None:
        self._may(not self.unread or not key.startswith(BY_NAME[self.unread].prefix))
        return super().get(key)

    def write(self, changes: Sequence[Change]) -> None:
        self._may(self.writes)
        super().write(changes)

    def _may(self, allowed: bool) -> None:
        if not allowed:
            self.refused += 1
            raise StoreUnavailable("the lane store cannot be used now: no room on the disk.")


async def owned(rig: Rig) -> tuple[Owner, Failing]:
    await rig.register(SHOP)
    parts, desks = await rig.parts(settings=QUICK)
    store = Failing(rig.disk)
    tables, reached = await restore(parts.log, PLACE, store, lambda facts, left: None)
    lane = Lane(parts, tables, reached)
    owner = Owner(lane, desks[0])
    rig._owners.append(owner)
    await until(lambda: lane.live)
    return owner, store


def started(rig: Rig) -> int:
    return sum(isinstance(fact, RunStarted) for fact in rig.recorded)


async def test_a_command_that_meets_a_store_that_cannot_be_read_waits_and_is_not_refused(rig: Rig) -> None:
    _, store = await owned(rig)
    store.unread = "seen"
    await rig.send(event(1, id="seen before?"))
    await until(lambda: store.refused >= 3)
    assert not started(rig)
    store.unread = ""
    await until(lambda: started(rig) == 1)
    assert not [fact for fact in rig.recorded if isinstance(fact, CommandRefused)]


async def test_a_message_that_meets_such_a_store_waits_and_is_not_refused(rig: Rig) -> None:
    _, store = await owned(rig)
    store.unread = "runs"
    before = len(rig.recorded)
    run = next(id for id in map(internal_id, range(1, 99)) if lane_of(id, PLACE.lanes) == PLACE.lane)
    await rig.put(INBOX, Produced(encode_inbox(InboxRecord(1, 1, CancelRun(run, "", "", -1)))))
    await asyncio.sleep(5)
    assert store.refused >= 3
    assert len(rig.recorded) == before
    store.unread = ""
    await until(lambda: len(rig.recorded) > before)
    assert not [fact for fact in rig.recorded if isinstance(fact, CommandRefused)]


async def test_a_turn_whose_positions_cannot_be_read_is_undone_whole(rig: Rig) -> None:
    """The facts of a turn that was decided stayed in flight, and became rows with the next one (seed 1505)."""
    owner, store = await owned(rig)
    lane, tables = owner.lane, owner.lane.tables
    await rig.send(event(1))
    await until(lambda: started(rig) == 1 and not (tables.overlay_rows or tables.flushing))
    lane._queue.append(CancelRun(internal_id(50), "", "a request", 0))  # What it decides looks at no position.
    lane.pending_positions.offsets[EVENTS] = 1
    tables.positions.forget([EVENTS])
    store.unread = "positions"
    with pytest.raises(StoreUnavailable):
        lane._decide()
    assert not any(table.flight for table in tables.all)
    store.unread = ""
    lane.append_empty()
    await until(lambda: [type(fact) for fact in rig.recorded].count(RequestAnswered) == 1)


async def test_a_flush_that_is_refused_stops_the_intake_and_is_tried_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    owner, store = await owned(rig)
    store.writes = False
    await rig.send(event(1))
    await until(lambda: started(rig) == 1)
    await until(lambda: store.refused >= 3)
    assert "no room" in owner.lane.parts.trouble.why
    await rig.send(event(2))  # A read that was under way may still bring this one.
    await asyncio.sleep(20)
    await rig.send(event(3))
    await asyncio.sleep(20)
    assert started(rig) < 3, "it takes nothing in that it cannot put down"
    store.writes = True
    await until(lambda: started(rig) == 3)
    assert owner.lane.parts.trouble.why == ""
    assert caplog.text.count("storage refused") == 1
    assert caplog.text.count("storage goes on") == 1
    rows = BY_NAME["runs"]
    await until(lambda: len(store.scan(rows.prefix, rows.end, 9)) == 3)


async def test_a_log_without_room_is_said_once_and_goes_on(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    owner, _ = await owned(rig)
    rig.faults.always[JOURNAL] = NO_ROOM
    await rig.send(event(1))
    await until(lambda: owner.lane.parts.trouble.why != "")
    await asyncio.sleep(20)
    assert not started(rig)
    del rig.faults.always[JOURNAL]
    await until(lambda: started(rig) == 1)
    assert caplog.text.count("storage refused") == 1
    assert caplog.text.count("storage goes on") == 1


@pytest.mark.parametrize("table", ["runs", "topics"])
async def test_a_damaged_row_ends_this_life_of_the_lane_and_the_next_is_whole(
    rig: Rig, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Topics: found by simulation (seed 18). Who looks at subscriptions took the damage for a topic that is missing."""
    owner, store = await owned(rig)
    await rig.send(event(1))
    await until(lambda: started(rig) == 1)
    run = next(fact for fact in rig.recorded if isinstance(fact, RunStarted)).run
    rows = BY_NAME[table]
    await until(lambda: bool(store.scan(rows.prefix, rows.end, 9)))
    await owner.stop()

    rig.disk.damaged.update(key for key, _ in store.scan(rows.prefix, rows.end, 9))
    parts, _ = await rig.parts("a", QUICK)
    tables, reached = await restore(parts.log, PLACE, parts.store, lambda facts, left: None)
    with pytest.raises(StoreDamaged, match="another checksum"):
        await Lane(parts, tables, reached).run()
    assert "topic not read" not in caplog.text
    parts.store.close()

    parts, _ = await rig.parts("a", QUICK)
    tables, _ = await restore(parts.log, PLACE, parts.store, lambda facts, left: None)
    assert tables.durable.runs.get(run) is not None
