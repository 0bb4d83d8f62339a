"""``step.run``: user code with a remembered result, retried on its own.

A step is either run at once while the body is out (then this is the first that is heard of it) or handed out on its
own.
"""

from __future__ import annotations

from millstream.core.runs.plan import Plan
from millstream.model.facts import StepAttemptFailed, StepCompleted, StepFailed, StepPlanned
from millstream.model.operations import StepDone, StepErrored, StepFound
from millstream.model.rows import Hand, StepRow


def done(plan: Plan, op: StepDone) -> None:
    """The step returned."""
    row = plan.step(op.step)
    if row is not None and row.hand == Hand.SLEEPING:
        return  # Only its timer ends a sleep.
    attempt = _attempt(plan, op.step, row)
    if attempt is None:
        return
    plan.complete(
        StepCompleted(plan.run.run, op.step, op.name, op.kind, attempt, plan.dispatch, op.data, op.started_at_ms, False)
    )


def errored(plan: Plan, op: StepErrored) -> None:
    """An attempt raised: another one, or the step has failed for good."""
    row = plan.step(op.step)
    if row is not None and not is_resolved(row) and not (row.hand == Hand.OUT and row.dispatch == plan.dispatch):
        return  # The step is in another hand: only the failure of that one counts.
    attempt = _attempt(plan, op.step, row)
    if attempt is None:
        return
    retry_at_ms = plan.retry_at_ms(op.step, attempt, op.retry_after_ms) if op.retriable else -1
    failure = op.failure
    if retry_at_ms < 0:
        plan.fail_step(
            StepFailed(
                plan.run.run, op.step, op.name, attempt, plan.dispatch, failure.name, failure.message,
                failure.stack, op.started_at_ms, False,
            )
        )  # fmt: skip
    else:
        plan.facts.append(
            StepAttemptFailed(
                plan.run.run, op.step, op.name, attempt, plan.dispatch, failure.name, failure.message,
                failure.stack, op.started_at_ms, retry_at_ms,
            )
        )  # fmt: skip


def found(plan: Plan, op: StepFound) -> None:
    """The body wants the step, beside others: it is handed out on its own."""
    if plan.is_new(op.step):
        plan.facts.append(StepPlanned(plan.run.run, op.step, op.name, plan.dispatch))


def _attempt(plan: Plan, step: str, row: StepRow | None) -> int | None:
    """The attempt that an operation speaks of; None where it says nothing that counts."""
    if row is None:
        return 0 if plan.is_new(step) else None
    if is_resolved(row):
        plan.again = True
        return None  # Its result is recorded and never changes.
    return row.attempt if plan.is_first(step) else None


def is_resolved(row: StepRow) -> bool:
    """Whether the step is done or failed for good."""
    return row.hand == Hand.DONE or row.hand == Hand.FAILED
