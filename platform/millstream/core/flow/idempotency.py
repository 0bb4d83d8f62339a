"""``idempotency``: one start for a value of the key in 24 hours. The others are skipped.

A key that is missing, null or cannot be evaluated says nothing about repetition: the gate is passed by.
"""

from __future__ import annotations

from typing import Final

from millstream.core.flow.counts import Bound, CountingGate
from millstream.core.flow.verdicts import time_text
from millstream.core.handles import Handles
from millstream.model.gates.declared import FlowSpec
from millstream.model.gates.rows import StartsRow
from millstream.model.limits import IDEMPOTENCY_MS

NAME: Final = "idempotency"


def bound(flow: FlowSpec) -> Bound | None:
    """As the function has it."""
    return Bound(flow.idempotency, 1, IDEMPOTENCY_MS) if flow.idempotency else None


def reason(bound: Bound, row: StartsRow, room_ms: int) -> str:
    """Why a start is skipped."""
    return (
        f"idempotency: {row.run} was started for the same value of {bound.key}, and another one may be from "
        f"{time_text(room_ms)} on"
    )


_GATE: Final = CountingGate(name=NAME, bound=bound, reason=reason, counts_null=False)
IDEMPOTENCY: Final = _GATE.gate
HANDLES = Handles(timers=_GATE.timer)
