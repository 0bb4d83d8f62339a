"""Timers. A timer's row is its key: (at_ms, kind, id, step).

DUE    a run that was to start later;            id = run, step = ""
RETRY  a delay before another hand-out is over;  id = run, step = the step, "" for the body
START  a run must have begun;                    id = run, step = ""
FINISH a run must be over;                       id = run, step = ""
WAIT   a wait is over;                           id = run, step = the step
CRON   a cron fires;                             id = function, step = the cron's text
GATE   a gate is looked at;                      id = its place, step = ""
SWEEP  gates are looked at, one after another;   id = the place behind which, step = ""
KEPT, BATCH  what a gate has kept goes on;       id = its place, step = ""

A gate that counts starts has a kind of its own, named as the gate (``core/flow/counts.py``): id = its place.
CANCEL a cancellation looks on;                  id = cancellation, step = ""

A step kind has timers of its own (``core/steps/``): id = run, step = the step. Add a kind: the module that answers for
it names it in its ``HANDLES`` (or ``KIND``), with what follows when it fires.
"""

from __future__ import annotations

from typing import Final

from millstream.core.tables import Tables
from millstream.model.effects import Arm, Disarm
from millstream.model.rows import TimerRow

DUE: Final = "due"
RETRY: Final = "retry"
START: Final = "start"
FINISH: Final = "finish"
WAIT: Final = "wait"
CRON: Final = "cron"
GATE: Final = "gate"
SWEEP: Final = "sweep"
KEPT: Final = "kept"
BATCH: Final = "batch"
CANCEL: Final = "cancel"


def arm(tables: Tables, at_ms: int, kind: str, id: str, step: str) -> Arm:
    """Store a timer; the effect arms it."""
    tables.timers.put((at_ms, kind, id, step), TimerRow(at_ms, kind, id, step))
    return Arm(at_ms, kind, id, step)


def arm_first(tables: Tables, at_ms: int, kind: str, id: str, step: str) -> Arm:
    """As ``arm``, for a step that begins with it: one that goes before it is flushed costs the store nothing."""
    tables.timers.add((at_ms, kind, id, step), TimerRow(at_ms, kind, id, step))
    return Arm(at_ms, kind, id, step)


def disarm(tables: Tables, at_ms: int, kind: str, id: str, step: str) -> Disarm:
    """Remove a timer; the effect disarms it."""
    tables.timers.delete((at_ms, kind, id, step))
    return Disarm(at_ms, kind, id, step)
