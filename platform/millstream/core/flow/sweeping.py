"""Gates are looked at once more when limits are others: those who have room now pass, without waiting for anybody.

SeeCatalogue, with other limits ─> SweepArmed ──timer──> SweepTaken, GateOpened …, SweepArmed behind the last one
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from millstream.core import timers
from millstream.core.flow.queues import look_again
from millstream.core.handles import Handler, Handles
from millstream.core.tables import Tables
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect
from millstream.model.facts import CommandRefused, Fact, SweepArmed, SweepTaken
from millstream.model.function import AppSpec

GATES_AT_ONCE_MAX: Final = 200


def swept(before: AppSpec | None, after: AppSpec | None) -> list[Fact]:
    """What follows another version of an app: a sweep, where limits have changed."""
    return [SweepArmed("")] if _flows(before) != _flows(after) else []


def _flows(spec: AppSpec | None) -> dict[str, object]:
    return {function.slug: function.flow for function in spec.functions if function.flow} if spec is not None else {}


def sweep(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """The next gates, from the place on that the timer names."""
    facts: list[Fact] = [SweepTaken(command.at_ms, command.id)]
    page = tables.gates.scan(command.id or None, limit=GATES_AT_ONCE_MAX)
    for _, gate in page:
        facts += look_again(tables, gate, now_ms)
    if len(page) == GATES_AT_ONCE_MAX:
        facts.append(SweepArmed(page[-1][0] + "\x00"))
    return facts


def refuse(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of a sweep that raised: those who wait pass when somebody leaves."""
    return [CommandRefused("FireTimer", command.id, reason), SweepTaken(command.at_ms, command.id)]


# --- fold -----------------------------------------------------------------------------------------


def sweep_armed(tables: Tables, f: SweepArmed, at_ms: int) -> Sequence[Effect]:
    """It goes on at once."""
    if tables.timers.get((at_ms, timers.SWEEP, f.after, "")) is not None:
        return ()  # Two deploys within a millisecond: one sweep is enough.
    return (timers.arm(tables, at_ms, timers.SWEEP, f.after, ""),)


def sweep_taken(tables: Tables, f: SweepTaken, at_ms: int) -> Sequence[Effect]:
    """It has come so far."""
    return (timers.disarm(tables, f.at_ms, timers.SWEEP, f.after, ""),)


HANDLES = Handles(
    timers={timers.SWEEP: Handler(sweep, refuse)}, facts={SweepArmed: sweep_armed, SweepTaken: sweep_taken}
)
