"""Faults in layers, stores, checkpoints and restores (lanes.md rules 9 to 15)."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from millstream.core import decide
from millstream.lane import journal
from millstream.lane.maintenance import upkeep
from millstream.lane.ownership import restore as lane_restore
from millstream.state import checkpoint, flush, layers, memory, tables
from millstream.state.keyspace import MARKS
from millstream.wire.journal import Validity
from millstream.wire.rows import encode_row
from tests.lane import test_storage, test_upkeep
from tests.sim.mutants.mutant import Mutant, Patch, on_loop, on_rig
from tests.state import test_checkpoint, test_disks_that_fail

NO_END = test_disks_that_fail.test_a_scan_that_meets_a_damaged_row_does_not_end_there
GOES_ON = on_loop(test_checkpoint.test_the_lane_goes_on_while_a_checkpoint_is_sent)
WAITS = on_rig(test_storage.test_a_message_that_meets_such_a_store_waits_and_is_not_refused)
UNNOTICED = on_rig(test_upkeep.test_an_owner_that_has_not_noticed_that_the_lane_went_and_came_back_makes_no_checkpoint)
WENT_AND_CAME_BACK = on_rig(test_upkeep.test_a_checkpoint_begun_before_the_lane_went_and_came_back_is_refused)


def _flush_what_is_in_flight(patch: Patch) -> None:
    real = tables.LaneTables.flush

    def flush_all(self: Any, marker: Any) -> Any:
        self.promote()
        return real(self, marker)

    patch.set(tables.LaneTables, "flush", flush_all)


def _believe_any_store(patch: Patch) -> None:
    async def behind(log: Any, topic: str, lane: int, marker: Any) -> Any:
        start, end = await log.start_offset(topic, lane), await log.end_offset(topic, lane)
        offset = max(start, min(marker.offset + 1, end))
        return lane_restore.Reached(offset, Validity(marker.owner, marker.seq), 0, 0)

    patch.set(lane_restore, "_reached_marker", behind)


def _forget_marks_at_restart(patch: Patch) -> None:
    real = tables.LaneTables.__init__

    def init(self: Any, place: Any, store: Any) -> None:
        real(self, place, store)
        marks = store.scan(MARKS, bytes((MARKS[0] + 1,)), 1 << 30)
        if marks:
            store.write([(key, None) for key, _ in marks])

    patch.set(tables.LaneTables, "__init__", init)


def _forget_a_touched_row(patch: Patch) -> None:
    real = flush.Flush._changes

    def changes(self: Any, table: Any, key: Any, row: Any) -> Any:
        made = real(self, table, key, row)
        return tuple(one for one in made if table.spec.name != "events" or not one[0].startswith(MARKS))

    patch.set(flush.Flush, "_changes", changes)


def _copy_fuzzily(patch: Patch) -> None:
    """The checkpoint takes rows as they are now, not as they were at its record."""
    real = checkpoint.Checkpoint.begin.__func__  # type: ignore[attr-defined]

    async def begin(cls: Any, lane_tables: Any, *rest: Any) -> Any:
        made = await real(cls, lane_tables, *rest)
        snapshot = made._snapshot
        by_prefix = {table.spec.prefix: table for table in lane_tables.all}

        class Fuzzy:
            scan, close = staticmethod(snapshot.scan), staticmethod(snapshot.close)

            @staticmethod
            def get(key: bytes) -> bytes | None:
                table = by_prefix.get(key[:1])
                if table is None:
                    found: bytes | None = snapshot.get(key)
                    return found
                row = table.get_durable(table._decode(key))
                return None if row is None else encode_row(row)

        made._snapshot = Fuzzy()
        return made

    patch.set(checkpoint.Checkpoint, "begin", classmethod(begin))


def _trim_without_checkpoint(patch: Patch) -> None:
    async def trim(self: Any) -> None:
        marker = self._marker()
        if marker is not None:
            await self._log.trim(f"{self._place.group}.journal", self._place.lane, marker.offset)

    patch.set(upkeep.Upkeep, "trim", trim)


class _NoInbox:
    """A transaction that leaves out the positions: the group does not ask whose lane it is."""

    def __init__(self, real: Any) -> None:
        self._real = real

    async def commit(self, inbox_positions: Any) -> None:
        await self._real.commit({})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _checkpoint_for_anybody(patch: Patch) -> None:
    real = upkeep.Upkeep._fill

    async def fill(self: Any, transaction: Any) -> None:
        await real(self, _NoInbox(transaction))

    patch.set(upkeep.Upkeep, "_fill", fill)


class _Late:
    """A transaction that is begun when it is committed: with what the group says then."""

    def __init__(self, log: Any, name: str) -> None:
        self._begin = lambda: log.transaction(name)
        self._sent: list[Any] = []

    async def send(self, *what: Any) -> None:
        self._sent.append(what)

    async def commit(self, inbox_positions: Any) -> None:
        begun = await self._begin()
        for what in self._sent:
            await begun.send(*what)
        await begun.commit(inbox_positions)

    async def abort(self) -> None:
        """Nothing was begun."""


def _checkpoint_by_todays_group(patch: Patch) -> None:
    real = upkeep.Upkeep._fill

    async def fill(self: Any, transaction: Any) -> None:
        await transaction.abort()
        await real(self, _Late(self._log, self._transaction))

    patch.set(upkeep.Upkeep, "_fill", fill)


def _checkpoint_without_a_look(patch: Patch) -> None:
    async def is_fenced(self: Any) -> bool:
        """Nobody ever is."""
        return False

    patch.set(journal.Journal, "is_fenced", is_fenced)


def _keep_no_earlier_checkpoint(patch: Patch) -> None:
    """Cut the journal and the inbox at the last checkpoint, which a restore may be reading past at this moment."""
    patch.set(upkeep, "cut_at", lambda done, before_ms: done[-1] if done else None)


def _restore_without_positions(patch: Patch) -> None:
    def apply(tables: Any, record: Any) -> None:
        for fact in record.facts:
            lane_restore.fold(tables, fact, record.at_ms)

    patch.set(lane_restore, "apply", apply)


def _forget_what_others_checkpointed(patch: Patch) -> None:
    patch.set(tables.LaneTables, "mark_history_unknown", lambda self: None)


def _lose_deletions(patch: Patch) -> None:
    real = layers.LayeredTable.delete

    def delete(self: Any, key: Any) -> None:
        if self.spec.name != "timers":
            real(self, key)
        else:
            self._live[key] = None
            self.flight.pop(key, None)

    patch.set(layers.LayeredTable, "delete", delete)


def _refuse_for_the_store(patch: Patch) -> None:
    """A command whose decision meets a store that fails is refused by a fact, as if it were to blame."""
    patch.set(decide, "StoreFailed", type("Never", (Exception,), {}))


def _forget_a_flush_that_failed(patch: Patch) -> None:
    real = layers.LayeredTable.thaw

    def thaw(self: Any) -> None:
        for key in self.frozen:
            if key not in self.overlay and key not in self.flight:
                self._live.pop(key, None)
        self.frozen.clear()
        real(self)

    patch.set(layers.LayeredTable, "thaw", thaw)


def _end_a_scan_at_damage(patch: Patch) -> None:
    """As the binding of RocksDB does: a damaged block looks like the end of the rows."""

    def scan(self: Any, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = memory._scan(self.disk.keys(), self.disk.rows, start, end, limit)
        return list(takewhile(lambda row: row[0] not in self.disk.damaged, found))

    patch.set(memory.MemoryStore, "scan", scan)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("flush what is in flight", "9", _flush_what_is_in_flight),
    Mutant("believe any store", "10", _believe_any_store),
    Mutant("refuse a command for its store", "10", _refuse_for_the_store, WAITS),
    Mutant("forget the rows of a flush that failed", "10", _forget_a_flush_that_failed),
    Mutant("end a scan at a damaged row", "10", _end_a_scan_at_damage, NO_END),
    Mutant("forget dirty marks at a restart", "11", _forget_marks_at_restart),
    Mutant("forget a touched row", "11", _forget_a_touched_row),
    Mutant("forget what another owner checkpointed", "11", _forget_what_others_checkpointed),
    Mutant("checkpoint a fuzzy copy", "12", _copy_fuzzily, GOES_ON),
    Mutant("checkpoint whoever owns the lane", "13", _checkpoint_for_anybody, WENT_AND_CAME_BACK),
    Mutant("checkpoint by the group of today", "13", _checkpoint_by_todays_group, WENT_AND_CAME_BACK),
    Mutant("checkpoint without a look at the journal", "13", _checkpoint_without_a_look, UNNOTICED),
    Mutant("trim without a checkpoint", "14", _trim_without_checkpoint),
    Mutant("restore without positions", "15", _restore_without_positions),
    Mutant("lose deletions", "15", _lose_deletions),
)
