"""Overrides of limits: what an operator has set for a function, as this lane takes it in from the functions topic.

SeeLimits ─> LimitsSeen, SweepArmed: those who wait and have room now pass
"""

from __future__ import annotations

from collections.abc import Sequence

from millstream.core.handles import Handler, Handles
from millstream.core.tables import Tables
from millstream.model.effects import Effect
from millstream.model.facts import Fact, LimitsSeen, SweepArmed
from millstream.model.gates.overrides import LimitsRow, SeeLimits, encode_overrides


def see_limits(tables: Tables, command: SeeLimits, now_ms: int) -> list[Fact]:
    """Take what is set now; a record that comes again changes nothing."""
    held = tables.limits.get(command.function)
    if held is not None and held.offset >= command.offset:
        return []
    return [LimitsSeen(command.function, encode_overrides(command.overrides), command.offset), SweepArmed("")]


def fold_limits_seen(tables: Tables, f: LimitsSeen, at_ms: int) -> Sequence[Effect]:
    """From here on these numbers count. The row stays after a reset: it says which record was taken last."""
    tables.limits.put(f.function, LimitsRow(f.function, f.overrides, f.offset))
    return ()


HANDLES = Handles(commands={SeeLimits: Handler(see_limits)}, facts={LimitsSeen: fold_limits_seen})
