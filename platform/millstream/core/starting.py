"""The one place from which a run starts: events, records, scans, crons and requests all come here.

    Start(event, origin, …) ──start──> [EventAccepted] RunStarted …     ──at once──> body OUT
                                                                        └─later────> SCHEDULED ──timer──> RunDue ─> OUT

What may keep a run from starting (flow control) is decided here and nowhere else, before ``RunStarted`` is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.flow.starts import through_gates
from millstream.core.handles import Handles
from millstream.core.origin import Origin, accepted, new_run_id, noted
from millstream.core.runs.bounds import bounded, in_time, is_bounded
from millstream.core.runs.hands import OUT, QUEUED, SCHEDULED, hand_out_body, leave_hand, may_execute, open_run
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect, Execute
from millstream.model.event import Envelope
from millstream.model.facts import Fact, RunDue, RunStarted
from millstream.model.function import FunctionSpec
from millstream.model.rows import RunRow


def start(
    tables: Tables,
    event: Envelope,
    functions: Iterable[str],
    origin: Origin,
    *,
    cause: str = "",
    at_ms: int = 0,
    is_held: bool = False,
) -> list[Fact]:
    """Start each function (a slug) on the event. No functions, no facts. Raises BadRequest on a time no run can have.

    ``cause``    makes the runs others than those that the event itself started: a request's or backfill's id.
    ``at_ms``    when they are handed out; 0: at once.
    ``is_held``  open runs hold this very event: it is not accepted anew, so that it does not change under them.
    """
    known = catalogue(tables).functions
    runs: list[RunStarted] = []
    gated: list[Fact] = []
    for slug in functions:
        spec = known.get(slug)
        if spec is not None and spec.flow is not None:
            gated.append(through_gates(tables, spec, event, origin, cause=cause, at_ms=at_ms)[0])
        else:
            runs.append(run_started(tables, slug, (event,), cause=cause, at_ms=at_ms))
    if not runs:
        return [noted(event, origin), *gated] if gated and origin.seen else gated
    facts: list[Fact] = [] if is_held else [accepted(event, origin)]
    for run in runs:
        facts.append(run)
        function = known.get(run.function)
        if function is not None and is_bounded(function):
            facts += bounded(tables, function, run, event)
    return [*facts, *gated]


def starts_at_once(function: FunctionSpec) -> bool:
    """Whether nothing can keep the function from starting on an event: the quick path takes only such functions.

    A gate that holds runs back says here which functions have it; what bounds a run takes the long way, too.
    """
    return function.flow is None and not is_bounded(function)


def run_started(
    tables: Tables, function: str, events: Sequence[Envelope], *, cause: str = "", at_ms: int = 0
) -> RunStarted:
    """The fact that a function's run on these events exists: for ``start``, and for the quick path of an event that
    starts one function. Raises BadRequest on a time that no run can have.
    """
    id = new_run_id(tables, function, events[0], cause)
    return RunStarted(id, function, tuple([event.internal_id for event in events]), cause, at_ms)


def fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """The time of a scheduled run has come."""
    return [RunDue(command.id)]


# --- fold -----------------------------------------------------------------------------------------


def fold_run_started(tables: Tables, f: RunStarted, at_ms: int) -> Sequence[Effect]:
    """A run begins: its body goes out at once, or is scheduled."""
    for id in f.events:
        held = tables.events.get(id)
        assert held is not None, f"run {f.run} started on event {id}, which was not accepted"
        tables.events.put(id, replace(held, runs=held.runs + 1))
    if f.start_at_ms:
        run = RunRow(f.run, f.function, f.events, f.cause, at_ms, SCHEDULED, wake_at_ms=f.start_at_ms, flow=f.flow)
        tables.runs.put(f.run, run)
        return (timers.arm(tables, f.start_at_ms, timers.DUE, f.run, ""),)
    if f.flow is not None and not may_execute(f.flow):
        tables.runs.add(f.run, RunRow(f.run, f.function, f.events, f.cause, at_ms, QUEUED, flow=f.flow))
        return ()
    tables.runs.add(f.run, RunRow(f.run, f.function, f.events, f.cause, at_ms, OUT, 1, 1, flow=f.flow))
    return (Execute(f.run, f.function, "", 0, 1),)


def run_due(tables: Tables, f: RunDue, at_ms: int) -> Sequence[Effect]:
    """A scheduled run begins."""
    run = open_run(tables, f.run)
    gone = leave_hand(tables, run, None)
    return [*gone, *hand_out_body(tables, run, attempt=0, lost=0)]


HANDLES = Handles(
    timers={timers.DUE: in_time(fire)},
    facts={RunStarted: fold_run_started, RunDue: run_due},
)
