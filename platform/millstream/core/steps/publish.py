"""``step.publish``: a record in any topic as a durable step. A header names the step, so that consumers can
deduplicate."""

from __future__ import annotations

from millstream.core.runs.plan import Plan
from millstream.model.event import ID_HEADER
from millstream.model.facts import StepCompleted
from millstream.model.operations import PublishFound


def found(plan: Plan, op: PublishFound) -> None:
    """The step is done with this decision; the record follows once it is durable, at least once."""
    if not plan.is_new(op.step):
        return
    run = plan.run.run
    headers = (*op.headers, (ID_HEADER, f"{run}/{op.step}".encode()))
    if plan.complete(StepCompleted(run, op.step, op.name, "publish", 0, plan.dispatch, b"null", plan.now_ms, False)):
        plan.queue(op.topic, op.key, op.value, headers)
