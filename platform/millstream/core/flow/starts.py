"""A start on its way through the gates that admit: how it begins, goes on, or is skipped."""

from __future__ import annotations

from msgspec.structs import replace

from millstream.core.flow.gates import way_of
from millstream.core.origin import Origin, new_run_id
from millstream.core.requests import answer
from millstream.core.runs.ending import told_not_started
from millstream.core.tables import Tables
from millstream.core.triggers.readable import readable
from millstream.errors import BadRequest
from millstream.model.awaited import home_of_place
from millstream.model.event import Envelope
from millstream.model.facts import Fact, FunctionSkipped, Post
from millstream.model.function import FunctionSpec
from millstream.model.gate_messages import AdmitStart


def through_gates(
    tables: Tables,
    function: FunctionSpec,
    event: Envelope,
    origin: Origin,
    *,
    cause: str = "",
    at_ms: int = 0,
    request: str = "",
    reply_to: int = -1,
) -> tuple[Post, str]:
    """The message with which a start begins its way through the gates, and the id of the run that it may become.

    Raises BadRequest on a time no run can have.
    """
    try:
        value = readable(event)
    except BadRequest:
        value = {}  # No JSON: its producer went past the door. Every key is null.
    place = tables.place
    way = way_of(function, value, at_ms or event.received_at_ms, lane=place.lane, lanes=place.lanes)
    message = AdmitStart(
        function.slug, event, cause, at_ms, way.admits, 0, way.flow, way.lane, origin.topic, origin.partition,
        origin.offset, request, reply_to,
    )  # fmt: skip
    run = new_run_id(tables, function.slug, event, cause, lane=way.lane)
    return Post(home_of_start(tables, message), message), run


def home_of_start(tables: Tables, start: AdmitStart) -> int:
    """Where it is decided: the home of its next gate; behind the last one the lane of the run."""
    if start.passed < len(start.admits):
        return home_of_place(start.admits[start.passed], tables.place.lanes)
    return start.lane


def onward(tables: Tables, start: AdmitStart) -> Post:
    """A gate has said yes: it goes to the next."""
    start = replace(start, passed=start.passed + 1)
    return Post(home_of_start(tables, start), start)


def skipped(tables: Tables, start: AdmitStart, reason: str) -> list[Fact]:
    """A gate has said no: there is no run, and whoever waits for one is told."""
    return [
        FunctionSkipped(start.event.internal_id, start.function, reason),
        *told_not_started(tables, start.function, start.cause, reason),
        *answer(start, {"status": "skipped", "function": start.function, "reason": reason}),
    ]
