"""``step.send_event``: events as a durable step. Their ids come from (run, step, index), so a repeat is known."""

from __future__ import annotations

import json

from millstream.core.catalogue import seen_upto
from millstream.core.runs.plan import Plan
from millstream.model.event import Envelope
from millstream.model.facts import StepCompleted
from millstream.model.ids import hash16, ulid
from millstream.model.operations import SendFound


def found(plan: Plan, op: SendFound) -> None:
    """The step is done with this decision; the events follow once it is durable, at least once each."""
    if not plan.is_new(op.step):
        return
    run = plan.run.run
    sent = []
    for index, event in enumerate(op.events):
        internal_id = ulid(plan.now_ms, hash16(run, op.step, str(index))[:10])
        id = event.id if event.id_is_clients else internal_id
        sent.append(
            Envelope(
                internal_id, id, event.id_is_clients, event.name, event.data, event.ts_ms or plan.now_ms, plan.now_ms,
                event.key, event.user, event.v, event.meta, max(event.catalogue, seen_upto(plan.tables)),
            )
        )  # fmt: skip
    data = json.dumps({"ids": [event.id for event in sent]}, separators=(",", ":")).encode()
    if plan.complete(StepCompleted(run, op.step, op.name, "send_event", 0, plan.dispatch, data, plan.now_ms, False)):
        for event in sent:
            plan.send(event)
