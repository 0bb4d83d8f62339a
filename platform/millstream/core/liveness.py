"""Where an open run stands, by its rows alone: who executes it, what it waits for, and whether anything ever wakes it.

    body or step   OUT ............... an executor has it
                   BACKOFF, SCHEDULED  a timer has it
                   SLEEPING .......... a timer has it
                   PARKED ............ it has its place among the parked
                   DONE, FAILED ...... nothing more to come
    body           IDLE .............. fine while a step is in somebody's hand

Liveness (lanes.md rule 32): every open run is in somebody's hand. One that is not would wait for ever, which is the
one fault that no error message would ever report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from millstream.core import timers
from millstream.core.tables import Tables
from millstream.model.rows import Hand, RunRow, TimerRow

PAGE_ROWS: Final = 500


@dataclass(slots=True)
class Standing:
    """``executing``, ``parked``: how many of its body and steps; ``wakes``: the times its timers wake it."""

    executing: int = 0
    parked: int = 0
    wakes: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, other: Standing) -> None:
        """Sum up."""
        self.executing += other.executing
        self.parked += other.parked
        self.wakes += other.wakes
        self.problems += other.problems


def standing(tables: Tables, run: RunRow) -> Standing:
    """Where one run stands, with everything about it that cannot be."""
    found = Standing()
    body_timer = timers.DUE if run.body == Hand.SCHEDULED else timers.RETRY
    _take(tables, run, found, ("", run.body, run.wake_at_ms, body_timer))
    pending = 0
    for id in run.steps:
        step = tables.steps.get((run.run, id))
        if step is None:
            found.problems.append(f"run {run.run} has a step {id!r}, but there is no row of it")
            continue
        if step.hand in (Hand.DONE, Hand.FAILED):
            continue
        pending += 1
        kind = timers.SLEEP if step.hand == Hand.SLEEPING else timers.RETRY
        if step.hand in (Hand.IDLE, Hand.SCHEDULED):
            found.problems.append(f"step {id!r} of run {run.run} is {Hand(step.hand).name}, which no step can be")
        _take(tables, run, found, (id, step.hand, step.wake_at_ms, kind))
    if pending != run.pending:
        found.problems.append(f"run {run.run} counts {run.pending} pending steps, but {pending} are")
    if not (found.executing or found.parked or found.wakes):
        found.problems.append(
            f"run {run.run} of {run.function} is stuck: expected an execution, a timer or a parked place, got none"
        )
    found.problems += [
        f"run {run.run} needs the event {event}, but there is no row of it"
        for event in run.events
        if tables.events.get(event) is None
    ]
    return found


def runs_of(tables: Tables) -> Iterator[RunRow]:
    """Every open run, in pages."""
    start: str | None = None
    while page := tables.runs.scan(start, limit=PAGE_ROWS):
        for _, run in page:
            yield run
        start = page[-1][0] + "\x00"


def timers_of(tables: Tables) -> Iterator[TimerRow]:
    """Every stored timer in order of time, in pages."""
    start: tuple[int, str, str, str] | None = None
    while page := tables.timers.scan(start, limit=PAGE_ROWS):
        for _, timer in page:
            yield timer
        at_ms, kind, id, step = page[-1][0]
        start = (at_ms, kind, id, step + "\x00")


def timer_problem(tables: Tables, timer: TimerRow) -> str:
    """What is wrong with a timer: nobody waits for it. Empty: nothing."""
    what = f"timer {timer.kind} of {timer.id}{f' step {timer.step!r}' if timer.step else ''} at {timer.at_ms}"
    if timer.kind == timers.CRON:
        cron = tables.crons.get((timer.id, timer.step))
        return (
            "" if cron is not None and cron.at_ms == timer.at_ms else f"{what} wakes a cron that does not wait for it"
        )
    run = tables.runs.get(timer.id)
    if run is None:
        return f"{what} wakes a run that is not open"
    if not timer.step:
        held = run.body in (Hand.BACKOFF, Hand.SCHEDULED) and run.wake_at_ms == timer.at_ms
        return "" if held else f"{what} wakes a body that does not wait for it"
    step = tables.steps.get((timer.id, timer.step))
    held = step is not None and step.hand in (Hand.BACKOFF, Hand.SLEEPING) and step.wake_at_ms == timer.at_ms
    return "" if held else f"{what} wakes a step that does not wait for it"


def _take(tables: Tables, run: RunRow, found: Standing, held: tuple[str, int, int, str]) -> None:
    step, hand, wake_at_ms, kind = held
    who = f"step {step!r} of run {run.run}" if step else f"the body of run {run.run}"
    if hand == Hand.OUT:
        found.executing += 1
    elif hand == Hand.PARKED:
        if tables.parked.get((run.function, run.run, step)) is None:
            found.problems.append(f"{who} is parked, but has no place among the parked")
        else:
            found.parked += 1
    elif hand in (Hand.BACKOFF, Hand.SLEEPING, Hand.SCHEDULED):
        if tables.timers.get((wake_at_ms, kind, run.run, step)) is None:
            found.problems.append(f"{who} waits until {wake_at_ms}, but no timer ({kind}) wakes it")
        else:
            found.wakes.append(wake_at_ms)
