"""``step.send_event``: events as a durable step. Their ids come from (run, step, index), so a repeat is known."""

from __future__ import annotations

import json

from msgspec.structs import replace

from millstream.core.publishes import queue_event
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.resolving import complete, is_completed
from millstream.core.step_kinds import StepKind
from millstream.core.triggers.catalogue import seen_upto
from millstream.model.event import Envelope
from millstream.model.facts import Fact, StepCompleted
from millstream.model.ids import hash16, ulid
from millstream.model.operations import SendFound

NAME = "send_event"


def found(case: Case, draft: Draft, op: SendFound) -> Decided:
    """The step is done with this decision; the events follow once it is durable, at least once each."""
    run = case.run.run
    sent = []
    for index, event in enumerate(op.events):
        internal_id = ulid(case.now_ms, hash16(run, op.step, str(index))[:10])
        id = event.id if event.id_is_clients else internal_id
        sent.append(
            Envelope(
                internal_id, id, event.id_is_clients, event.name, event.data, event.ts_ms or case.now_ms, case.now_ms,
                event.key, event.user, event.v, event.meta, max(event.catalogue, seen_upto(case.tables)),
            )
        )  # fmt: skip
    data = json.dumps({"ids": [event.id for event in sent]}, separators=(",", ":")).encode()
    completed = StepCompleted(run, op.step, op.name, NAME, 0, case.dispatch, data, case.now_ms, False)
    decided = complete(case, draft, completed)
    if not is_completed(decided):
        return decided
    facts: list[Fact] = list(decided[0])
    facts += [queue_event(case.tables, event, queued=draft.queued + n) for n, event in enumerate(sent)]
    return facts, replace(decided[1], queued=draft.queued + len(sent))


KIND = StepKind(name=NAME, finds={SendFound: found})
