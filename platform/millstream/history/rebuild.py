"""Beginning again from a checkpoint, where the journal's beginning is gone (lanes.md rule 14).

A history that was away for longer than the journal is kept, or that is new, finds runs in the journal whose start it
cannot see. What is known of them is in the compacted topics: the rows of every run that was open at record N.

    rows at N (into a scratch store) ──> runs, their events and steps, who stands at gates, into the index   [in chunks]
    then, in one transaction: the position behind C, the oldest checkpoint that the journal still holds,
    and doubts about runs that the index believes open and the rows do not know
    then the journal from C + 1: the rows' steps come once more, with their times
    past N: what is still open and doubted ended where nobody can look any more; it goes

C and not N, because runs that began and ended between them are in no row. The list beside the rows says where C lies
and whose records count behind it (``state/checkpointed.py``). Dying anywhere in here begins it again: the position
moves last, and what a checkpoint says of a step only fills in what nothing else has told (``trail.read``).

Rows have no times, and no errors of attempts that were tried again: those show as unknown. So is since when a run
queues.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

import msgspec

from millstream.core.step_kinds import kind_of
from millstream.errors import LogUnavailable
from millstream.history import queues
from millstream.history.fold import QUEUED, RUNNING, Changes, RunChange
from millstream.history.index import Folded, Index
from millstream.history.queues import Standing
from millstream.log.port import Log
from millstream.log.read_all import read_rest
from millstream.model import trail
from millstream.model.function import decode_app_spec
from millstream.model.gates.rows import AskRow, BatchRow, GateRow, KeptStartRow, SingletonRow
from millstream.model.ids import is_ulid, lane_of
from millstream.model.messages import group_topic
from millstream.model.operations import failure_of
from millstream.model.rows import AppRow, EventRow, Hand, HeldRow, ParkedRow, RunRow, StepRow
from millstream.model.waits.shown import written
from millstream.state.checkpointed import Checkpointed
from millstream.state.keyspace import BY_NAME, CHECKPOINT_TOPICS
from millstream.state.marker import Marker
from millstream.state.restore import Restore
from millstream.state.store import Store
from millstream.wire.rows import AnyRow, decode_row

TRIES_MAX: Final = 50
TRY_AGAIN_S: Final = 0.2
ROWS_PER_CHUNK: Final = 500
UNKNOWN_ERROR: Final = ("Unknown", "what this attempt said lay in a part of the journal that is gone", "")

_log = logging.getLogger(__name__)


class Base(msgspec.Struct, frozen=True):
    """A checkpoint whose rows are in the store: made at ``marker``; the journal is read on from behind ``begin``."""

    marker: Marker
    begin: Marker


async def load(log: Log, group: str, lane: int, store: Store) -> Base | None:
    """Fill the store with a lane's last checkpoint; None where there never was one.

    The lane goes on checkpointing meanwhile: after the first pass only what has come since is read, until all topics
    show the same checkpoint. Raises LogUnavailable where they do not.
    """
    rows = Restore(store)
    topics = {which: group_topic(group, which) for which in CHECKPOINT_TOPICS}
    readers = {which: log.reader(topic, lane, await log.start_offset(topic, lane)) for which, topic in topics.items()}
    try:
        for _ in range(TRIES_MAX):
            for which, topic in topics.items():
                async for page in read_rest(log, topic, lane, readers[which]):
                    await rows.take(which, [(record.key or b"", record.value) for record in page])
            marker = rows.marker()
            start = await log.start_offset(group_topic(group, "journal"), lane)
            if marker is not None and marker.offset + 1 >= start:
                await rows.finish()
                return Base(marker, _oldest_usable(rows.checkpointed, marker, start))
            if rows.empty:
                return None
            await asyncio.sleep(TRY_AGAIN_S)
    finally:
        for reader in readers.values():
            await reader.close()
    raise LogUnavailable(
        f"the compacted topics of lane {lane} of group {group!r} did not show one checkpoint in {TRIES_MAX} tries: "
        "expected the same marker in each. Look at them with: millstream lanes verify."
    )


def _oldest_usable(done: tuple[Checkpointed, ...], last: Marker, start: int) -> Marker:
    """The oldest checkpoint behind which the journal is whole."""
    return next((one.marker for one in done if one.offset + 1 >= start), last)


async def merge(index: Index, base: Base, store: Store, folded: Folded, lanes: int) -> Folded:
    """Put the rows into the index, and stand behind ``base.begin``. ``folded`` names the journal's partition."""
    runs = 0
    for changes in chain(_standing(store, folded.partition, lanes), _chunks(store)):
        index.merge(changes)
        runs += len(changes.runs)
        await asyncio.sleep(0)
    reached = Folded(folded.topic, folded.partition, base.begin.offset + 1, owner=base.begin.owner, seq=base.begin.seq)
    spec = BY_NAME["runs"]
    encode = spec.encode()
    doubted = [
        run
        for run in index.open_runs()
        if is_ulid(run) and lane_of(run, lanes) == folded.partition and store.get(encode(run)) is None
    ]
    index.go_on_from(reached, doubted, upto=base.marker.offset)
    lost = (folded.partition, runs, len(doubted), base.begin.offset, base.marker.offset)
    _log.warning("history began again from a checkpoint lane=%d runs=%d doubted=%d journal_from=%d rows_at=%d", *lost)
    return reached


def _standing(store: Store, lane: int, lanes: int) -> Iterator[Changes]:
    """Who stands at the gates whose home the lane is; the first chunk drops all that was known of them."""
    changes = Changes()
    changes.queues.afresh = (lane, lanes)
    for count, (place, who, row) in enumerate(_stand(store), 1):
        changes.queues.put(place, who, row)
        if count % ROWS_PER_CHUNK == 0:
            yield changes
            changes = Changes()
    yield changes


def _stand(store: Store) -> Iterator[tuple[str, tuple[str, str], Standing]]:
    for ask in _all_rows(store, "asks", AskRow):
        state = queues.HELD if ask.is_held else queues.QUEUED
        yield ask.place, (ask.run, ask.step), Standing(ask.function, state, 0)
    for gate in _all_rows(store, "gates", GateRow):
        if gate.full_us:
            yield gate.place, queues.PLACE, Standing(gate.turn, queues.CLOCK, 0, gate.full_us)
    for one in _all_rows(store, "kept_starts", KeptStartRow):
        kept = Standing(one.start.function, queues.KEPT, one.first_ms, one.due_ms)
        yield one.place, (one.start.event.internal_id, ""), kept
    for batch in _all_rows(store, "batches", BatchRow):
        for event in batch.events:
            yield batch.place, (event, ""), Standing(batch.function, queues.KEPT, 0, batch.due_ms)
    for single in _all_rows(store, "singletons", SingletonRow):
        if (start := single.kept) is not None:
            since_ms = start.event.received_at_ms
            yield single.place, (start.event.internal_id, ""), Standing(start.function, queues.KEPT, since_ms)


def _all_rows(store: Store, table: str, row_type: type[AnyRow]) -> Iterator[AnyRow]:
    spec = BY_NAME[table]
    at = spec.prefix
    while page := store.scan(at, spec.end, ROWS_PER_CHUNK):
        yield from (decode_row(row_type, raw) for _, raw in page)
        at = page[-1][0] + b"\x00"


def _chunks(store: Store) -> Iterator[Changes]:
    changes = Changes()
    for app in _all_rows(store, "apps", AppRow):
        if app.spec:
            changes.apps[app.app] = decode_app_spec(app.spec)
    spec = BY_NAME["runs"]
    at = spec.prefix
    while page := store.scan(at, spec.end, ROWS_PER_CHUNK):
        for _, raw in page:
            _add(changes, store, decode_row(RunRow, raw))
        yield changes
        changes = Changes()
        at = page[-1][0] + b"\x00"
    if changes.apps:
        yield changes


def _add(changes: Changes, store: Store, row: RunRow) -> None:
    """An open run, with what started it and its steps."""
    waits = row.body == Hand.SCHEDULED or (row.body == Hand.QUEUED and not row.body_dispatch)
    change = changes.runs[row.run] = RunChange(row.run, new=True, status=QUEUED if waits else RUNNING)
    change.function, change.events, change.cause = row.function, row.events, row.cause
    change.queued_ms, change.started_ms = row.queued_at_ms, 0 if waits else row.queued_at_ms
    event_key, step_key, parked_key, held_key = (BY_NAME[t].encode() for t in ("events", "steps", "parked", "held"))
    for id in row.events:
        raw = store.get(event_key(id))
        if raw is not None:
            event = decode_row(EventRow, raw).event
            changes.add_event(event, "", 0, 0)
            change.event_name = change.event_name or event.name

    def parked(step: str) -> trail.Entry:
        raw = store.get(parked_key((row.function, row.run, step)))
        found = decode_row(ParkedRow, raw) if raw is not None else None
        if found is not None and found.given_back:
            return (trail.GIVEN_BACK, 0, step)
        return (trail.PARKED, 0, step, row.function, found.reason if found is not None else "")

    def held(step: str, name: str, kind: str, attempt: int) -> trail.Entry:
        raw = store.get(held_key((row.function, row.run, step)))
        head = (trail.HELD, 0, step, name, kind, attempt, 0)
        if raw is None:
            return (*head, *UNKNOWN_ERROR)
        why = decode_row(HeldRow, raw)
        return (*head, why.error_name, why.error_message, why.error_stack, why.error_more)

    for step in row.steps:
        raw = store.get(step_key((row.run, step)))
        if raw is not None:
            step_row = decode_row(StepRow, raw)
            if step_row.hand == Hand.HELD:
                change.entries.append(held(step, step_row.name, step_row.kind, step_row.attempt))
                continue
            change.entries += _entries(step_row, parked)
    if row.body == Hand.BACKOFF and row.attempt:
        change.entries.append((trail.BODY_ERRORED, 0, "", row.attempt - 1, row.wake_at_ms, *UNKNOWN_ERROR))
    elif row.body == Hand.PARKED:
        change.entries.append(parked(""))
    elif row.body == Hand.HELD:
        change.entries.append(held("", "", "", row.attempt))


def _entries(row: StepRow, parked: Callable[[str], trail.Entry]) -> list[trail.Entry]:
    """What is known of a step, at no time (0)."""
    step, name, kind = row.step, row.name, row.kind
    match row.hand:
        case Hand.DONE if (shows := kind_of(kind).shows_done) is not None:
            return [(trail.SLEEPING, 0, step, name, kind, row.wake_at_ms), shows(row)]
        case Hand.DONE:
            shown = kind_of(kind).shows_result
            data = shown(row) if shown is not None else row.data
            done = (trail.DONE, 0, step, name, kind, row.attempt, 0, data)
            if row.awaits is None or shown is not None:
                return [done]
            waited = (trail.WAITING, 0, step, name, kind, row.wake_at_ms, written(row.awaits))
            return [waited, (trail.CAME, 0, step, 0), done]  # A signal was sent: its name stays beside its result.
        case Hand.FAILED:
            error = failure_of(row.data)
            head = (trail.FAILED, 0, step, name, kind, row.attempt, 0, 0)
            return [(*head, error.name, error.message, error.stack, error.more)]
        case Hand.SLEEPING:
            return [(trail.SLEEPING, 0, step, name, kind, row.wake_at_ms)]
        case Hand.WAITING | Hand.CLOSING if row.awaits is not None:
            return [(trail.WAITING, 0, step, name, kind, row.wake_at_ms, written(row.awaits))]
        case Hand.BACKOFF if row.attempt:
            return [(trail.ERRORED, 0, step, name, kind, row.attempt - 1, 0, row.wake_at_ms, *UNKNOWN_ERROR)]
        case Hand.PARKED:
            return [(trail.PLANNED, 0, step, name, kind), parked(step)]
        case _:
            return [(trail.PLANNED, 0, step, name, kind)]
