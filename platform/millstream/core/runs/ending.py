"""The end of a run: the internal events that announce it, and what is let go of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from millstream.core import timers
from millstream.core.catalogue import catalogue, seen_upto
from millstream.core.tables import Tables
from millstream.model.announcement import RunEnd, announcement, announcement_names, handled_function
from millstream.model.effects import Abandon, Effect
from millstream.model.event import Envelope
from millstream.model.facts import Fact, RunCancelled, RunFailed
from millstream.model.rows import EventRow, Hand, RunRow, StepRow

_TIMER_OF: Final[dict[int, str]] = {Hand.BACKOFF: timers.RETRY, Hand.SLEEPING: timers.SLEEP, Hand.SCHEDULED: timers.DUE}


def ended(tables: Tables, run: RunRow, fact: RunEnd, now_ms: int) -> Iterator[Envelope]:
    """The internal events that this end is announced with: only those that somebody subscribes to."""
    known = catalogue(tables)
    is_handler = handled_function(run.function) in known.functions
    for name in announcement_names(fact, of_failure_handler=is_handler):
        if known.subscriptions(name):
            events = [row.event for id in run.events if (row := tables.events.get(id)) is not None]
            yield announcement(name, fact, events, now_ms, catalogue=seen_upto(tables))


def let_go(tables: Tables, run: RunRow, fact: Fact) -> list[Effect]:
    """Fold: remove every row of a run that has ended."""
    effects: list[Effect] = []
    id = run.run
    if run.pending:
        for step in run.steps:
            row = tables.steps.get((id, step))
            if row is not None:
                effects += leave_hand(tables, run, row)
    for step in run.steps:
        tables.steps.delete((id, step))
    if run.body != Hand.IDLE:
        effects += leave_hand(tables, run, None)
    for event in run.events:
        held = tables.events.get(event)
        if held is not None:
            if held.runs <= 1:
                tables.events.delete(event)
            else:
                tables.events.put(event, EventRow(held.event, held.runs - 1))
    tables.runs.delete(id)
    if run.pending or isinstance(fact, RunFailed | RunCancelled):
        effects.append(Abandon(id))
    return effects


def leave_hand(tables: Tables, run: RunRow, step: StepRow | None) -> list[Effect]:
    """Fold: a step (or, None, the body) leaves the hand it was in; its timer or parking place goes with it."""
    hand, wake_at_ms, id = (run.body, run.wake_at_ms, "") if step is None else (step.hand, step.wake_at_ms, step.step)
    kind = _TIMER_OF.get(hand)
    if kind is not None:
        return [timers.disarm(tables, wake_at_ms, kind, run.run, id)]
    if hand == Hand.PARKED:
        tables.parked.delete((run.function, run.run, id))
    return []
