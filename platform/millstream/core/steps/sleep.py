"""``step.sleep`` and ``step.sleep_until``: a timer, nothing held meanwhile.

SleepStarted ─> SLEEPING ──timer──> SleepEnded ─> DONE with null
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.runs.bounds import in_time, is_over
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.hands import (
    DONE,
    IDLE,
    OUT,
    SLEEPING,
    add_step,
    answered,
    open_run,
    open_step,
)
from millstream.core.runs.moves import ANSWERED, FOUND, HANDED_OUT, RESOLVED, STEP_RESOLVED, Move, Moves
from millstream.core.runs.resolving import fail_step, resolve
from millstream.core.step_kinds import StepKind
from millstream.core.tables import Tables
from millstream.model import limits, trail
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect, Execute
from millstream.model.facts import Fact, SleepEnded, SleepStarted, StepFailed
from millstream.model.operations import SleepFound
from millstream.model.rows import Hand, RunRow, StepRow
from millstream.model.trail import Entry

NAME: Final = "sleep"
TIMER: Final = "sleep"
SLEPT: Final = b"null"
"""The result of every sleep."""


def found(case: Case, draft: Draft, op: SleepFound) -> Decided:
    """The body wants to sleep. A time already past wakes at once."""
    wake_at_ms = op.until_ms if op.until_ms >= 0 else case.now_ms + max(op.length_ms, 0)
    if wake_at_ms - case.now_ms > limits.SLEEP_MS_MAX:
        fact = StepFailed(
            case.run.run, op.step, op.name, NAME, 0, case.dispatch, "InngestErrTimeoutTooLong",
            f"sleep {op.step!r} was refused: at most {limits.SLEEP_MS_MAX // limits.DAY_MS} days, "
            f"got {(wake_at_ms - case.now_ms) // limits.DAY_MS}. Sleep in several steps.",
            "", case.now_ms, False,
        )  # fmt: skip
        return fail_step(draft, fact)
    return (SleepStarted(case.run.run, op.step, op.name, case.dispatch, wake_at_ms),), draft


def fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """The time to wake has come."""
    run = tables.runs.get(command.id)
    assert run is not None, "a run's timers end with it"
    goes_on = run.body == Hand.IDLE and (not run.joint or run.pending == 1)  # This sleep is the last of its steps.
    return [SleepEnded(command.id, command.step, goes_on)]


def quick_fire(
    tables: Tables, command: FireTimer, run: RunRow, step: StepRow, now_ms: int
) -> tuple[Fact, Sequence[Effect]] | None:
    """The same where the body waits, folded at once."""
    if run.flow is not None or run.body != IDLE or step.hand != SLEEPING or step.wake_at_ms != command.at_ms:
        return None  # A step that sleeps until then has its timer's row: that is not looked up, and most are on disk.
    if is_over(run, now_ms) or (run.joint and run.pending != 1):
        return None
    number, order = run.dispatch + 1, run.resolved + 1
    gone = timers.disarm(tables, command.at_ms, TIMER, run.run, command.step)
    done = replace(step, hand=DONE, attempt=0, lost=0, order=order, data=SLEPT, wake_at_ms=0)
    tables.steps.put((step.run, step.step), done)
    out = replace(
        run, body=OUT, body_dispatch=number, dispatch=number, again=False, pending=run.pending - 1, resolved=order,
        bytes=run.bytes + len(SLEPT),
    )  # fmt: skip
    tables.runs.put(run.run, out)
    return SleepEnded(run.run, command.step, True), (gone, Execute(run.run, run.function, "", run.attempt, number))


# --- fold -----------------------------------------------------------------------------------------


def sleep_started(tables: Tables, f: SleepStarted, at_ms: int) -> Sequence[Effect]:
    """A step that is nothing but a timer."""
    run = answered(open_run(tables, f.run), f.dispatch)
    row = StepRow(f.run, f.step, f.name, NAME, SLEEPING, dispatch=f.dispatch, wake_at_ms=f.wake_at_ms)
    add_step(tables, run, row)
    return (timers.arm_first(tables, f.wake_at_ms, TIMER, f.run, f.step),)


def sleep_ended(tables: Tables, f: SleepEnded, at_ms: int) -> Sequence[Effect]:
    """The timer has fired: the sleep is a resolved step."""
    run, held = open_run(tables, f.run), open_step(tables, f.run, f.step)
    assert held.hand == SLEEPING, f"step {f.step} of run {f.run} does not sleep"
    row = replace(held, hand=DONE, attempt=0, lost=0, order=run.resolved + 1, data=SLEPT, wake_at_ms=0)
    return resolve(tables, run, held, row, discover=f.discover)


# --- history --------------------------------------------------------------------------------------


def show_started(f: SleepStarted, at_ms: int) -> Entry:
    """Asleep until a time."""
    return (trail.SLEEPING, at_ms, f.step, f.name, NAME, f.wake_at_ms)


def show_ended(f: SleepEnded, at_ms: int) -> Entry:
    """Awake."""
    return (trail.WOKE, at_ms, f.step, NAME)


KIND = StepKind(
    name=NAME,
    finds={SleepFound: found},
    facts={SleepStarted: sleep_started, SleepEnded: sleep_ended},
    timers={TIMER: in_time(fire)},
    moves=Moves(
        body=(
            Move(Hand.OUT, SleepStarted, Hand.IDLE),
            Move(Hand.IDLE, SleepEnded, Hand.OUT),
            Move(Hand.IDLE, SleepEnded, Hand.QUEUED),
        ),
        step=(Move(None, SleepStarted, Hand.SLEEPING), Move(Hand.SLEEPING, SleepEnded, Hand.DONE)),
        run_fields={SleepStarted: ANSWERED | FOUND, SleepEnded: HANDED_OUT | RESOLVED},
        step_fields={SleepEnded: STEP_RESOLVED},
    ),
    hands={Hand.SLEEPING: TIMER},
    shows={SleepStarted: show_started, SleepEnded: show_ended},
    shows_done=lambda row: (trail.WOKE, 0, row.step, NAME),
    quick_timer=quick_fire,
)
