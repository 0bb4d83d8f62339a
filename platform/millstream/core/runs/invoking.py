"""Invoking: one function started directly, whatever its triggers say."""

from __future__ import annotations

from millstream.core.flow.starts import through_gates
from millstream.core.messages import MessageKind
from millstream.core.origin import OWN_EVENT, new_run_id
from millstream.core.requests import answer
from millstream.core.runs.ending import told_not_started
from millstream.core.starting import start
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.model.commands import InvokeFunction
from millstream.model.facts import CommandRefused, Fact


def invoke(tables: Tables, command: InvokeFunction, now_ms: int) -> list[Fact]:
    """Start the function on the event it was given. The run lives on this lane."""
    spec = catalogue(tables).functions.get(command.function)
    if spec is None:
        if command.cause:
            reason = "no function has this id: check its name, and that its app is deployed"
            return told_not_started(tables, command.function, command.cause, reason)
        return answer(command, {"status": "unknown_function", "function": command.function})
    cause = command.cause or command.request or command.event.internal_id
    if spec.flow is not None:
        post, _ = through_gates(
            tables, spec, command.event, OWN_EVENT, cause=cause, request=command.request, reply_to=command.reply_to
        )
        return [post]
    run = new_run_id(tables, command.function, command.event, cause)
    said = answer(command, {"status": "started", "run": run})
    if tables.runs.get(run) is not None:
        return said  # Asked before, so long ago that the answer is forgotten; the run is still open.
    return [*start(tables, command.event, (command.function,), OWN_EVENT, cause=cause), *said]


def refuse(tables: Tables, command: InvokeFunction, reason: str, now_ms: int) -> list[Fact]:
    """What remains of one that raised: the step that waits is told."""
    refused: list[Fact] = [CommandRefused("InvokeFunction", command.function, reason)]
    return [*refused, *told_not_started(tables, command.function, command.cause, reason)]


INVOKE_FUNCTION = MessageKind(message=InvokeFunction, decide=invoke, remains=refuse)
