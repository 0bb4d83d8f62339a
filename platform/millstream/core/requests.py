"""What apis ask of a lane, directly or forwarded by another lane: cancel a run, invoke a function.

A request has an id; the answer to it is remembered for a day, so that asking again gives the same answer and does
nothing twice.
"""

from __future__ import annotations

import json

from millstream.core.catalogue import catalogue
from millstream.core.events import accepted, started
from millstream.core.runs.plan import Plan
from millstream.core.tables import Tables
from millstream.model.commands import CancelRun, InvokeFunction, NoteDelivered, NotePublished, TakeMessage
from millstream.model.facts import (
    Fact,
    MessagesDelivered,
    MessageSent,
    MessageTaken,
    PublishesSent,
    RequestAnswered,
    RequestsDropped,
    RunCancelled,
)
from millstream.model.ids import is_ulid, lane_of, ulid
from millstream.model.limits import REQUEST_IDS_KEPT_MS
from millstream.model.messages import Request

REQUESTS_DROPPED_AT_ONCE_MAX = 1_000


def cancel(tables: Tables, command: CancelRun, now_ms: int) -> list[Fact]:
    """End a run from outside, on the lane that owns it; elsewhere, forward the wish there."""
    if not is_ulid(command.run):
        return answer(command, {"status": "not_open", "run": command.run})
    place = tables.place
    owner = lane_of(command.run, place.lanes)
    if owner != place.lane:
        return [send(tables, owner, command)]
    if (again := answered(tables, command)) is not None:
        return again
    run = tables.runs.get(command.run)
    if run is None:
        return answer(command, {"status": "not_open", "run": command.run})
    plan = Plan(tables, run, 0, now_ms)
    plan.end(RunCancelled(run.run, run.function, command.reason))
    return plan.facts + answer(command, {"status": "cancelled", "run": command.run})


def invoke(tables: Tables, command: InvokeFunction, now_ms: int) -> list[Fact]:
    """Start one function with this event, whatever its triggers say. The run lives on this lane."""
    if (again := answered(tables, command)) is not None:
        return again
    if command.function not in catalogue(tables).functions:
        return answer(command, {"status": "unknown_function", "function": command.function})
    start = started(tables, command.event, command.function, command.request or command.event.internal_id, 0)
    said = answer(command, {"status": "started", "run": start.run})
    if tables.runs.get(start.run) is not None:
        return said  # Asked before, so long ago that the answer is forgotten; the run is still open.
    return [accepted(command.event, "", 0, 0, b""), start, *said]


def take_message(tables: Tables, command: TakeMessage, now_ms: int) -> list[Fact]:
    """Take exactly the next message of a lane; a repeated one is ignored, one too early comes again."""
    cursor = tables.inbox_cursors.get(command.from_lane)
    if command.seq != (cursor.taken if cursor is not None else 0) + 1:
        return []
    message = command.message
    decided = cancel(tables, message, now_ms) if isinstance(message, CancelRun) else invoke(tables, message, now_ms)
    return [MessageTaken(command.from_lane, command.seq), *decided]


def send(tables: Tables, to_lane: int, message: CancelRun | InvokeFunction) -> MessageSent:
    """The fact that a message goes to another lane."""
    cursor = tables.outbox_cursors.get(to_lane)
    return MessageSent(to_lane, (cursor.sent if cursor is not None else 0) + 1, message)


def note_delivered(tables: Tables, command: NoteDelivered, now_ms: int) -> list[Fact]:
    """Messages are durable in the other lane's inbox."""
    cursor = tables.outbox_cursors.get(command.to_lane)
    if cursor is None or command.upto <= cursor.delivered:
        return []
    return [MessagesDelivered(command.to_lane, min(command.upto, cursor.sent))]


def note_published(tables: Tables, command: NotePublished, now_ms: int) -> list[Fact]:
    """Queued records are durable in their topics."""
    known = tuple(n for n in command.numbers if tables.publishes.get(n) is not None)
    return [PublishesSent(known)] if known else []


def expired(tables: Tables, now_ms: int) -> list[Fact]:
    """Request ids older than a day are forgotten. They are ULIDs: their order is their time."""
    before = ulid(max(now_ms - REQUEST_IDS_KEPT_MS, 0), bytes(10))
    old = [id for id, _ in tables.requests.scan(limit=REQUESTS_DROPPED_AT_ONCE_MAX) if id < before]
    return [RequestsDropped(before, len(old))] if old else []


def refused(command: Request, reason: str) -> list[Fact]:
    """The answer to a request that could not be decided."""
    return answer(command, {"status": "refused", "reason": reason})


def answered(tables: Tables, command: Request) -> list[Fact] | None:
    """The decision for a request that was answered before: the same answer, to whoever asks now."""
    row = tables.requests.get(command.request) if command.request else None
    return None if row is None else [RequestAnswered(command.request, command.reply_to, row.reply)]


def answer(command: Request, reply: dict[str, str]) -> list[Fact]:
    """The answer to a request; none where nobody waits."""
    if not command.request:
        return []
    return [RequestAnswered(command.request, command.reply_to, json.dumps(reply, separators=(",", ":")).encode())]
