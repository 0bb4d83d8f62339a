"""``step.wait_for_signal``: the run goes on when somebody sends the signal by its name, or time is over.

SignalWaitFound ─> WaitStarted; AwaitSignal to the signal's home (core/waits/signals.py)
SignalCame      ─> SignalTaken, StepCompleted with what was sent; or StepFailed where another run waits for it
timer           ─> WaitClosing; the home is asked ─> NothingCame ─> StepCompleted with null

What was sent may be null, too. The row of a step whose signal came keeps its name (``AwaitedSignal.came``); that of one
whose time was over has nothing beside its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.runs.awaiting import too_long
from millstream.core.runs.closing import close_step
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.hands import CLOSING, open_step, put_step
from millstream.core.runs.moves import Move, Moves
from millstream.core.runs.resolving import complete, fail_step
from millstream.core.step_kinds import StepKind
from millstream.core.tables import Tables
from millstream.model import limits, trail
from millstream.model.announcement import RunEnd
from millstream.model.commands import AwaitSignal, ForgetSignal, NothingCame, SignalCame
from millstream.model.effects import Effect
from millstream.model.facts import Fact, Post, SignalTaken, StepCompleted, StepFailed, WaitClosing, WaitStarted
from millstream.model.ids import home_of
from millstream.model.operations import SignalWaitFound
from millstream.model.rows import Hand, RunRow, StepRow
from millstream.model.waits.awaited import AwaitedSignal

NAME: Final = "wait_for_signal"
NOTHING: Final = b"null"
"""The result where nobody sent it in time."""
CONFLICT: Final = "SignalConflict"


def found(case: Case, draft: Draft, op: SignalWaitFound) -> Decided:
    """The body wants to wait."""
    if op.timeout_ms > limits.WAIT_MS_MAX:
        return fail_step(draft, too_long(case, op, NAME))
    run = case.run.run
    until_ms = case.now_ms + max(op.timeout_ms, 0)
    asked = AwaitSignal(run, op.step, op.signal, op.replaces)
    return (
        WaitStarted(run, op.step, op.name, NAME, case.dispatch, until_ms, AwaitedSignal(op.signal)),
        Post(home_of(op.signal, case.tables.place.lanes), asked),
    ), draft


def came(case: Case, row: StepRow, message: SignalCame) -> list[Fact]:
    """It was sent; or another run waits for it."""
    run = case.run.run
    if message.reason:
        failed = StepFailed(run, row.step, row.name, NAME, 0, 0, CONFLICT, message.reason, "", case.now_ms, False)
        return close_step(case, *fail_step(Draft.of(case.run), failed))
    return [SignalTaken(run, row.step), *_completed(case, row, message.data)]


def nothing(case: Case, row: StepRow, message: NothingCame) -> list[Fact]:
    """Its home was asked, and nobody has sent it."""
    return _completed(case, row, NOTHING) if row.hand == CLOSING else []


def times_out(case: Case, row: StepRow) -> list[Fact]:
    """The time is over: its home says what came first."""
    return [WaitClosing(case.run.run, row.step), _forgotten(case.tables, row, is_answered=True)]


def withdraw(tables: Tables, run: RunRow, row: StepRow, fact: RunEnd) -> list[Fact]:
    """The run ends while it waits."""
    return [_forgotten(tables, row, is_answered=False)]


def _completed(case: Case, row: StepRow, data: bytes) -> list[Fact]:
    fact = StepCompleted(case.run.run, row.step, row.name, NAME, 0, 0, data, case.now_ms, False)
    return close_step(case, *complete(case, Draft.of(case.run), fact))


def _forgotten(tables: Tables, row: StepRow, *, is_answered: bool) -> Post:
    assert isinstance(row.awaits, AwaitedSignal), f"step {row.step} of run {row.run} does not wait for a signal"
    signal = row.awaits.signal
    return Post(home_of(signal, tables.place.lanes), ForgetSignal(row.run, row.step, signal, is_answered))


# --- fold -----------------------------------------------------------------------------------------


def signal_taken(tables: Tables, f: SignalTaken, at_ms: int) -> Sequence[Effect]:
    """It was sent."""
    row = open_step(tables, f.run, f.step)
    assert isinstance(row.awaits, AwaitedSignal), f"step {f.step} of run {f.run} does not wait for a signal"
    put_step(tables, row, awaits=replace(row.awaits, came=True))
    return ()


KIND = StepKind(
    name=NAME,
    finds={SignalWaitFound: found},
    facts={SignalTaken: signal_taken},
    shows={SignalTaken: lambda fact, at_ms: (trail.CAME, at_ms, fact.step, 0)},
    moves=Moves(
        step=(Move(Hand.WAITING, SignalTaken, Hand.WAITING), Move(Hand.CLOSING, SignalTaken, Hand.CLOSING)),
        step_fields={SignalTaken: frozenset({"awaits"})},
    ),
    hears={SignalCame: came, NothingCame: nothing},
    times_out=times_out,
    withdraws=withdraw,
    hands={Hand.WAITING: timers.WAIT, Hand.CLOSING: ""},
    timed_out_result=NOTHING,
)
