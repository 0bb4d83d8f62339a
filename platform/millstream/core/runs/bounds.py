"""What bounds a run from outside: events that cancel it, and times by which it must have begun and be over.

    RunStarted ─> RunBounded: timers; AwaitEvent to the home of each event that cancels     (model/function.py)
    EventCame, or a timer ─> RunCancelled        the run has begun in time ─> StartPassed

A wait of the run itself, and not of one of its steps, has no step: its id is empty.

A time that is over ends the run before anything else of it begins: a worker that comes back after hours finds a run's
end of time due beside its sleeps, retries and lost hand-outs (``in_time``; the lane fires BOUNDS before owed work).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.handles import Decide, Handler, Handles
from millstream.core.runs.deciding import Case, Draft
from millstream.core.runs.ending import end, refuse_run_timer
from millstream.core.runs.hands import IDLE, OUT, SCHEDULED, open_run
from millstream.core.tables import Tables
from millstream.core.triggers.readable import readable
from millstream.core.waits.places import placed
from millstream.errors import BadRequest, FunctionError
from millstream.model.commands import AwaitEvent, EventCame, FireTimer
from millstream.model.effects import Effect
from millstream.model.event import Envelope
from millstream.model.facts import Fact, FunctionSkipped, Post, RunBounded, RunCancelled, RunStarted, StartPassed
from millstream.model.function import FunctionSpec
from millstream.model.operations import Condition
from millstream.model.rows import RunRow
from millstream.model.text.durations import duration_text
from millstream.model.waits.awaited import event_mark, home_of_place

OF_RUN = ""
"""The step of a wait that is the run's own."""
BOUNDS: Final = (timers.START, timers.FINISH)
"""The kinds of timers that bound runs."""


def is_bounded(function: FunctionSpec) -> bool:
    """Whether anything bounds its runs."""
    return bool(function.cancel_on or function.start_ms or function.finish_ms)


def bounded(tables: Tables, function: FunctionSpec, start: RunStarted, event: Envelope) -> list[Fact]:
    """What bounds the run that has just started on the event."""
    facts: list[Fact] = []
    places: list[str] = []
    asked: list[Fact] = []
    for index, cancel in enumerate(function.cancel_on):
        try:
            condition, given = placed(Condition(cancel.event, cancel.match, cancel.expression), readable(event))
        except (FunctionError, BadRequest) as error:
            facts.append(FunctionSkipped(event.internal_id, function.slug, f"cancel_on has no effect: {error}"))
            places.append("")
            continue
        places.append(condition.place)
        if condition.place:
            message = AwaitEvent(
                start.run, OF_RUN, index, condition.place, condition.event, condition.path, event.received_at_ms,
                condition.expression, given, event_mark(event),
            )  # fmt: skip
            asked.append(Post(home_of_place(condition.place, tables.place.lanes), message))
    return [*facts, RunBounded(start.run, tuple(places), function.start_ms, function.finish_ms), *asked]


def cancelled_by(case: Case, message: EventCame) -> list[Fact]:
    """An event that cancels the run has come; one that came too late for it does not."""
    spec = case.spec
    if spec is not None and message.index < len(spec.cancel_on):
        timeout_ms = spec.cancel_on[message.index].timeout_ms
        if timeout_ms and message.event.received_at_ms > case.run.queued_at_ms + timeout_ms:
            return []
    return _cancelled(case, f"event {message.event.name} with the id {message.event.id} came")


def fire_finish(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """The time by which it must be over."""
    return _finished_late(_case(tables, command.id, now_ms))


def _finished_late(case: Case) -> list[Fact]:
    spec = case.spec
    length = f" of {duration_text(spec.finish_ms)}" if spec is not None and spec.finish_ms else ""
    return _cancelled(case, f"it was not over in its time{length} (timeouts.finish)")


def fire_start(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """The time by which it must have begun."""
    case = _case(tables, command.id, now_ms)
    return [StartPassed(case.run.run)] if _has_begun(case.run) else _begun_late(case)


def _has_begun(run: RunRow) -> bool:
    return bool(run.steps or run.attempt or run.body in (OUT, IDLE))


def _begun_late(case: Case) -> list[Fact]:
    spec = case.spec
    length = f" of {duration_text(spec.start_ms)}" if spec is not None and spec.start_ms else ""
    return _cancelled(case, f"it had not begun in its time{length} (timeouts.start)")


def in_time(fire: Decide) -> Handler:
    """The handler of a run's timer, with which the run goes on: if its time is over, it ends instead."""

    def decide(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
        case = _case(tables, command.id, now_ms)
        if is_over(case.run, now_ms):
            return _finished_late(case)
        if case.run.start_by_ms and case.run.start_by_ms <= now_ms and not _has_begun(case.run):
            return _begun_late(case)
        return fire(tables, command, now_ms)

    return Handler(decide, refuse_run_timer)


def _case(tables: Tables, id: str, now_ms: int) -> Case:
    run = tables.runs.get(id)
    assert run is not None, "a run's timers end with it"
    return Case(tables, run, 0, now_ms)


def _cancelled(case: Case, reason: str) -> list[Fact]:
    facts, _ = end(case, Draft.of(case.run), RunCancelled(case.run.run, case.run.function, reason))
    return list(facts)


# --- fold -----------------------------------------------------------------------------------------


def run_bounded(tables: Tables, f: RunBounded, at_ms: int) -> Sequence[Effect]:
    """Its times count from when it is to begin."""
    run = open_run(tables, f.run)
    from_ms = run.wake_at_ms if run.body == SCHEDULED else at_ms
    start_by_ms = from_ms + f.start_ms if f.start_ms else 0
    finish_by_ms = from_ms + f.finish_ms if f.finish_ms else 0
    tables.runs.put(f.run, replace(run, cancels=f.places, start_by_ms=start_by_ms, finish_by_ms=finish_by_ms))
    return [timers.arm(tables, at, kind, f.run, "") for kind, at in run_timers(open_run(tables, f.run))]


def start_passed(tables: Tables, f: StartPassed, at_ms: int) -> Sequence[Effect]:
    """It has begun in time."""
    run = open_run(tables, f.run)
    tables.runs.put(f.run, replace(run, start_by_ms=0))
    return (timers.disarm(tables, run.start_by_ms, timers.START, f.run, ""),)


def is_over(run: RunRow, now_ms: int) -> bool:
    """Whether the time by which the run must be over has come."""
    return 0 < run.finish_by_ms <= now_ms


def run_timers(run: RunRow) -> list[tuple[str, int]]:
    """The timers of a run's bounds: kind and time."""
    both = ((timers.START, run.start_by_ms), (timers.FINISH, run.finish_by_ms))
    return [(kind, at_ms) for kind, at_ms in both if at_ms]


HANDLES = Handles(
    timers={
        timers.START: Handler(fire_start, refuse_run_timer, starts_work=False),
        timers.FINISH: Handler(fire_finish, refuse_run_timer, starts_work=False),
    },
    facts={RunBounded: run_bounded, StartPassed: start_passed},
)
