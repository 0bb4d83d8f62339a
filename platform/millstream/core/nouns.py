"""Every module of the core that answers for commands, timers or facts, gathered into the tables of ``decide`` and
``fold``.

Add a noun: its module exports ``HANDLES``; one name in ``_NOUNS``. A message is one ``MessageKind`` and one name in
``_MESSAGES``. Step kinds are listed in ``core/steps/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from millstream.core import cleaning, handover, messages, publishes, requests, starting, step_kinds, steps
from millstream.core.flow import (
    admission,
    batch,
    counts,
    idempotency,
    kept_starts,
    passage,
    queues,
    rate_limit,
    singleton,
    sweeping,
)
from millstream.core.handles import Decide, FoldFact, Handler, Handles, Refuse
from millstream.core.intake import apps, crons, dead_letters, events, limits, scans, seen, topics
from millstream.core.runs import (
    awaiting,
    bodies,
    bounds,
    cancellations,
    dispatches,
    ending,
    holding,
    invoking,
    reports,
    resolving,
    retry,
)
from millstream.core.step_kinds import StepKind
from millstream.core.steps import callback
from millstream.core.waits import coverage, homes, interests, kept, signals

DECIDE: Final[dict[type, Decide]] = {}
"""Command → decision."""
REFUSE: Final[dict[type, Refuse]] = {}
"""Command → what remains of one that raised."""
FIRE: Final[dict[str, Handler]] = {}
"""Timer kind → what follows when it fires."""
FOLD: Final[dict[type, FoldFact]] = {}
"""Fact → fold."""

_NOUNS: Final = (
    apps, cleaning, crons, dead_letters, events, handover, limits, messages, publishes, requests, scans, seen, starting,
    topics,
    awaiting, bodies, bounds, cancellations, dispatches, ending, holding, reports, resolving, retry,
    coverage, homes, interests, kept, signals,
    passage, queues, sweeping, kept_starts, batch, counts, rate_limit, idempotency, singleton,
)  # fmt: skip
_MESSAGES: Final = (
    ending.CANCEL_RUN, invoking.INVOKE_FUNCTION, scans.BACKFILL_FUNCTION, scans.CANCEL_SCAN, *awaiting.ANSWERS,
    homes.AWAIT_EVENT, homes.FORGET_WAIT, homes.TAKE_EVENT, coverage.EVENTS_SOUGHT, interests.SEEK_EVENTS,
    signals.AWAIT_SIGNAL, signals.FORGET_SIGNAL, signals.SEND_SIGNAL, callback.RESOLVE_CALLBACK,
    cancellations.CANCEL_RUNS, cancellations.STOP_CANCELLING,
    holding.RESUME_RUN, holding.FAIL_RUN,
    admission.ADMIT_START, passage.GATE_OPEN, queues.ASK_GATE, queues.LEAVE_GATE,
)  # fmt: skip


def add(handles: Handles) -> None:
    """Add to the tables. Each command, timer and fact has one owner: a second one is refused."""
    _add(DECIDE, {command: handler.decide for command, handler in handles.commands.items()})
    _add(REFUSE, {command: handler.refuse for command, handler in handles.commands.items()})
    _add(FIRE, handles.timers)
    _add(FOLD, handles.facts)


def add_step_kind(kind: StepKind) -> None:
    """Register one more step kind."""
    step_kinds.add(kind)
    add(kind.handles)


def _add(table: dict[Any, Any], more: Mapping[Any, Any]) -> None:
    assert not table.keys() & more.keys(), f"two modules answer for {table.keys() & more.keys()}"
    table.update(more)


for _noun in _NOUNS:
    add(_noun.HANDLES)
for _message in _MESSAGES:
    messages.add(_message)
    add(_message.handles)
for _kind in steps.KINDS.values():
    add(_kind.handles)
