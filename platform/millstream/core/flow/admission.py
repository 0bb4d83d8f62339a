"""The way of a start through the gates that say whether it starts at all, to the lane where its run lives.

start ──> AdmitStart ──> the home of each gate that admits ──> the run's lane: RunStarted, behind its other gates
"""

from __future__ import annotations

from collections.abc import Iterator

from millstream.core.flow.gates import ADMIT_GATES
from millstream.core.flow.leaving import BODY, ONCE, leaves
from millstream.core.flow.places import parts_of
from millstream.core.flow.verdicts import home_of_start, run_of, skipped
from millstream.core.messages import MessageKind
from millstream.core.origin import Origin, accepted
from millstream.core.requests import answer, answered
from millstream.core.runs.bounds import bounded, is_bounded
from millstream.core.runs.ending import is_cancelled_ahead, told_not_started
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.model.facts import CommandRefused, Fact, RunStarted
from millstream.model.gates.messages import AdmitStart


def admit(tables: Tables, command: AdmitStart, now_ms: int) -> list[Fact]:
    """Ask the next gate. Where every one has said yes the run exists, and waits where it has others to pass."""
    again = answered(tables, command)
    if command.passed < len(command.admits):
        if again is not None:
            return again
        place = command.admits[command.passed]
        return ADMIT_GATES[parts_of(place).gate].decide(tables, command, place, now_ms)
    event = command.event
    run = run_of(tables, command)
    said = answer(command, {"status": "started", "run": run})
    if tables.runs.get(run) is not None:
        return again or said  # Asked before, maybe so long ago that the answer is forgotten; the run is still open.
    if again is not None:
        return [*again, *_without_run(tables, command, run)]
    if is_cancelled_ahead(tables, run):
        reason = "cancelled: its run was cancelled before it had begun"
        return [*skipped(tables, command, reason), *_without_run(tables, command, run)]
    start = RunStarted(run, command.function, (event.internal_id,), command.cause, command.at_ms, command.flow)
    facts: list[Fact] = [start]
    if tables.events.get(event.internal_id) is None:
        facts.insert(0, accepted(event, Origin(command.topic, command.partition, command.offset)))
    function = catalogue(tables).functions.get(command.function)
    if function is not None and is_bounded(function):
        facts += bounded(tables, function, start, event)
    return [*facts, *said]


def refuse(tables: Tables, command: AdmitStart, reason: str, now_ms: int) -> list[Fact]:
    """What remains of one that raised: whoever waits is told, and no gate counts a run that there is not."""
    return [
        CommandRefused("AdmitStart", command.function, reason),
        *told_not_started(tables, command.function, command.cause, reason),
        *answer(command, {"status": "refused", "reason": reason}),
        *_without_run(tables, command, run_of(tables, command)),
    ]


def _without_run(tables: Tables, command: AdmitStart, run: str) -> Iterator[Fact]:
    """Gates that let it pass count the run as open: they learn that it is not."""
    if command.flow is not None:
        yield from leaves(tables, run, BODY, command.flow.held, ONCE)


# It answers for itself: where a request is repeated, gates may have counted its run anew before its lane sees that.
ADMIT_START = MessageKind(message=AdmitStart, decide=admit, home=home_of_start, answers=False, remains=refuse)
