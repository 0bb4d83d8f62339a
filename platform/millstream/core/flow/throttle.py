"""``throttle``: so many starts a period, evenly spread, some of them at once. The others queue, and none is lost.

The generic cell rate algorithm: each start takes one of ``burst`` places, and a place is free again after
``period / limit``. All that is kept is the time when all of them are free.
"""

from __future__ import annotations

from typing import Final

from millstream.core.flow.kinds import QueueGate, Room
from millstream.core.flow.places import by_key, rule_id
from millstream.model.gates.declared import FlowSpec
from millstream.model.gates.rows import GateRow

NAME: Final = "throttle"


def room(flow: FlowSpec, rule: str, gate: GateRow, now_ms: int) -> Room:
    """Whether a start may pass now."""
    throttle = flow.throttle
    if throttle is None or rule_id(throttle.key) != rule:
        return Room(True)
    now_us = now_ms * 1_000
    interval_us = -(-throttle.period_ms * 1_000 // throttle.limit)  # Rounded up: never more than the limit.
    # A limit that was lowered, or a clock that was set back, has left a time further ahead than the rule can explain.
    full_us = min(max(gate.full_us, now_us), now_us + interval_us * throttle.burst)
    open_us = full_us - interval_us * (throttle.burst - 1)
    if open_us > now_us:
        return Room(False, full_us, -(-open_us // 1_000))
    full_us += interval_us
    return Room(True, full_us, -(-full_us // 1_000))


THROTTLE: Final = QueueGate(name=NAME, places=by_key(NAME, lambda flow: flow.throttle), room=room, holds=False)
