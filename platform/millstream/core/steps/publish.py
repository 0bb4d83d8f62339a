"""``step.publish``: a record in any topic as a durable step. A header names the step, so that consumers can
deduplicate."""

from __future__ import annotations

from msgspec.structs import replace

from millstream.core.publishes import queue_record
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.resolving import complete, fail_step, is_completed
from millstream.core.step_kinds import StepKind
from millstream.model.event import ID_HEADER, NOT_SENT
from millstream.model.facts import StepCompleted, StepFailed
from millstream.model.messages import is_own_topic
from millstream.model.operations import PublishFound

NAME = "publish"


def found(case: Case, draft: Draft, op: PublishFound) -> Decided:
    """The step is done with this decision; the record follows once it is durable, at least once."""
    run = case.run.run
    why = _refused(case, op)
    if why is not None:
        name, message = why
        return fail_step(
            draft, StepFailed(run, op.step, op.name, NAME, 0, case.dispatch, name, message, "", case.now_ms, False)
        )
    completed = StepCompleted(run, op.step, op.name, NAME, 0, case.dispatch, b"null", case.now_ms, False)
    decided = complete(case, draft, completed)
    if not is_completed(decided):
        return decided
    headers = (*op.headers, (ID_HEADER, f"{run}/{op.step}".encode()))
    record = queue_record(case.tables, op.topic, op.key, op.value, headers=headers, queued=draft.queued)
    return (*decided[0], record), replace(decided[1], queued=draft.queued + 1)


def _refused(case: Case, op: PublishFound) -> tuple[str, str] | None:
    """Name and message of the error of a step whose record cannot be sent; None: it can."""
    group = case.tables.place.group
    if is_own_topic(group, op.topic):
        message = (
            f"step {op.step!r} refused: {op.topic!r} is one of the group's own topics, which only millstream writes. "
            f"Publish to another topic, or name the group otherwise than {group!r}."
        )
        return "FunctionError", message
    for header, value in op.headers:
        if header == NOT_SENT:
            return "LimitExceeded", value.decode(errors="replace")
    return None


KIND = StepKind(name=NAME, finds={PublishFound: found})
