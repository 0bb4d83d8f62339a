"""The events that announce the end of a run, as values: the same whether a lane writes one or the history shows it.

A lane writes an announcement only where a function subscribes to it; the rest of them the history derives from the
runs' ends, with the ids that written ones would have had.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from millstream.model.error_object import error_object, why_ended
from millstream.model.event import FUNCTION_CANCELLED, FUNCTION_FAILED, FUNCTION_FINISHED, Envelope
from millstream.model.facts import RunCancelled, RunCompleted, RunFailed
from millstream.model.ids import hash16, ulid
from millstream.model.invocation import correlation_of

RunEnd = RunCompleted | RunFailed | RunCancelled
FAILURE_SUFFIX: Final = "-failure"


def announcement_names(end: RunEnd, *, of_failure_handler: bool) -> tuple[str, ...]:
    """The names an end is announced under. A failure handler's own end is not announced as failed: it would start
    itself for ever."""
    if isinstance(end, RunCompleted):
        return (FUNCTION_FINISHED,)
    if isinstance(end, RunFailed):
        return (FUNCTION_FINISHED,) if of_failure_handler else (FUNCTION_FAILED, FUNCTION_FINISHED)
    return (FUNCTION_CANCELLED,)


def handled_function(function: str) -> str:
    """The function whose failure handler this one would be by its name; empty for other names."""
    return function[: -len(FAILURE_SUFFIX)] if function.endswith(FAILURE_SUFFIX) else ""


def announcement(name: str, end: RunEnd, events: Sequence[Envelope], at_ms: int, *, catalogue: int = 0) -> Envelope:
    """The event. ``at_ms`` is the time of the end's record, ``events`` what started the run."""
    id = announcement_id(name, end.run, at_ms)
    return Envelope(
        internal_id=id,
        # finished events carry an id of their own; failed and cancelled ones the run's.
        id=id if name == FUNCTION_FINISHED else end.run,
        id_is_clients=False,
        name=name,
        data=_data(end, events),
        ts_ms=at_ms,
        received_at_ms=at_ms,
        key=end.run,
        catalogue=catalogue,
    )


def announcement_id(name: str, run: str, at_ms: int) -> str:
    """The internal id of an announcement."""
    return ulid(at_ms, hash16(run, name)[:10])


def event_json(event: Envelope) -> dict[str, object]:
    """The event as users of the compatible face know it. Raises ValueError or RecursionError where it is no JSON."""
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


def _data(end: RunEnd, events: Sequence[Envelope]) -> bytes:
    waiting = next(filter(None, map(correlation_of, events)), "")
    try:
        return _announced(end, [event_json(event) for event in events], waiting)
    except (ValueError, RecursionError):
        # No JSON: its producer went past the door. The run must be able to end all the same.
        return _announced(end, [_event_as_text(event) for event in events], waiting)


def _announced(end: RunEnd, events: list[dict[str, object]], waiting: str) -> bytes:
    """The members in the order in which the SDKs' users see them. The first event has a user, if an empty one."""
    result: dict[str, object] = {}
    error: dict[str, object] = {}
    if isinstance(end, RunCompleted):
        result = {"result": json.loads(end.result)}
        status = "Completed"
    elif isinstance(end, RunFailed):
        error = {
            "error": {
                "error": why_ended(end.no_retry),
                "message": end.error_message,
                "name": end.error_name,
                "stack": end.error_stack,
            }
        }
        result = {"result": error_object(end.error_name, end.error_message, end.error_stack, end.error_more)}
        status = "Failed"
    else:
        status = "Cancelled"
    data = {
        "_inngest": {"status": status},
        **({"correlation_id": waiting} if waiting else {}),
        **error,
        "event": {**events[0], "user": events[0].get("user", {})} if events else {},
        "events": events,
        "function_id": end.function,
        **result,
        "run_id": end.run,
    }
    return json.dumps(data, separators=(",", ":")).encode()  # ASCII: a lone surrogate has no UTF-8.


def _event_as_text(event: Envelope) -> dict[str, object]:
    return {"name": event.name, "data": event.data.decode("utf-8", "replace"), "id": event.id, "ts": event.ts_ms}
