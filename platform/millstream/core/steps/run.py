"""``step.run``: user code with a remembered result, retried on its own.

A step is either run at once while the body is out (then its result is the first the run hears of it) or handed out on
its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.runs.deciding import Case, Decided, Draft, is_resolved
from millstream.core.runs.hands import BACKOFF, QUEUED, add_step, answered, hand_out_new_step, open_run, put_step
from millstream.core.runs.moves import ANSWERED, FOUND, Move, Moves
from millstream.core.runs.resolving import complete, give_up
from millstream.core.runs.retry import next_attempt_at_ms
from millstream.core.step_kinds import StepKind
from millstream.core.tables import Tables
from millstream.model import trail
from millstream.model.effects import Effect
from millstream.model.facts import StepAttemptFailed, StepCompleted, StepFailed, StepPlanned
from millstream.model.operations import StepDone, StepErrored, StepFound
from millstream.model.rows import Hand, StepRow
from millstream.model.trail import Entry

NAME = "run"


def done(case: Case, draft: Draft, op: StepDone, row: StepRow | None) -> Decided:
    """The step returned."""
    if row is not None:
        if row.hand == Hand.SLEEPING:
            return (), draft  # What it waits for ends it, no executor.
        if is_resolved(row):
            return (), replace(draft, look_again=True)  # Its result is recorded and never changes.
        if op.step in draft.spoken:
            return (), draft
        draft = replace(draft, spoken=(*draft.spoken, op.step), bytes=draft.bytes - len(row.data))
    attempt, kind = (row.attempt, row.kind) if row is not None else (0, op.kind)
    fact = StepCompleted(case.run.run, op.step, op.name, kind, attempt, case.dispatch, op.data, op.started_at_ms, False)
    return complete(case, draft, fact)


def errored(case: Case, draft: Draft, op: StepErrored, row: StepRow | None) -> Decided:
    """An attempt raised: another one, or the step has failed for good."""
    if row is not None:
        if is_resolved(row):
            return (), replace(draft, look_again=True)  # Its result is recorded and never changes.
        if row.hand != Hand.OUT or row.dispatch != case.dispatch:
            return (), draft  # The step is in another hand: only the failure of that one counts.
        if op.step in draft.spoken:
            return (), draft
        draft = replace(draft, spoken=(*draft.spoken, op.step))
    attempt, kind = (row.attempt, row.kind) if row is not None else (0, NAME)
    retry_at_ms = next_attempt_at_ms(case, op.step, attempt, op.retry_after_ms, op.retry) if op.retriable else -1
    failure = op.failure
    if retry_at_ms < 0:
        failed = StepFailed(
            case.run.run, op.step, op.name, kind, attempt, case.dispatch, failure.name, failure.message,
            failure.stack, op.started_at_ms, False, failure.more,
        )  # fmt: skip
        return give_up(case, draft, failed, is_final=op.is_final)
    again = StepAttemptFailed(
        case.run.run, op.step, op.name, attempt, case.dispatch, failure.name, failure.message, failure.stack,
        op.started_at_ms, retry_at_ms, failure.more,
    )  # fmt: skip
    return (again,), draft


def found(case: Case, draft: Draft, op: StepFound) -> Decided:
    """The body wants the step, beside others: it is handed out on its own."""
    return (StepPlanned(case.run.run, op.step, op.name, case.dispatch),), draft


# --- fold -----------------------------------------------------------------------------------------


def step_planned(tables: Tables, f: StepPlanned, at_ms: int) -> Sequence[Effect]:
    """A step was found beside others: it goes out on its own."""
    run = answered(open_run(tables, f.run), f.dispatch)
    return hand_out_new_step(tables, run, StepRow(f.run, f.step, f.name, NAME, QUEUED))


def step_attempt_failed(tables: Tables, f: StepAttemptFailed, at_ms: int) -> Sequence[Effect]:
    """The step waits for its next attempt."""
    run = answered(open_run(tables, f.run), f.dispatch)
    held = tables.steps.get((f.run, f.step)) if f.step in run.steps else None
    if held is None:
        row = StepRow(f.run, f.step, f.name, NAME, BACKOFF, f.attempt + 1, f.dispatch, wake_at_ms=f.retry_at_ms)
        add_step(tables, run, row)
    else:
        put_step(
            tables, held, name=f.name, hand=BACKOFF, attempt=f.attempt + 1, dispatch=f.dispatch, lost=0,
            wake_at_ms=f.retry_at_ms,
        )  # fmt: skip
        tables.runs.put(f.run, run)
    return (timers.arm(tables, f.retry_at_ms, timers.RETRY, f.run, f.step),)


# --- history --------------------------------------------------------------------------------------


def show_planned(f: StepPlanned, at_ms: int) -> Entry:
    """Planned."""
    return (trail.PLANNED, at_ms, f.step, f.name, NAME)


def show_attempt_failed(f: StepAttemptFailed, at_ms: int) -> Entry:
    """An attempt, with the error and the time of the next."""
    error = (f.error_name, f.error_message, f.error_stack)
    return (trail.ERRORED, at_ms, f.step, f.name, NAME, f.attempt, f.started_at_ms, f.retry_at_ms, *error)


KIND = StepKind(
    name=NAME,
    finds={StepFound: found},
    answers={StepDone: done, StepErrored: errored},
    counts_late=frozenset({StepDone}),
    facts={StepPlanned: step_planned, StepAttemptFailed: step_attempt_failed},
    moves=Moves(
        body=(Move(Hand.OUT, StepPlanned, Hand.IDLE), Move(Hand.OUT, StepAttemptFailed, Hand.IDLE)),
        step=(
            Move(None, StepPlanned, Hand.OUT),
            Move(None, StepPlanned, Hand.QUEUED),
            Move(None, StepAttemptFailed, Hand.BACKOFF),
            Move(Hand.OUT, StepAttemptFailed, Hand.BACKOFF),
        ),
        run_fields={StepPlanned: ANSWERED | FOUND | {"dispatch"}, StepAttemptFailed: ANSWERED | FOUND},
        step_fields={StepAttemptFailed: frozenset({"name", "hand", "attempt", "dispatch", "lost", "wake_at_ms"})},
    ),
    hands={Hand.OUT: "", Hand.BACKOFF: timers.RETRY, Hand.PARKED: "", Hand.HELD: "", Hand.QUEUED: ""},
    shows={StepPlanned: show_planned, StepAttemptFailed: show_attempt_failed},
    quick_result=True,
)
