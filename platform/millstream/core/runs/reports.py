"""What executors report: the one place where a report meets the state of its run.

A report answers a dispatch. It counts when that dispatch is still out; otherwise it is **late**: its worker was thought
dead, or answered twice. A late success of an attempt that is still awaited is taken, since the work was done; a late
failure never is.
"""

from __future__ import annotations

from millstream.core.runs.plan import Plan
from millstream.core.runs.retry import lost_retry_at_ms
from millstream.core.steps import DECIDE, body
from millstream.core.steps import run as run_step
from millstream.core.steps.run import is_resolved
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.commands import LoseDispatch, ParkDispatch, Report, Unpark
from millstream.model.facts import DispatchLost, DispatchParked, DispatchUnparked, Fact, StepFailed
from millstream.model.operations import (
    BodyErrored,
    Failure,
    PublishFound,
    SendFound,
    SleepFound,
    StepDone,
    StepErrored,
    StepFound,
)
from millstream.model.rows import Hand, RunRow, StepRow

WORKER_LOST = "WorkerLost"
_FOUND = (StepFound, SleepFound, SendFound, PublishFound)
NOTHING_REPORTED = "NothingReported"
STEP_NOT_REPORTED = "StepNotReported"


def report(tables: Tables, command: Report, now_ms: int) -> list[Fact]:
    """Decide about a report."""
    run = tables.runs.get(command.run)
    if run is None:
        return []  # A late answer to a run that is already over.
    if not 0 < command.dispatch <= run.dispatch:
        return []  # It was never handed out.
    plan = Plan(tables, run, command.dispatch, now_ms)
    if command.step:
        return _of_step(plan, command)
    if run.body != Hand.OUT or run.body_dispatch != command.dispatch:
        return _late_body(plan, command)
    for operation in command.operations:
        if plan.over:
            break
        DECIDE[type(operation)](plan, operation)
    if not plan.facts and not plan.again and not run.pending:
        body.errored(plan, _nothing())
    plan.close_body()
    return plan.facts


def _nothing() -> BodyErrored:
    """The body found nothing new and no step is under way: nothing would ever bring it back. Its attempt has failed."""
    message = (
        "the function was called and answered with nothing new: expected a step, a result or an error, since no step "
        "of the run is under way. Check what it waits for: only steps bring a run on."
    )
    return BodyErrored(Failure(NOTHING_REPORTED, message))


def _of_step(plan: Plan, command: Report) -> list[Fact]:
    row = plan.step(command.step)
    if row is None or is_resolved(row):
        return []  # Somebody else was quicker.
    if command.dispatch == plan.run.body_dispatch:
        return []  # That number is the body's: a fact with it would answer the body.
    late = row.hand != Hand.OUT or row.dispatch != command.dispatch
    if late and row.attempt != command.attempt:
        return []  # The attempt it speaks of is over.
    for operation in command.operations:
        if not isinstance(operation, StepDone | StepErrored) or operation.step != command.step:
            continue
        if late and not isinstance(operation, StepDone):
            continue
        DECIDE[type(operation)](plan, operation)
    if not late and not plan.facts:
        run_step.errored(plan, _unspoken(command, row, plan.now_ms))
    plan.close_step()
    return plan.facts


def _unspoken(command: Report, row: StepRow, now_ms: int) -> StepErrored:
    """An answer to a step's hand-out that does not say what became of the step: its attempt has failed.

    The code around the step raised before it was reached, or the executor is at fault. Waiting would be for ever.
    """
    for operation in command.operations:
        if isinstance(operation, BodyErrored):
            return StepErrored(
                row.step, row.name, operation.failure, now_ms, operation.retriable, operation.retry_after_ms
            )
    message = (
        f"step {row.step!r} was handed out, and the answer did not say what became of it: expected its result or its "
        f"error, got {', '.join(type(o).__name__ for o in command.operations) or 'nothing'}. "
        "Check that the function still has this step."
    )
    return StepErrored(row.step, row.name, Failure(STEP_NOT_REPORTED, message), now_ms)


def _late_body(plan: Plan, command: Report) -> list[Fact]:
    """Of an answer that comes too late, what was done counts; of a body that goes on living, what it finds later."""
    awaited = plan.run.attempt == command.attempt
    lives = plan.run.body == Hand.IDLE and plan.run.body_dispatch == command.dispatch
    for operation in command.operations:
        if plan.over:
            break
        if (awaited and isinstance(operation, StepDone)) or (lives and isinstance(operation, _FOUND)):
            DECIDE[type(operation)](plan, operation)
    plan.close_step()
    return plan.facts


def lose(tables: Tables, command: LoseDispatch, now_ms: int) -> list[Fact]:
    """A dispatch died with its worker: hand out again, or give up after too many."""
    found = _out(tables, command.run, command.step, command.dispatch)
    if found is None:
        return []
    run, step = found
    lost = (run.lost if step is None else step.lost) + 1
    if lost <= limits.DISPATCHES_LOST_MAX:
        return [DispatchLost(command.run, command.step, command.dispatch, lost, lost_retry_at_ms(lost, now_ms))]
    plan = Plan(tables, run, command.dispatch, now_ms)
    message = (
        f"the worker died {lost} times while it ran this (at most {limits.DISPATCHES_LOST_MAX} are allowed). "
        "Look for a crash, an out-of-memory kill or a call of os._exit in the function."
    )
    if step is None:
        plan.fail(WORKER_LOST, message, "", run.attempt)
    else:
        plan.fail_step(
            StepFailed(
                run.run, step.step, step.name, step.attempt, step.dispatch, WORKER_LOST, message, "", now_ms, False
            )
        )
        plan.close_step()
    return plan.facts


def park(tables: Tables, command: ParkDispatch, now_ms: int) -> list[Fact]:
    """No code for this here: the dispatch waits, and no attempt is used."""
    found = _out(tables, command.run, command.step, command.dispatch)
    if found is None:
        return []
    return [DispatchParked(command.run, command.step, found[0].function, command.dispatch)]


def unpark(tables: Tables, command: Unpark, now_ms: int) -> list[Fact]:
    """There is code now: hand out again."""
    run = tables.runs.get(command.run)
    if run is None:
        return []
    row = tables.parked.get((run.function, command.run, command.step))
    if row is None or row.dispatch != command.dispatch:
        return []
    return [DispatchUnparked(command.run, command.step, run.function)]


def _out(tables: Tables, run_id: str, step_id: str, dispatch: int) -> tuple[RunRow, StepRow | None] | None:
    """The run and step that are out under this very dispatch."""
    run = tables.runs.get(run_id)
    if run is None:
        return None
    if not step_id:
        return (run, None) if run.body == Hand.OUT and run.body_dispatch == dispatch else None
    step = tables.steps.get((run_id, step_id))
    if step is None or step.hand != Hand.OUT or step.dispatch != dispatch:
        return None
    return run, step
