"""The way of a start through the gates that say whether it starts at all, to the lane where its run lives.

start ──> AdmitStart ──> the home of each gate that admits ──> the run's lane: RunStarted, behind its other gates
"""

from __future__ import annotations

from millstream.core.flow.gates import ADMIT_GATES
from millstream.core.flow.places import parts_of
from millstream.core.flow.starts import home_of_start
from millstream.core.messages import MessageKind
from millstream.core.origin import Origin, accepted, new_run_id
from millstream.core.requests import answer
from millstream.core.runs.bounds import bounded, is_bounded
from millstream.core.runs.ending import told_not_started
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.model.facts import CommandRefused, Fact, RunStarted
from millstream.model.gate_messages import AdmitStart


def admit(tables: Tables, command: AdmitStart, now_ms: int) -> list[Fact]:
    """Ask the next gate. Where every one has said yes the run exists, and waits where it has others to pass."""
    if command.passed < len(command.admits):
        place = command.admits[command.passed]
        return ADMIT_GATES[parts_of(place).gate].decide(tables, command, place, now_ms)
    event = command.event
    run = new_run_id(tables, command.function, event, command.cause)
    said = answer(command, {"status": "started", "run": run})
    if tables.runs.get(run) is not None:
        return said  # Asked before, so long ago that the answer is forgotten; the run is still open.
    start = RunStarted(run, command.function, (event.internal_id,), command.cause, command.at_ms, command.flow)
    facts: list[Fact] = [start]
    if tables.events.get(event.internal_id) is None:
        facts.insert(0, accepted(event, Origin(command.topic, command.partition, command.offset)))
    function = catalogue(tables).functions.get(command.function)
    if function is not None and is_bounded(function):
        facts += bounded(tables, function, start, event)
    return [*facts, *said]


def refuse(tables: Tables, command: AdmitStart, reason: str, now_ms: int) -> list[Fact]:
    """What remains of one that raised: the step that waits is told."""
    refused: list[Fact] = [CommandRefused("AdmitStart", command.function, reason)]
    return [*refused, *told_not_started(tables, command.function, command.cause, reason)]


ADMIT_START = MessageKind(message=AdmitStart, decide=admit, home=home_of_start, remains=refuse)
