"""``rate_limit``: never more than ``limit`` starts in any window of ``period``. The others are skipped."""

from __future__ import annotations

from typing import Final

from millstream.core.flow.counts import Bound, CountingGate
from millstream.core.flow.verdicts import time_text
from millstream.core.handles import Handles
from millstream.model.gates.declared import FlowSpec
from millstream.model.gates.rows import StartsRow
from millstream.model.text.durations import duration_text

NAME: Final = "rate_limit"


def bound(flow: FlowSpec) -> Bound | None:
    """As the function has it."""
    rule = flow.rate_limit
    return Bound(rule.key, rule.limit, rule.period_ms) if rule is not None else None


def reason(bound: Bound, row: StartsRow, room_ms: int) -> str:
    """Why a start is skipped."""
    of = f" for one value of {bound.key}" if bound.key else ""
    period = duration_text(bound.period_ms)
    return (
        f"rate_limit: {bound.limit} {'start' if bound.limit == 1 else 'starts'} in {period}{of}, and no more. "
        f"There is room again at {time_text(room_ms)}"
    )


_GATE: Final = CountingGate(name=NAME, bound=bound, reason=reason)
RATE_LIMIT: Final = _GATE.gate
HANDLES = Handles(timers=_GATE.timer)
