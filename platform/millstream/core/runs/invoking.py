"""Invoking: one function started directly, whatever its triggers say."""

from __future__ import annotations

from millstream.core.messages import MessageKind
from millstream.core.requests import answer
from millstream.core.runs.ending import waits_for
from millstream.core.starting import OWN_EVENT, new_run_id, start
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.model.commands import ChildEnded, InvokeFunction
from millstream.model.facts import CommandRefused, Fact, Post
from millstream.model.ids import lane_of
from millstream.model.operations import Failure


def invoke(tables: Tables, command: InvokeFunction, now_ms: int) -> list[Fact]:
    """Start the function on the event it was given. The run lives on this lane."""
    if command.function not in catalogue(tables).functions:
        if command.cause:
            return [_refused(tables, command, "no function has this id: check its name, and that its app is deployed")]
        return answer(command, {"status": "unknown_function", "function": command.function})
    cause = command.cause or command.request or command.event.internal_id
    run = new_run_id(tables, command.function, command.event, cause)
    said = answer(command, {"status": "started", "run": run})
    if tables.runs.get(run) is not None:
        return said  # Asked before, so long ago that the answer is forgotten; the run is still open.
    return [*start(tables, command.event, (command.function,), OWN_EVENT, cause=cause), *said]


def refuse(tables: Tables, command: InvokeFunction, reason: str, now_ms: int) -> list[Fact]:
    """What remains of one that raised: the step that waits is told."""
    refused: list[Fact] = [CommandRefused("InvokeFunction", command.function, reason)]
    return [*refused, _refused(tables, command, reason)] if command.cause else refused


def _refused(tables: Tables, command: InvokeFunction, reason: str) -> Post:
    waiting = waits_for(command.cause)
    assert waiting is not None, f"the cause of an invocation names a step, got {command.cause!r}"
    run, step = waiting
    failure = Failure(NOT_STARTED, f"function {command.function!r} was not started: {reason}")
    return Post(lane_of(run, tables.place.lanes), ChildEnded(run, step, "", b"", failure))


NOT_STARTED = "FunctionNotStarted"
INVOKE_FUNCTION = MessageKind(message=InvokeFunction, decide=invoke, remains=refuse)
