"""``step.sleep`` and ``step.sleep_until``: a timer, nothing held meanwhile."""

from __future__ import annotations

from millstream.core.runs.plan import Plan
from millstream.model import limits
from millstream.model.facts import SleepStarted, StepFailed
from millstream.model.operations import SleepFound


def found(plan: Plan, op: SleepFound) -> None:
    """The body wants to sleep. A time already past wakes at once."""
    if not plan.is_new(op.step):
        return
    wake_at_ms = op.until_ms if op.until_ms >= 0 else plan.now_ms + max(op.length_ms, 0)
    if wake_at_ms - plan.now_ms > limits.SLEEP_MS_MAX:
        plan.fail_step(
            StepFailed(
                plan.run.run, op.step, op.name, 0, plan.dispatch, "InngestErrTimeoutTooLong",
                f"sleep {op.step!r} was refused: at most {limits.SLEEP_MS_MAX // limits.DAY_MS} days, "
                f"got {(wake_at_ms - plan.now_ms) // limits.DAY_MS}. Sleep in several steps.",
                "", plan.now_ms, False,
            )
        )  # fmt: skip
        return
    plan.facts.append(SleepStarted(plan.run.run, op.step, op.name, plan.dispatch, wake_at_ms))
