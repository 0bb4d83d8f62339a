"""A step that waits: for events, a signal or another run. What all such steps have in common.

    WaitStarted ─> WAITING ──an answer──> DONE, FAILED       what the answer means: the step's kind (``StepKind.hears``)
                      │ timer ──> the kind says: DONE, FAILED, or WaitClosing ─> CLOSING ──an answer──> DONE, FAILED
                      └────────── WaitPostponed <────────────────────────────────────┘

Answers are messages to the run's lane. One that comes too late, or twice, finds no step that waits, and leads to
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.handles import Handles
from millstream.core.messages import MessageKind
from millstream.core.runs.bounds import cancelled_by, in_time
from millstream.core.runs.deciding import Case
from millstream.core.runs.ending import refuse_about_run
from millstream.core.runs.hands import CLOSING, WAITING, add_step, answered, open_run, open_step, put_step
from millstream.core.step_kinds import kind_of
from millstream.core.tables import Tables
from millstream.model import limits, trail
from millstream.model.commands import ChildEnded, EventCame, FireTimer, NothingCame, SignalCame
from millstream.model.effects import Effect
from millstream.model.facts import (
    EventTaken,
    Fact,
    StepFailed,
    WaitClosing,
    WaitOver,
    WaitPostponed,
    WaitStarted,
)
from millstream.model.ids import lane_of
from millstream.model.operations import CallbackFound, InvokeFound, SignalWaitFound, WaitFound
from millstream.model.rows import StepRow
from millstream.model.trail import Entry
from millstream.model.waits.awaited import AwaitedEvents
from millstream.model.waits.shown import written

TIMER: Final = timers.WAIT


def too_long(case: Case, op: WaitFound | SignalWaitFound | InvokeFound | CallbackFound, kind: str) -> StepFailed:
    """The failure of a step that wants to wait longer than any may."""
    message = (
        f"step {op.step!r} was refused: a wait may have at most {limits.WAIT_MS_MAX // limits.DAY_MS} days, got "
        f"{op.timeout_ms // limits.DAY_MS}. Wait in several steps."
    )
    return StepFailed(
        case.run.run, op.step, op.name, kind, 0, case.dispatch, "InngestErrTimeoutTooLong", message, "", case.now_ms,
        False,
    )  # fmt: skip


def hear(tables: Tables, message: Any, now_ms: int) -> list[Fact]:
    """An answer to a step that waits."""
    run = tables.runs.get(message.run)
    if run is not None and not message.step and type(message) is EventCame:
        return cancelled_by(Case(tables, run, 0, now_ms), message)
    if run is None or message.step not in run.steps:
        return []
    row = tables.steps.get((run.run, message.step))
    if row is None or row.hand not in (WAITING, CLOSING):
        return []
    hears = kind_of(row.kind).hears.get(type(message))
    return hears(Case(tables, run, 0, now_ms), row, message) if hears is not None else []


def fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """The time of a wait is over: its kind says what that means."""
    run, row = tables.runs.get(command.id), tables.steps.get((command.id, command.step))
    assert run is not None and row is not None, "a run's timers end with it"
    times_out = kind_of(row.kind).times_out
    assert times_out is not None, f"a step of kind {row.kind!r} waits, and has no end of its time"
    return times_out(Case(tables, run, 0, now_ms), row)


def refuse_answer(tables: Tables, message: Any, reason: str, now_ms: int) -> list[Fact]:
    """What remains of an answer that raised: nothing can be decided about the run, so it fails."""
    return refuse_about_run(tables, message.run, type(message).__name__, reason, now_ms)


def _home(tables: Tables, message: Any) -> int:
    return lane_of(message.run, tables.place.lanes)


ANSWERS: Final = tuple(
    MessageKind(message=kind, decide=hear, home=_home, answers=False, remains=refuse_answer)
    for kind in (EventCame, NothingCame, SignalCame, ChildEnded)
)


# --- fold -----------------------------------------------------------------------------------------


def wait_started(tables: Tables, f: WaitStarted, at_ms: int) -> Sequence[Effect]:
    """A step waits."""
    run = answered(open_run(tables, f.run), f.dispatch)
    row = StepRow(f.run, f.step, f.name, f.kind, WAITING, dispatch=f.dispatch, wake_at_ms=f.until_ms, awaits=f.awaits)
    add_step(tables, run, row)
    return (timers.arm_first(tables, f.until_ms, TIMER, f.run, f.step),)


def event_taken(tables: Tables, f: EventTaken, at_ms: int) -> Sequence[Effect]:
    """The event of one condition has come; no such wait of the run takes it again."""
    run, row = open_run(tables, f.run), open_step(tables, f.run, f.step)
    tables.runs.put(f.run, replace(run, taken=run.taken + f.marks))
    if f.data:
        _change(tables, row, f.index, came=f.data)
    return ()


def wait_over(tables: Tables, f: WaitOver, at_ms: int) -> Sequence[Effect]:
    """Nothing came for one condition."""
    _change(tables, open_step(tables, f.run, f.step), f.index, is_over=True)
    return ()


def _change(tables: Tables, row: StepRow, index: int, **changes: object) -> None:
    awaits = row.awaits
    assert isinstance(awaits, AwaitedEvents), f"step {row.step} of run {row.run} does not wait for events"
    conditions = list(awaits.conditions)
    conditions[index] = replace(conditions[index], **changes)
    put_step(tables, row, awaits=replace(awaits, conditions=tuple(conditions)))


def wait_closing(tables: Tables, f: WaitClosing, at_ms: int) -> Sequence[Effect]:
    """The time is over; those who may know of an event are asked."""
    row = open_step(tables, f.run, f.step)
    put_step(tables, row, hand=CLOSING, wake_at_ms=0)
    return (timers.disarm(tables, row.wake_at_ms, TIMER, f.run, f.step),)


def wait_postponed(tables: Tables, f: WaitPostponed, at_ms: int) -> Sequence[Effect]:
    """They are asked again later."""
    put_step(tables, open_step(tables, f.run, f.step), hand=WAITING, wake_at_ms=f.until_ms)
    return (timers.arm(tables, f.until_ms, TIMER, f.run, f.step),)


# --- history --------------------------------------------------------------------------------------


def show_started(f: WaitStarted, at_ms: int) -> Entry:
    """It waits, for something, until a time."""
    assert f.awaits is not None, "a wait is for something"
    return (trail.WAITING, at_ms, f.step, f.name, f.kind, f.until_ms, written(f.awaits))


def show_taken(f: EventTaken, at_ms: int) -> Entry | None:
    """One of several has come; where it was the last or only one, the result says so."""
    return (trail.CAME, at_ms, f.step, f.index) if f.data else None


HANDLES = Handles(
    timers={TIMER: in_time(fire)},
    facts={
        WaitStarted: wait_started,
        EventTaken: event_taken,
        WaitOver: wait_over,
        WaitClosing: wait_closing,
        WaitPostponed: wait_postponed,
    },
)
