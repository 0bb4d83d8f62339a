"""``batch``: many events start one run. It begins when there are enough of them, or when the first has waited enough.

    AdmitStart ─> EventAccepted, BatchAdded
    enough, too many bytes, or a timer ─> RunStarted on all of them, BatchOver

The run lives at the home of its batch. Its keys are those of the first event. An event whose ``if_`` does not hold, and
a start that somebody asked for (invoke, rerun, backfill), has a run of its own at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.flow.kinds import AdmitGate
from millstream.core.flow.places import by_key, value_of
from millstream.core.flow.verdicts import flow_of, onward
from millstream.core.handles import Handler, Handles
from millstream.core.origin import Origin, accepted, new_run_id
from millstream.core.runs.bounds import bounded, is_bounded
from millstream.core.runs.ending import release_event
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.core.triggers.readable import readable
from millstream.errors import BadRequest
from millstream.model import limits
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect
from millstream.model.event import Envelope
from millstream.model.facts import BatchAdded, BatchOver, CommandRefused, Fact, FunctionSkipped, RunStarted
from millstream.model.gates.declared import BatchRule
from millstream.model.gates.messages import AdmitStart
from millstream.model.gates.rows import BatchRow
from millstream.model.rows import TimerRow

NAME: Final = "batch"


def add(tables: Tables, start: AdmitStart, place: str, now_ms: int) -> list[Fact]:
    """One more event; the run begins where there are enough."""
    rule, event = flow_of(tables, start.function).batch, start.event
    if start.cause or rule is None or not _collects(rule, start):
        return [onward(tables, start)]
    held = tables.batches.get(place)
    if held is not None and event.internal_id in held.events:
        return []
    facts: list[Fact] = []
    if tables.events.get(event.internal_id) is None:
        facts.append(accepted(event, Origin(start.topic, start.partition, start.offset)))
    size = len(event.data)
    if held is not None and held.bytes + size > limits.BATCH_BYTES_MAX:
        facts += _begins(tables, held, held.events)
        held = None
    if held is None:
        held = BatchRow(place, start.function, (), 0, start.flow, now_ms + rule.timeout_ms)
    facts.append(BatchAdded(place, start.function, event.internal_id, size, held.flow, held.due_ms))
    events = (*held.events, event.internal_id)
    if len(events) >= rule.max_size:
        facts += _begins(tables, held, events, first=event if not held.events else None)
    return facts


def _collects(rule: BatchRule, start: AdmitStart) -> bool:
    if not rule.expression:
        return True
    try:
        return value_of(rule.expression, readable(start.event)) is True
    except BadRequest:
        return False


def _begins(tables: Tables, batch: BatchRow, events: tuple[str, ...], first: Envelope | None = None) -> list[Fact]:
    """The run of a batch."""
    event = first
    if event is None:
        row = tables.events.get(events[0])
        assert row is not None, f"batch {batch.place} holds the event {events[0]}, and there is none"
        event = row.event
    run = new_run_id(tables, batch.function, event, "")
    start = RunStarted(run, batch.function, events, "", 0, batch.flow)
    function = catalogue(tables).functions.get(batch.function)
    bounds = bounded(tables, function, start, event) if function is not None and is_bounded(function) else []
    return [start, *bounds, BatchOver(batch.place)]


def fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """The first has waited enough."""
    held = tables.batches.get(command.id)
    assert held is not None, "a batch's timer goes with it"
    return _begins(tables, held, held.events)


def refuse(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of one that raised: none of its events starts the function, and each says so."""
    held = tables.batches.get(command.id)
    if held is None:
        return [CommandRefused("FireTimer", command.id, reason)]
    skipped = [FunctionSkipped(event, held.function, f"batch: {reason}") for event in held.events]
    return [CommandRefused("FireTimer", command.id, reason), *skipped, BatchOver(command.id)]


def is_timed(tables: Tables, timer: TimerRow) -> bool:
    """Whether a batch begins at this time."""
    held = tables.batches.get(timer.id)
    return held is not None and held.due_ms == timer.at_ms


# --- fold -----------------------------------------------------------------------------------------


def batch_added(tables: Tables, f: BatchAdded, at_ms: int) -> Sequence[Effect]:
    """The batch holds the event."""
    held = tables.events.get(f.event)
    assert held is not None, f"batch {f.place} took the event {f.event}, which was not accepted"
    tables.events.put(f.event, replace(held, runs=held.runs + 1))
    batch = tables.batches.get(f.place)
    if batch is not None:
        tables.batches.put(f.place, replace(batch, events=(*batch.events, f.event), bytes=batch.bytes + f.size))
        return ()
    tables.batches.put(f.place, BatchRow(f.place, f.function, (f.event,), f.size, f.flow, f.due_ms))
    return (timers.arm(tables, f.due_ms, timers.BATCH, f.place, ""),)


def batch_over(tables: Tables, f: BatchOver, at_ms: int) -> Sequence[Effect]:
    """Its run holds its events now."""
    batch = tables.batches.get(f.place)
    assert batch is not None, f"batch {f.place} is over, and there is none"
    for event in batch.events:
        release_event(tables, event)
    tables.batches.delete(f.place)
    return (timers.disarm(tables, batch.due_ms, timers.BATCH, f.place, ""),)


BATCH: Final = AdmitGate(name=NAME, places=by_key(NAME, lambda flow: flow.batch), decide=add)
HANDLES: Final = Handles(
    timers={timers.BATCH: Handler(fire, refuse)}, facts={BatchAdded: batch_added, BatchOver: batch_over}
)
