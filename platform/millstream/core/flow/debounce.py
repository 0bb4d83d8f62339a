"""``debounce``: the last of several events starts a run, a period after it; at the latest a time after the first.

    AdmitStart ─> DebounceKept: in the place of the one before, which is skipped
    timer      ─> DebounceOver: the one that is kept goes on

A start that somebody asked for (invoke, rerun, backfill) goes on at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from millstream.core import timers
from millstream.core.flow.kinds import AdmitGate
from millstream.core.flow.places import key_text, place_of, rule_id
from millstream.core.flow.verdicts import flow_of, onward, skipped
from millstream.core.handles import Handler, Handles
from millstream.core.tables import Tables
from millstream.model.commands import FireTimer
from millstream.model.durations import duration_text
from millstream.model.effects import Effect
from millstream.model.facts import CommandRefused, DebounceKept, DebounceOver, Fact
from millstream.model.function import FunctionSpec
from millstream.model.gate_messages import AdmitStart
from millstream.model.gate_rows import DebounceRow
from millstream.model.rows import TimerRow

NAME: Final = "debounce"


def places(function: FunctionSpec, event: Mapping[str, object]) -> tuple[str, ...]:
    """The place of its key."""
    if function.flow is None or function.flow.debounce is None:
        return ()
    key = function.flow.debounce.key
    return (place_of(NAME, rule_id(key), function.slug, key_text(key, event)),)


def keep(tables: Tables, start: AdmitStart, place: str, now_ms: int) -> list[Fact]:
    """Another event: it is the one that counts now."""
    rule = flow_of(tables, start.function).debounce
    if start.cause or rule is None:
        return [onward(tables, start)]
    held = tables.debounced.get(place)
    facts: list[Fact] = []
    first_ms = now_ms
    if held is not None:
        if held.start.event.internal_id == start.event.internal_id:
            return []
        first_ms = held.first_ms
        reason = f"debounce: another event came within {duration_text(rule.period_ms)}, {start.event.id}"
        facts += skipped(tables, held.start, reason)
    due_ms = now_ms + rule.period_ms
    if rule.timeout_ms:
        due_ms = max(min(due_ms, first_ms + rule.timeout_ms), now_ms)
    return [*facts, DebounceKept(place, start, first_ms, due_ms)]


def fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """No other event came in time."""
    held = tables.debounced.get(command.id)
    assert held is not None, "a debounce's timer goes with it"
    return [DebounceOver(command.id), onward(tables, held.start)]


def refuse(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of one that raised."""
    return [CommandRefused("FireTimer", command.id, reason), DebounceOver(command.id)]


def is_timed(tables: Tables, timer: TimerRow) -> bool:
    """Whether an event is kept until this time."""
    held = tables.debounced.get(timer.id)
    return held is not None and held.due_ms == timer.at_ms


# --- fold -----------------------------------------------------------------------------------------


def debounce_kept(tables: Tables, f: DebounceKept, at_ms: int) -> Sequence[Effect]:
    """It is kept until its time."""
    effects = _over(tables, f.place)
    tables.debounced.put(f.place, DebounceRow(f.place, f.start, f.first_ms, f.due_ms))
    return [*effects, timers.arm(tables, f.due_ms, timers.DEBOUNCE, f.place, "")]


def debounce_over(tables: Tables, f: DebounceOver, at_ms: int) -> Sequence[Effect]:
    """It goes on."""
    effects = _over(tables, f.place)
    tables.debounced.delete(f.place)
    return effects


def _over(tables: Tables, place: str) -> list[Effect]:
    held = tables.debounced.get(place)
    return [timers.disarm(tables, held.due_ms, timers.DEBOUNCE, place, "")] if held is not None else []


DEBOUNCE: Final = AdmitGate(name=NAME, places=places, decide=keep)
HANDLES: Final = Handles(
    timers={timers.DEBOUNCE: Handler(fire, refuse)}, facts={DebounceKept: debounce_kept, DebounceOver: debounce_over}
)
