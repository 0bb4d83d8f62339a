"""Liveness of an open run, by its lane's rows alone: who executes it, what it waits for, and what ever wakes it.

    body or step   QUEUED ............ it has asked a gate
                   OUT ............... an executor has it
                   BACKOFF, SCHEDULED  a timer has it
                   SLEEPING .......... a timer has it, if its kind says so (``step_kinds.py``)
                   PARKED ............ it has its place among the parked
                   HELD .............. it has its place among the held, for an operator to see
                   WAITING ........... a timer has it, until it is answered
                   CLOSING ........... a message of it is under way to those who may know of its event, or the answer:
                                       that is in no row of one lane alone (``under_way.py``)
                   DONE, FAILED ...... nothing more to come
    body           IDLE .............. fine while a step is in a hand

Every open run is in some hand (lanes.md rule 32). One that is not would wait for ever, which is the one fault that no
error message would ever report. ``millstream lanes verify`` and the tests of the core both ask here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from millstream.core import timers
from millstream.core.flow import batch, counts, idempotency, kept_starts, queues, rate_limit
from millstream.core.runs.bounds import run_timers
from millstream.core.runs.deciding import is_resolved
from millstream.core.runs.hands import BODY_TIMERS
from millstream.core.step_kinds import timer_of_step
from millstream.core.steps import KINDS
from millstream.core.tables import HeldKey, ParkedKey, Tables, TimerKey
from millstream.core.waits import homes
from millstream.model.gates.declared import Slot
from millstream.model.rows import Hand, RunRow, StepRow, TimerRow

PAGE_ROWS: Final = 500


@dataclass(slots=True)
class Liveness:
    """What keeps runs alive.

    ``executing``  how many bodies and steps an executor has.
    ``timers``     the keys of the timers that wake them.
    ``parked``     the keys of their parking places.
    ``held``       the keys of what waits for an operator.
    ``problems``   everything about their rows that cannot be, in sentences.
    """

    executing: int = 0
    timers: list[TimerKey] = field(default_factory=list)
    parked: list[ParkedKey] = field(default_factory=list)
    held: list[HeldKey] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, other: Liveness) -> None:
        """Sum up."""
        self.executing += other.executing
        self.timers += other.timers
        self.parked += other.parked
        self.held += other.held
        self.problems += other.problems


def liveness(tables: Tables, run: RunRow) -> Liveness:
    """What keeps one run alive, with everything about it that cannot be."""
    found = Liveness()
    _add_body(tables, run, found)
    for kind, at_ms in run_timers(run):
        _timed(tables, (at_ms, kind, run.run, ""), f"run {run.run}", found)
    pending = resolved = 0
    for id in run.steps:
        step = tables.steps.get((run.run, id))
        if step is None:
            found.problems.append(f"run {run.run} has a step {id!r}, but there is no row of it")
        elif is_resolved(step):
            resolved += 1
        else:
            pending += 1
            _add_step(tables, run, step, found)
    if pending != run.pending:
        found.problems.append(f"run {run.run} counts {run.pending} pending steps, but {pending} are")
    if resolved != run.resolved:
        found.problems.append(f"run {run.run} counts {run.resolved} resolved steps, but {resolved} are")
    if run.body == Hand.IDLE and not pending:
        found.problems.append(
            f"run {run.run} of {run.function} is stuck: expected an execution, a timer, a parked place or a hold, "
            "got none"
        )
    found.problems += [
        f"run {run.run} needs the event {event}, but there is no row of it"
        for event in run.events
        if tables.events.get(event) is None
    ]
    return found


def _add_body(tables: Tables, run: RunRow, found: Liveness) -> None:
    who, hand = f"the body of run {run.run}", run.body
    if hand == Hand.OUT:
        found.executing += 1
    elif hand == Hand.PARKED:
        _parked(tables, run, "", who, found)
    elif hand == Hand.QUEUED:
        _queued(run.flow is not None and _asks(run.flow.asked - run.flow.passed, run.flow.slot), who, found)
    elif hand == Hand.HELD:
        _held(tables, run, "", who, found)
    elif hand in BODY_TIMERS:
        _timed(tables, (run.wake_at_ms, BODY_TIMERS[hand], run.run, ""), who, found)
    elif hand != Hand.IDLE:
        found.problems.append(f"{who} is {Hand(hand).name}, which no body can be")


def _add_step(tables: Tables, run: RunRow, step: StepRow, found: Liveness) -> None:
    who, kind = f"step {step.step!r} of run {run.run}", KINDS.get(step.kind)
    if kind is None or step.hand not in kind.hands:
        found.problems.append(f"{who} is {Hand(step.hand).name}, which no step of kind {step.kind!r} can be")
    elif step.hand == Hand.OUT:
        found.executing += 1
    elif step.hand == Hand.PARKED:
        _parked(tables, run, step.step, who, found)
    elif step.hand == Hand.QUEUED:
        _queued(_asks(0, step.slot), who, found)
    elif step.hand == Hand.HELD:
        _held(tables, run, step.step, who, found)
    elif kind.hands[step.hand]:
        _timed(tables, (step.wake_at_ms, kind.hands[step.hand], run.run, step.step), who, found)
    if kind is not None and kind.problem is not None and (problem := kind.problem(tables, step)):
        found.problems.append(f"{who} {problem}")


def _parked(tables: Tables, run: RunRow, step: str, who: str, found: Liveness) -> None:
    key = (run.function, run.run, step)
    if tables.parked.get(key) is None:
        found.problems.append(f"{who} is parked, but has no place among the parked")
    found.parked.append(key)


def _asks(gates: int, slot: Slot | None) -> bool:
    """Whether a gate is asked: one that the run passes once, or one for a slot."""
    return gates == 1 or (gates == 0 and slot is not None and slot.asked == slot.passed + 1)


def _queued(asks: bool, who: str, found: Liveness) -> None:
    """Whether the gate knows of it its home must say: it may be another lane."""
    if not asks:
        found.problems.append(f"{who} is queued, but has asked no gate")


def _held(tables: Tables, run: RunRow, step: str, who: str, found: Liveness) -> None:
    key = (run.function, run.run, step)
    if tables.held.get(key) is None:
        found.problems.append(f"{who} is held, but has no place among the held")
    found.held.append(key)


def _timed(tables: Tables, key: TimerKey, who: str, found: Liveness) -> None:
    at_ms, kind, _, _ = key
    if tables.timers.get(key) is None:
        found.problems.append(f"{who} waits until {at_ms}, but no timer ({kind}) wakes it")
    found.timers.append(key)


def open_runs(tables: Tables) -> Iterator[RunRow]:
    """Every open run, in pages."""
    start: str | None = None
    while page := tables.runs.scan(start, limit=PAGE_ROWS):
        for _, run in page:
            yield run
        start = page[-1][0] + "\x00"


def stored_timers(tables: Tables) -> Iterator[TimerRow]:
    """Every stored timer in order of time, in pages."""
    start: TimerKey | None = None
    while page := tables.timers.scan(start, limit=PAGE_ROWS):
        for _, timer in page:
            yield timer
        at_ms, kind, id, step = page[-1][0]
        start = (at_ms, kind, id, step + "\x00")


def timer_problem(tables: Tables, timer: TimerRow) -> str:
    """What is wrong with a timer: nothing waits for it. Empty: nothing."""
    what = f"timer {timer.kind} of {timer.id}{f' step {timer.step!r}' if timer.step else ''} at {timer.at_ms}"
    if timer.kind == timers.CRON:
        cron = tables.crons.get((timer.id, timer.step))
        held = cron is not None and cron.at_ms == timer.at_ms
        return "" if held else f"{what} wakes a cron that does not wait for it"
    if timer.kind == timers.SWEEP:
        return ""  # It is all that there is of a sweep.
    if timer.kind == timers.KEPT:
        return "" if kept_starts.is_timed(tables, timer) else f"{what} lets a start go that is not kept"
    if timer.kind == timers.BATCH:
        return "" if batch.is_timed(tables, timer) else f"{what} begins a batch that does not wait for it"
    if timer.kind == timers.GATE:
        return "" if queues.is_timed(tables, timer) else f"{what} looks at a gate that does not wait for it"
    if timer.kind in (rate_limit.NAME, idempotency.NAME):
        return "" if counts.is_timed(tables, timer) else f"{what} looks at counted starts that do not wait for it"
    if timer.kind == timers.CANCEL:
        looking = tables.cancellations.get(timer.id)
        held = looking is not None and looking.timer_ms == timer.at_ms
        return "" if held else f"{what} wakes a cancellation that does not wait for it"
    if timer.kind in (homes.MATCH, homes.LOOK):
        return "" if homes.is_timed(tables, timer) else f"{what} wakes what does not wait for it"
    run = tables.runs.get(timer.id)
    if run is None:
        return f"{what} wakes a run that is not open"
    if (timer.kind, timer.at_ms) in run_timers(run):
        return ""
    if not timer.step:
        held = BODY_TIMERS.get(run.body) == timer.kind and run.wake_at_ms == timer.at_ms
        return "" if held else f"{what} wakes a body that does not wait for it"
    step = tables.steps.get((timer.id, timer.step))
    held = step is not None and timer_of_step(step) == timer.kind and step.wake_at_ms == timer.at_ms
    return "" if held else f"{what} wakes a step that does not wait for it"
