"""What facts will weigh in a record: a turn ends where its record would become too large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from millstream.model.facts import EventAccepted, Fact, PublishQueued, RunCompleted, StepCompleted

# What facts with payloads weigh; the others count as FACT_BYTES.
FACT_BYTES: Final = 150
_PAYLOAD: Final[dict[type, Callable[[Any], int]]] = {
    StepCompleted: lambda fact: len(fact.data),
    EventAccepted: lambda fact: len(fact.data),
    RunCompleted: lambda fact: len(fact.result),
    PublishQueued: lambda fact: len(fact.value) + (len(fact.event.data) if fact.event is not None else 0),
}


def payload_bytes(facts: Sequence[Fact]) -> int:
    """About how many bytes facts will have in the record."""
    size = FACT_BYTES * len(facts)
    for fact in facts:
        payload = _PAYLOAD.get(type(fact))
        if payload is not None:
            size += payload(fact)
    return size
