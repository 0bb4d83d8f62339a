"""The handler itself: what its return or its exception leads to."""

from __future__ import annotations

from millstream.core.runs.plan import Plan
from millstream.model import limits
from millstream.model.facts import BodyAttemptFailed, RunCompleted
from millstream.model.operations import BodyDone, BodyErrored


def done(plan: Plan, op: BodyDone) -> None:
    """The handler returned: the run is over, whatever steps are still under way."""
    if len(op.result) > limits.RUN_RESULT_BYTES_MAX:
        plan.fail(
            "output_too_large",
            f"the result of the run was refused: at most {limits.RUN_RESULT_BYTES_MAX} bytes, got {len(op.result)}. "
            "Store it elsewhere and return a reference.",
        )
        return
    plan.end(RunCompleted(plan.run.run, plan.run.function, plan.dispatch, op.result))


def errored(plan: Plan, op: BodyErrored) -> None:
    """The handler raised outside a step: another attempt of the body, or the run has failed."""
    attempt = plan.run.attempt
    failure = op.failure
    retry_at_ms = plan.retry_at_ms("", attempt, op.retry_after_ms) if op.retriable else -1
    if retry_at_ms < 0:
        plan.fail(failure.name, failure.message, failure.stack, attempt)
    elif not plan.over:
        plan.over = True  # Nothing else of this report counts: the body starts again.
        plan.facts.append(
            BodyAttemptFailed(
                plan.run.run, attempt, plan.dispatch, failure.name, failure.message, failure.stack, retry_at_ms
            )
        )
