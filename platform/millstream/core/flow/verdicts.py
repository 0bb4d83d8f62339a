"""What a gate that admits says of a start: it goes on, is kept for later, or is skipped."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from millstream.core.origin import new_run_id
from millstream.core.requests import answer
from millstream.core.runs.ending import told_not_started
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.model.facts import Fact, FunctionSkipped, Post
from millstream.model.gates.declared import FlowSpec
from millstream.model.gates.messages import AdmitStart
from millstream.model.waits.awaited import home_of_place


def home_of_start(tables: Tables, start: AdmitStart) -> int:
    """Where it is decided: the home of its next gate; behind the last one the lane of the run."""
    if start.passed < len(start.admits):
        return home_of_place(start.admits[start.passed], tables.place.lanes)
    return start.lane


def run_of(tables: Tables, start: AdmitStart) -> str:
    """The id of the run that it may become."""
    return new_run_id(tables, start.function, start.event, start.cause, lane=start.lane)


def flow_of(tables: Tables, function: str) -> FlowSpec:
    """The function's flow control as it is deployed now: a gate decides by it, whatever it was when a start began."""
    spec = catalogue(tables).functions.get(function)
    return (spec.flow if spec is not None else None) or FlowSpec()


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


def kept(tables: Tables, start: AdmitStart) -> tuple[AdmitStart, list[Fact]]:
    """A gate keeps it for later. Who has asked for it is told so, and is not told again: it may be long until then."""
    told = answer(start, {"status": "kept", "function": start.function, "run": run_of(tables, start)})
    return replace(start, request="", reply_to=-1), told


def time_text(at_ms: int) -> str:
    """A time, as reasons name it."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
