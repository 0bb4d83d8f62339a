"""The end of a run: the internal events that announce it, and what is let go of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from penstock.core import timers
from penstock.core.catalogue import catalogue, seen_upto
from penstock.core.tables import Tables
from penstock.model.effects import Abandon, Effect
from penstock.model.event import (
    FUNCTION_CANCELLED,
    FUNCTION_FAILED,
    FUNCTION_FINISHED,
    Envelope,
)
from penstock.model.facts import Fact, RunCancelled, RunCompleted, RunFailed
from penstock.model.ids import hash16, ulid
from penstock.model.rows import EventRow, Hand, RunRow, StepRow

FAILURE_SUFFIX: Final = "-failure"
_TIMER_OF: Final[dict[int, str]] = {Hand.BACKOFF: timers.RETRY, Hand.SLEEPING: timers.SLEEP, Hand.SCHEDULED: timers.DUE}


def ended(tables: Tables, run: RunRow, fact: Fact, now_ms: int) -> Iterator[Envelope]:
    """The internal events that this end is announced with: only those that somebody subscribes to.

    A failure handler's own end is not announced as failed: it would start itself for ever.
    """
    known = catalogue(tables)
    if isinstance(fact, RunCompleted):
        names: tuple[str, ...] = (FUNCTION_FINISHED,)
    elif isinstance(fact, RunFailed):
        is_handler = run.function.endswith(FAILURE_SUFFIX) and run.function[: -len(FAILURE_SUFFIX)] in known.functions
        names = (FUNCTION_FINISHED,) if is_handler else (FUNCTION_FAILED, FUNCTION_FINISHED)
    else:
        names = (FUNCTION_CANCELLED,)
    for name in names:
        if known.subscriptions(name):
            # finished events carry an id of their own; failed and cancelled ones the run's.
            id = ulid(now_ms, hash16(run.run, name)[:10])
            yield Envelope(
                internal_id=id,
                id=id if name == FUNCTION_FINISHED else run.run,
                id_is_clients=False,
                name=name,
                data=_announcement(tables, run, fact),
                ts_ms=now_ms,
                received_at_ms=now_ms,
                key=run.run,
                catalogue=seen_upto(tables),
            )


def _announcement(tables: Tables, run: RunRow, fact: Fact) -> bytes:
    events = [row.event for id in run.events if (row := tables.events.get(id)) is not None]
    try:
        return _announced(run, fact, [event_json(event) for event in events])
    except (ValueError, RecursionError):
        # No JSON: whoever produced it went past the door. The run must be able to end all the same.
        return _announced(run, fact, [_event_as_text(event) for event in events])


def _announced(run: RunRow, fact: Fact, events: list[dict[str, object]]) -> bytes:
    data: dict[str, object] = {
        "function_id": run.function,
        "run_id": run.run,
        "event": events[0] if events else {},
        "events": events,
    }
    if isinstance(fact, RunCompleted):
        data["result"] = json.loads(fact.result)
        status = "Completed"
    elif isinstance(fact, RunFailed):
        data["error"] = {
            "error": "invalid status code: 500",
            "message": fact.error_message,
            "name": fact.error_name,
            "stack": fact.error_stack,
        }
        status = "Failed"
    else:
        status = "Cancelled"
    data["_inngest"] = {"status": status}
    return json.dumps(data, separators=(",", ":")).encode()  # ASCII: a lone surrogate has no UTF-8.


def event_json(event: Envelope) -> dict[str, object]:
    """The event as users of the compatible face know it."""
    value: dict[str, object] = {
        "name": event.name,
        "data": json.loads(event.data),
        "id": event.id,
        "ts": event.ts_ms,
    }
    if event.user:
        value["user"] = json.loads(event.user)
    if event.v:
        value["v"] = event.v
    return value


def _event_as_text(event: Envelope) -> dict[str, object]:
    return {"name": event.name, "data": event.data.decode("utf-8", "replace"), "id": event.id, "ts": event.ts_ms}


def let_go(tables: Tables, run: RunRow, fact: Fact) -> list[Effect]:
    """Fold: remove every row of a run that has ended."""
    effects: list[Effect] = []
    id = run.run
    if run.pending:
        for step in run.steps:
            row = tables.steps.get((id, step))
            if row is not None:
                effects += leave_hand(tables, run, row)
    for step in run.steps:
        tables.steps.delete((id, step))
    if run.body != Hand.IDLE:
        effects += leave_hand(tables, run, None)
    for event in run.events:
        held = tables.events.get(event)
        if held is not None:
            if held.runs <= 1:
                tables.events.delete(event)
            else:
                tables.events.put(event, EventRow(held.event, held.runs - 1))
    tables.runs.delete(id)
    if run.pending or isinstance(fact, RunFailed | RunCancelled):
        effects.append(Abandon(id))
    return effects


def leave_hand(tables: Tables, run: RunRow, step: StepRow | None) -> list[Effect]:
    """Fold: a step (or, None, the body) leaves the hand it was in; its timer or parking place goes with it."""
    hand, wake_at_ms, id = (run.body, run.wake_at_ms, "") if step is None else (step.hand, step.wake_at_ms, step.step)
    kind = _TIMER_OF.get(hand)
    if kind is not None:
        return [timers.disarm(tables, wake_at_ms, kind, run.run, id)]
    if hand == Hand.PARKED:
        tables.parked.delete((run.function, run.run, id))
    return []
