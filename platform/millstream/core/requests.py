"""Answers to what apis ask. The answer to a request id is remembered for a day: asking again gives the same answer and
does nothing twice."""

from __future__ import annotations

import json
from collections.abc import Sequence

from millstream.core.handles import Handles
from millstream.core.tables import Tables
from millstream.model.effects import Answer, Effect
from millstream.model.facts import Fact, RequestAnswered, RequestsDropped
from millstream.model.gates.messages import AdmitStart
from millstream.model.ids import ulid
from millstream.model.limits import REQUEST_IDS_KEPT_MS
from millstream.model.messages import Request
from millstream.model.rows import RequestRow

REQUESTS_DROPPED_AT_ONCE_MAX = 1_000


def answered(tables: Tables, request: Request | AdmitStart) -> list[Fact] | None:
    """The decision for a request that was answered before: the same answer, to the api that asks now."""
    row = tables.requests.get(request.request) if request.request else None
    return None if row is None else [RequestAnswered(request.request, request.reply_to, row.reply)]


def answer(request: Request | AdmitStart, reply: dict[str, str]) -> list[Fact]:
    """The answer to a request; none where it has no id, since no api waits."""
    if not request.request:
        return []
    return [RequestAnswered(request.request, request.reply_to, json.dumps(reply, separators=(",", ":")).encode())]


def expired(tables: Tables, now_ms: int) -> list[Fact]:
    """Request ids older than a day are forgotten. They are ULIDs: their order is their time."""
    before = ulid(max(now_ms - REQUEST_IDS_KEPT_MS, 0), bytes(10))
    old = [id for id, _ in tables.requests.scan(limit=REQUESTS_DROPPED_AT_ONCE_MAX) if id < before]
    return [RequestsDropped(before, len(old))] if old else []


# --- fold -----------------------------------------------------------------------------------------


def request_answered(tables: Tables, f: RequestAnswered, at_ms: int) -> Sequence[Effect]:
    """Remember the answer, and give it to the api that waits."""
    tables.requests.put(f.request, RequestRow(f.request, f.reply_to, f.reply))
    return (Answer(f.request, f.reply_to, f.reply),) if f.reply_to >= 0 else ()


def requests_dropped(tables: Tables, f: RequestsDropped, at_ms: int) -> Sequence[Effect]:
    """Forget old answers."""
    for request, _ in tables.requests.scan(limit=f.count):
        if request < f.before:
            tables.requests.delete(request)
    return ()


HANDLES = Handles(facts={RequestAnswered: request_answered, RequestsDropped: requests_dropped})
