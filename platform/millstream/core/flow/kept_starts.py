"""Starts that a gate keeps until a time: a row and a timer each, by the gate's place.

StartKept ─> (in the place of the one before)      timer ─> StartReleased, and it goes on to the next gate
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.flow.verdicts import onward
from millstream.core.handles import Handler, Handles
from millstream.core.runs.ending import told_not_started
from millstream.core.tables import Tables
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect
from millstream.model.facts import CommandRefused, Fact, FunctionSkipped, StartKept, StartReleased
from millstream.model.gates.rows import KeptStartRow
from millstream.model.rows import TimerRow


def fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """Its time has come."""
    held = tables.kept_starts.get(command.id)
    assert held is not None, "a kept start's timer goes with it"
    return [StartReleased(command.id), onward(tables, replace(held.start, at_ms=0))]


def refuse(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of one that raised: it does not start, and says so."""
    facts: list[Fact] = [CommandRefused("FireTimer", command.id, reason)]
    held = tables.kept_starts.get(command.id)
    if held is None:
        return facts
    start = held.start
    facts += [StartReleased(command.id), FunctionSkipped(start.event.internal_id, start.function, reason)]
    return [*facts, *told_not_started(tables, start.function, start.cause, reason)]


def is_timed(tables: Tables, timer: TimerRow) -> bool:
    """Whether a start is kept until this time."""
    held = tables.kept_starts.get(timer.id)
    return held is not None and held.due_ms == timer.at_ms


# --- fold -----------------------------------------------------------------------------------------


def start_kept(tables: Tables, f: StartKept, at_ms: int) -> Sequence[Effect]:
    """It is kept until its time."""
    effects = _let_go(tables, f.place)
    tables.kept_starts.put(f.place, KeptStartRow(f.place, f.start, f.first_ms, f.due_ms))
    return [*effects, timers.arm(tables, f.due_ms, timers.KEPT, f.place, "")]


def start_released(tables: Tables, f: StartReleased, at_ms: int) -> Sequence[Effect]:
    """It goes on."""
    effects = _let_go(tables, f.place)
    tables.kept_starts.delete(f.place)
    return effects


def _let_go(tables: Tables, place: str) -> list[Effect]:
    held = tables.kept_starts.get(place)
    return [timers.disarm(tables, held.due_ms, timers.KEPT, place, "")] if held is not None else []


HANDLES: Final = Handles(
    timers={timers.KEPT: Handler(fire, refuse)}, facts={StartKept: start_kept, StartReleased: start_released}
)
