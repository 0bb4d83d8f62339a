"""Deliberate faults: each breaks one rule of a lane on the real code, and the simulation must notice.

Data: a mutant is a name, the rule it breaks, and how. They are never applied to the observer, which imports its own.
Rules that no world here can break have unit tests instead: 4 and 27 in ``tests/lane``, 8 with its clock there, too.

Add a mutant: a function that takes a ``Patch`` and one line in ``MUTANTS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.core import decide as core_decide
from penstock.core import events as core_events
from penstock.core import fold as core_fold
from penstock.core import reports, requests, seen
from penstock.errors import LogUnavailable
from penstock.execute.local import LocalExecutor
from penstock.lane import journal as lane_journal
from penstock.lane import lane as lane_lane
from penstock.lane import outbox as lane_outbox
from penstock.lane import ownership, sources, timers, upkeep
from penstock.lane import restore as lane_restore
from penstock.log.port import Produced
from penstock.model.commands import FireTimer, Report
from penstock.model.facts import Fact, MessageSent, PublishQueued
from penstock.model.journal import JournalRecord
from penstock.model.rows import Hand
from penstock.state import checkpoint, flush, layers, tables
from penstock.state.keyspace import MARKS
from penstock.wire.journal import Validity, encode_parts
from penstock.wire.rows import encode_row
from penstock.worker import Worker

SEEDS_MAX = 150
"""Within how many seeds each is to be caught."""


class Patch:
    """Attributes changed for a while."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any, bool]] = []

    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Set an attribute (or an item of a dict); returns what was there."""
        if isinstance(owner, dict):
            before = owner[name]
            self._before.append((owner, name, before, True))
            owner[name] = value
            return before
        had = name in vars(owner)
        before = getattr(owner, name, None)
        self._before.append((owner, name, before, had))
        setattr(owner, name, value)
        return before

    def undo(self) -> None:
        """As it was."""
        for owner, name, before, had in reversed(self._before):
            if isinstance(owner, dict):
                owner[name] = before
            elif had:
                setattr(owner, name, before)
            else:
                delattr(owner, name)
        self._before.clear()


@dataclass(frozen=True, slots=True)
class Mutant:
    """``rule`` of lanes.md (or of a promise), and the fault."""

    name: str
    rule: str
    apply: Callable[[Patch], None]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The fault is in the product meanwhile."""
        patch = Patch()
        try:
            self.apply(patch)
            yield
        finally:
            patch.undo()


# --- ownership and the journal --------------------------------------------------------------------


class _Credulous(Validity):
    """Takes every record, whoever wrote it."""

    def take(self, record: JournalRecord) -> JournalRecord | None:
        self.owner, self.seq = record.owner, record.seq
        return record


class _Impatient(Validity):
    """Takes a part for the whole."""

    def take(self, record: JournalRecord) -> JournalRecord | None:
        return super().take(msgspec.structs.replace(record, more=False))


def _validity(kind: type[Validity]) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        for module in (lane_journal, lane_lane, lane_restore):
            patch.set(module, "Validity", kind)

    return apply


def _trust_any_answer(patch: Patch) -> None:
    async def append(self: Any, facts: Any, positions: Any, at_ms: int) -> int:
        record = JournalRecord(self.owner, self.seq + 1, at_ms, facts, positions)
        parts = encode_parts(record)
        try:
            await self._writer.append([Produced(part) for part in parts])
        except lane_journal.OutcomeUnknown:
            pass  # It will have been written.
        except LogUnavailable as error:
            raise lane_journal.Refused(str(error)) from error
        self.expected += len(parts)
        self.seq += len(parts)
        return sum(map(len, parts))

    patch.set(lane_journal.Journal, "append", append)


def _skip_the_fence_check(patch: Patch) -> None:
    """Wherever the record came to lie, nobody else has written."""

    class Anywhere(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    real = lane_journal.Journal.append

    async def append(self: Any, facts: Any, positions: Any, at_ms: int) -> int:
        self.expected = Anywhere(self.expected)
        return await real(self, facts, positions, at_ms)

    patch.set(lane_journal.Journal, "append", append)


def _take_unknown_for_refused(patch: Patch) -> None:
    """An unknown outcome is taken for "not written": the next record follows under the same number."""

    async def look(self: Any, *what: Any) -> None:
        raise lane_journal.Refused("no answer")

    patch.set(lane_journal.Journal, "_look", look)


def _act_before_durable(patch: Patch) -> None:
    real = lane_lane.Lane._commit

    async def commit(self: Any, turn: Any) -> None:
        self.tables.promote()
        self._release(turn.effects)
        turn.effects = []
        await real(self, turn)

    patch.set(lane_lane.Lane, "_commit", commit)


def _fence_and_fold_nothing(patch: Patch) -> None:
    async def fold_upto(log: Any, tables: Any, reached: Any, end: int, progress: Any) -> Any:
        fence = (await log_read(log, tables, end - 1))[0]
        return lane_restore.Reached(end, Validity(fence.owner, fence.seq), reached.at_ms, 0)

    async def log_read(log: Any, tables: Any, offset: int) -> Any:
        reader = log.reader(f"{tables.place.group}.journal", tables.place.lane, offset)
        page = await reader.read(max_records=1, max_bytes=1, wait_s=1)
        return [lane_restore.decode_record(found.value) for found in page]

    patch.set(ownership, "fold_upto", fold_upto)


def _keep_revoked_lanes(patch: Patch) -> None:
    async def revoked(self: Any, lanes: Any) -> None:
        """Nobody needs to know."""

    patch.set(Worker, "_revoked", revoked)


def _follow_the_clock(patch: Patch) -> None:
    patch.set(lane_lane, "max", lambda *values: values[0])


# --- state ----------------------------------------------------------------------------------------


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

    patch.set(lane_restore, "_behind", behind)


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

    async def begin(cls: Any, lane_tables: Any, marker: Any) -> Any:
        made = await real(cls, lane_tables, marker)
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
    patch.set(upkeep, "TRIM_EVERY_MS", 1_000)


def _restore_without_positions(patch: Patch) -> None:
    def apply(tables: Any, record: Any) -> None:
        for fact in record.facts:
            lane_restore.fold(tables, fact, record.at_ms)

    patch.set(lane_restore, "apply", apply)


def _forget_what_others_checkpointed(patch: Patch) -> None:
    patch.set(tables.LaneTables, "fold_anothers", lambda self: None)


def _lose_deletions(patch: Patch) -> None:
    real = layers.LayeredTable.delete

    def delete(self: Any, key: Any) -> None:
        if self.spec.name != "timers":
            real(self, key)
        else:
            self._live[key] = None
            self.flight.pop(key, None)

    patch.set(layers.LayeredTable, "delete", delete)


# --- input ----------------------------------------------------------------------------------------


def _open_sources_silently(patch: Patch) -> None:
    real = lane_lane.Lane.submit

    def submit(self: Any, command: Any) -> None:
        if not isinstance(command, lane_lane.OpenSource):
            real(self, command)

    patch.set(lane_lane.Lane, "submit", submit)


def _remember_no_ids(patch: Patch) -> None:
    patch.set(seen, "remember", lambda tables, fact: None)


def _random_run_ids(patch: Patch) -> None:
    real = core_events.run_id
    numbers = iter(range(1 << 60))

    def run_id(event_ms: int, internal_id: str, function: str, cause: str, *, lane: int, lanes: int) -> str:
        return real(event_ms, internal_id + str(next(numbers)), function, cause, lane=lane, lanes=lanes)

    patch.set(core_events, "run_id", run_id)


def _stop_on_poison(patch: Patch) -> None:
    class Never(Exception):
        """What nobody raises."""

    patch.set(sources, "Corruption", Never)


def _ignore_the_catalogue_stamp(patch: Patch) -> None:
    async def at(self: Any, offset: int) -> None:
        """Nobody waits."""

    patch.set(sources.Intake, "_catalogue_at", at)


def _lose_what_has_no_code(patch: Patch) -> None:
    real = LocalExecutor._enter

    def enter(self: Any, effect: Any, ended: Any) -> Any:
        return None if effect.function not in self._functions else real(self, effect, ended)

    patch.set(LocalExecutor, "_enter", enter)


# --- executing ------------------------------------------------------------------------------------


def _accept_late_answers(patch: Patch) -> None:
    def report(lane_tables: Any, command: Report, now_ms: int) -> list[Fact]:
        if command.step:
            row = lane_tables.steps.get((command.run, command.step))
            if row is not None and row.hand in (Hand.OUT, Hand.BACKOFF):
                late = msgspec.structs.replace(command, attempt=row.attempt, dispatch=row.dispatch)
                return reports.report(lane_tables, late, now_ms)
        run = lane_tables.runs.get(command.run)
        if run is not None and not command.step and run.body == Hand.OUT:
            late = msgspec.structs.replace(command, attempt=run.attempt, dispatch=run.body_dispatch)
            return reports.report(lane_tables, late, now_ms)
        return reports.report(lane_tables, command, now_ms)

    patch.set(core_decide.DECIDE, Report, report)  # type: ignore[arg-type]


def _forget_lost_dispatches(patch: Patch) -> None:
    real = lane_lane.Lane.submit

    def submit(self: Any, command: Any) -> None:
        if not isinstance(command, lane_lane.LoseDispatch):
            real(self, command)

    patch.set(lane_lane.Lane, "submit", submit)


def _forget_executions_at_reopen(patch: Patch) -> None:
    patch.set(LocalExecutor, "holds", lambda self, run, step, dispatch: False)
    patch.set(lane_lane.Lane, "_reopen", _reopen_with_new_executor(lane_lane.Lane._reopen))


def _reopen_with_new_executor(real: Any) -> Any:
    async def reopen(self: Any, turn: Any, why: str) -> None:
        self.executor._bodies = {}
        await real(self, turn, why)

    return reopen


# --- between lanes --------------------------------------------------------------------------------


def _take_every_message(patch: Patch) -> None:
    def take_message(lane_tables: Any, command: Any, now_ms: int) -> list[Fact]:
        message = command.message
        if isinstance(message, requests.CancelRun):
            decided = requests.cancel(lane_tables, message, now_ms)
        else:
            decided = requests.invoke(lane_tables, message, now_ms)
        return [requests.MessageTaken(command.from_lane, command.seq), *decided]

    patch.set(core_decide.DECIDE, requests.TakeMessage, take_message)  # type: ignore[arg-type]


def _drop_the_outbox_row(patch: Patch) -> None:
    real: Any = core_fold.FOLD[MessageSent]

    def message_sent(lane_tables: Any, fact: Any, at_ms: int) -> Sequence[Any]:
        effects: Sequence[Any] = real(lane_tables, fact, at_ms)
        lane_tables.outbox.delete((fact.to_lane, fact.seq))
        return effects

    patch.set(core_fold.FOLD, MessageSent, message_sent)  # type: ignore[arg-type]


def _forget_requests(patch: Patch) -> None:
    patch.set(requests, "_answered", lambda tables, request: None)


def _note_before_it_is_sent(patch: Patch) -> None:
    real = lane_outbox.Outbox._append

    async def append(self: Any, topic: str, partition: int, records: Any) -> bool:
        await real(self, topic, partition, records)
        return True

    patch.set(lane_outbox.Outbox, "_append", append)


def _drop_the_publish_row(patch: Patch) -> None:
    real: Any = core_fold.FOLD[PublishQueued]

    def queued(lane_tables: Any, fact: Any, at_ms: int) -> Sequence[Any]:
        effects: Sequence[Any] = real(lane_tables, fact, at_ms)
        lane_tables.publishes.delete(fact.number)
        return effects

    patch.set(core_fold.FOLD, PublishQueued, queued)  # type: ignore[arg-type]


def _forget_timers_at_restart(patch: Patch) -> None:
    async def load(self: Any, start_ms: int, until_ms: int) -> None:
        self._horizon_ms = until_ms

    patch.set(timers.Timers, "_load", load)


def _lose_a_timer(patch: Patch) -> None:
    """A timer that fires while an append is under way is dropped."""
    real = timers.Timers._fire

    def fire(self: Any) -> None:
        submit, numbers = self._submit, [0]

        def some(command: FireTimer) -> None:
            numbers[0] += 1
            if hash((command.at_ms, command.step)) % 5:
                submit(command)

        self._submit = some
        try:
            real(self)
        finally:
            self._submit = submit

    patch.set(timers.Timers, "_fire", fire)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("take every record for valid", "1", _validity(_Credulous)),
    Mutant("trust any answer of the log", "2", _trust_any_answer),
    Mutant("skip the fence check", "2", _skip_the_fence_check),
    Mutant("take an unknown outcome for a refusal", "2", _take_unknown_for_refused),
    Mutant("act before durable", "2", _act_before_durable),
    Mutant("fence, but fold nothing below the fence", "5", _fence_and_fold_nothing),
    Mutant("keep lanes that were revoked", "6", _keep_revoked_lanes),
    Mutant("follow a clock that goes back", "8", _follow_the_clock),
    Mutant("flush what is in flight", "9", _flush_what_is_in_flight),
    Mutant("believe any store", "10", _believe_any_store),
    Mutant("forget dirty marks at a restart", "11", _forget_marks_at_restart),
    Mutant("forget a touched row", "11", _forget_a_touched_row),
    Mutant("forget what another owner checkpointed", "11", _forget_what_others_checkpointed),
    Mutant("checkpoint a fuzzy copy", "12", _copy_fuzzily),
    Mutant("trim without a checkpoint", "14", _trim_without_checkpoint),
    Mutant("restore without positions", "15", _restore_without_positions),
    Mutant("lose deletions", "15", _lose_deletions),
    Mutant("open sources silently", "18", _open_sources_silently),
    Mutant("remember no ids", "19", _remember_no_ids),
    Mutant("give runs random ids", "20", _random_run_ids),
    Mutant("take a part for the whole", "21", _validity(_Impatient)),
    Mutant("stop on a poison record", "22", _stop_on_poison),
    Mutant("ignore the catalogue stamp", "23", _ignore_the_catalogue_stamp),
    Mutant("lose runs that have no code here", "23", _lose_what_has_no_code),
    Mutant("accept late answers", "24", _accept_late_answers),
    Mutant("forget what a dead worker ran", "24", _forget_lost_dispatches),
    Mutant("forget executions at a reopen", "25", _forget_executions_at_reopen),
    Mutant("take every message", "28", _take_every_message),
    Mutant("drop the outbox row", "28", _drop_the_outbox_row),
    Mutant("forget requests", "29", _forget_requests),
    Mutant("note before it is sent", "29a", _note_before_it_is_sent),
    Mutant("drop the publish row", "29a", _drop_the_publish_row),
    Mutant("forget timers at a restart", "32", _forget_timers_at_restart),
    Mutant("lose a timer", "32", _lose_a_timer),
)
