"""Invoking: one function started directly, whatever its triggers say."""

from __future__ import annotations

from millstream.core.messages import MessageKind
from millstream.core.requests import answer
from millstream.core.starting import OWN_EVENT, new_run_id, start
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.model.commands import InvokeFunction
from millstream.model.facts import Fact


def invoke(tables: Tables, command: InvokeFunction, now_ms: int) -> list[Fact]:
    """Start the function on the event it was given. The run lives on this lane."""
    if command.function not in catalogue(tables).functions:
        return answer(command, {"status": "unknown_function", "function": command.function})
    cause = command.request or command.event.internal_id
    run = new_run_id(tables, command.function, command.event, cause)
    said = answer(command, {"status": "started", "run": run})
    if tables.runs.get(run) is not None:
        return said  # Asked before, so long ago that the answer is forgotten; the run is still open.
    return [*start(tables, command.event, (command.function,), OWN_EVENT, cause=cause), *said]


INVOKE_FUNCTION = MessageKind(message=InvokeFunction, decide=invoke)
