"""``debounce``: the last of several events starts a run, a period after it; at the latest a time after the first.

    AdmitStart ─> StartKept: in the place of the one before, which is skipped
    its time   ─> StartReleased: the one that is kept goes on (``kept_starts.py``)

A start that somebody asked for (invoke, rerun, backfill) goes on at once.
"""

from __future__ import annotations

from typing import Final

from millstream.core.flow.kinds import AdmitGate
from millstream.core.flow.places import by_key
from millstream.core.flow.verdicts import flow_of, onward, skipped
from millstream.core.tables import Tables
from millstream.model.facts import Fact, StartKept
from millstream.model.gates.messages import AdmitStart
from millstream.model.text.durations import duration_text

NAME: Final = "debounce"


def keep(tables: Tables, start: AdmitStart, place: str, now_ms: int) -> list[Fact]:
    """Another event: it is the one that counts now."""
    rule = flow_of(tables, start.function).debounce
    if start.cause or rule is None:
        return [onward(tables, start)]
    held = tables.kept_starts.get(place)
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
    return [*facts, StartKept(place, start, first_ms, due_ms)]


DEBOUNCE: Final = AdmitGate(name=NAME, places=by_key(NAME, lambda flow: flow.debounce), decide=keep)
