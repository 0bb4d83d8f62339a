"""``step.publish``: a record in any topic as a durable step. A header names the step, so that consumers can
deduplicate."""

from __future__ import annotations

from msgspec.structs import replace

from millstream.core.publishes import queue_record
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.resolving import complete, is_completed
from millstream.core.step_kinds import StepKind
from millstream.model.event import ID_HEADER
from millstream.model.facts import StepCompleted
from millstream.model.operations import PublishFound

NAME = "publish"


def found(case: Case, draft: Draft, op: PublishFound) -> Decided:
    """The step is done with this decision; the record follows once it is durable, at least once."""
    run = case.run.run
    completed = StepCompleted(run, op.step, op.name, NAME, 0, case.dispatch, b"null", case.now_ms, False)
    decided = complete(case, draft, completed)
    if not is_completed(decided):
        return decided
    headers = (*op.headers, (ID_HEADER, f"{run}/{op.step}".encode()))
    record = queue_record(case.tables, op.topic, op.key, op.value, headers=headers, queued=draft.queued)
    return (*decided[0], record), replace(decided[1], queued=draft.queued + 1)


KIND = StepKind(name=NAME, finds={PublishFound: found})
