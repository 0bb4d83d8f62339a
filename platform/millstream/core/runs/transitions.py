"""Every way in which a body or a step passes from hand to hand: one table of (from, fact, to).

The folds do it; this table says what they may do. The harness of the core's tests holds every fold against it, and
``docs/generate.py`` draws it into ARCHITECTURE.md. Step kinds bring the moves of their own facts (``StepKind.moves``).

A run may end in any hand. With its end no row of it remains, so ends are not listed one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from millstream.core.runs.moves import ANSWERED, FOUND, HANDED_OUT, RESOLVED, STEP_RESOLVED, Move, Moves
from millstream.core.steps import KINDS
from millstream.model import facts as f
from millstream.model.rows import Hand

IDLE, OUT, BACKOFF, PARKED = Hand.IDLE, Hand.OUT, Hand.BACKOFF, Hand.PARKED
WAITING, CLOSING, QUEUED = Hand.WAITING, Hand.CLOSING, Hand.QUEUED
DONE, FAILED, SCHEDULED = Hand.DONE, Hand.FAILED, Hand.SCHEDULED
HELD = Hand.HELD

ENDS: Final = (f.RunCompleted, f.RunFailed, f.RunCancelled)
"""The facts after which no row of a run remains."""

_COMMON: Final = Moves(
    body=(
        Move(None, f.RunStarted, OUT),
        Move(None, f.RunStarted, SCHEDULED),
        Move(None, f.RunStarted, QUEUED),
        Move(QUEUED, f.GatePassed, OUT),
        Move(SCHEDULED, f.RunDue, OUT),
        Move(IDLE, f.StepCompleted, QUEUED),
        Move(IDLE, f.StepFailed, QUEUED),
        Move(BACKOFF, f.RetryDue, QUEUED),
        Move(PARKED, f.DispatchUnparked, QUEUED),
        Move(OUT, f.StepCompleted, IDLE),  # It has answered, and another step of the same answer hands it out again.
        Move(OUT, f.StepCompleted, OUT),  # It has answered, and goes out again with the result.
        Move(IDLE, f.StepCompleted, OUT),
        Move(OUT, f.StepFailed, IDLE),
        Move(OUT, f.StepFailed, OUT),
        Move(IDLE, f.StepFailed, OUT),
        Move(OUT, f.DiscoveryAnswered, IDLE),
        Move(OUT, f.DiscoveryAnswered, OUT),
        Move(IDLE, f.DiscoveryAnswered, OUT),  # Behind a fact of the same answer that brought it back.
        Move(OUT, f.BodyAttemptFailed, BACKOFF),
        Move(IDLE, f.BodyAttemptFailed, BACKOFF),  # Likewise.
        Move(BACKOFF, f.RetryDue, OUT),
        Move(OUT, f.DispatchLost, OUT),
        Move(OUT, f.DispatchLost, BACKOFF),
        Move(OUT, f.DispatchParked, PARKED),
        Move(PARKED, f.DispatchUnparked, OUT),
        Move(OUT, f.WaitStarted, IDLE),
        Move(OUT, f.StepHeld, IDLE),
        Move(OUT, f.BodyHeld, HELD),
        Move(IDLE, f.BodyHeld, HELD),  # Behind a fact of the same answer.
        Move(HELD, f.HeldResumed, OUT),
        Move(HELD, f.HeldResumed, QUEUED),
    ),
    step=(
        Move(None, f.StepCompleted, DONE),
        Move(OUT, f.StepCompleted, DONE),
        Move(BACKOFF, f.StepCompleted, DONE),  # A late success of an attempt that is still awaited.
        Move(PARKED, f.StepCompleted, DONE),  # Likewise.
        Move(None, f.StepFailed, FAILED),
        Move(OUT, f.StepFailed, FAILED),
        Move(BACKOFF, f.StepFailed, FAILED),  # A late success whose result is too large.
        Move(PARKED, f.StepFailed, FAILED),  # Likewise.
        Move(BACKOFF, f.RetryDue, OUT),
        Move(OUT, f.DispatchLost, OUT),
        Move(OUT, f.DispatchLost, BACKOFF),
        Move(OUT, f.DispatchParked, PARKED),
        Move(PARKED, f.DispatchUnparked, OUT),
        Move(QUEUED, f.GatePassed, QUEUED),
        Move(QUEUED, f.GatePassed, OUT),
        Move(BACKOFF, f.RetryDue, QUEUED),
        Move(PARKED, f.DispatchUnparked, QUEUED),
        Move(QUEUED, f.StepCompleted, DONE),  # A late success of an attempt that is still awaited.
        Move(QUEUED, f.StepFailed, FAILED),  # Likewise, too large.
        Move(QUEUED, f.GateAsked, QUEUED),
        Move(BACKOFF, f.SlotReturned, BACKOFF),
        Move(PARKED, f.SlotReturned, PARKED),
        Move(DONE, f.SlotReturned, DONE),
        Move(FAILED, f.SlotReturned, FAILED),
        Move(None, f.WaitStarted, WAITING),
        Move(WAITING, f.WaitClosing, CLOSING),
        Move(CLOSING, f.WaitPostponed, WAITING),
        Move(WAITING, f.StepCompleted, DONE),
        Move(CLOSING, f.StepCompleted, DONE),
        Move(WAITING, f.StepFailed, FAILED),
        Move(CLOSING, f.StepFailed, FAILED),
        Move(None, f.StepHeld, HELD),
        Move(OUT, f.StepHeld, HELD),
        Move(BACKOFF, f.StepHeld, HELD),  # A late success whose result is too large.
        Move(PARKED, f.StepHeld, HELD),  # Likewise.
        Move(HELD, f.HeldResumed, OUT),
        Move(HELD, f.HeldResumed, QUEUED),
        Move(QUEUED, f.StepHeld, HELD),  # Likewise.
        Move(HELD, f.SlotReturned, HELD),
        Move(HELD, f.StepFailed, FAILED),
        Move(HELD, f.StepCompleted, DONE),  # A late success of the attempt that was thought lost.
    ),
    run_fields={
        f.WaitStarted: ANSWERED | FOUND,
        f.RunBounded: frozenset({"cancels", "start_by_ms", "finish_by_ms"}),
        f.StartPassed: frozenset({"start_by_ms"}),
        f.RunDue: HANDED_OUT | {"attempt", "lost"},
        f.GateAsked: frozenset({"flow", "dispatch"}),
        f.GatePassed: HANDED_OUT | {"flow", "wake_at_ms"},
        f.SlotReturned: frozenset({"flow"}),
        f.StepCompleted: HANDED_OUT | ANSWERED | RESOLVED,
        f.StepFailed: HANDED_OUT | ANSWERED | RESOLVED,
        f.DiscoveryAnswered: HANDED_OUT | ANSWERED,
        f.JointFound: frozenset({"joint"}),
        f.BodyAttemptFailed: ANSWERED | {"wake_at_ms"},
        f.RetryDue: HANDED_OUT | {"wake_at_ms"},
        f.StepHeld: ANSWERED | FOUND,
        f.BodyHeld: ANSWERED,
        f.HeldResumed: HANDED_OUT | {"attempt", "lost"},
        f.DispatchLost: HANDED_OUT | {"lost", "wake_at_ms"},
        f.DispatchParked: frozenset({"body"}),
        f.DispatchUnparked: HANDED_OUT,
    },
    step_fields={
        f.GateAsked: frozenset({"slot"}),
        f.GatePassed: frozenset({"slot", "hand", "dispatch", "wake_at_ms"}),
        f.SlotReturned: frozenset({"slot"}),
        f.WaitClosing: frozenset({"hand", "wake_at_ms"}),
        f.WaitPostponed: frozenset({"hand", "wake_at_ms"}),
        f.StepCompleted: STEP_RESOLVED,
        f.StepFailed: STEP_RESOLVED,
        f.RetryDue: frozenset({"hand", "dispatch", "wake_at_ms"}),
        f.StepHeld: frozenset({"name", "hand", "attempt", "dispatch", "lost", "wake_at_ms"}),
        f.HeldResumed: frozenset({"hand", "attempt", "dispatch", "lost", "wake_at_ms"}),
        f.DispatchLost: frozenset({"hand", "dispatch", "lost", "wake_at_ms"}),
        f.DispatchParked: frozenset({"hand"}),
        f.DispatchUnparked: frozenset({"hand", "dispatch", "wake_at_ms"}),
    },
)


def transitions() -> Moves:
    """The whole table, with the moves of every registered step kind."""
    every = (_COMMON, *(kind.moves for kind in KINDS.values()))
    return Moves(
        body=tuple(move for moves in every for move in moves.body),
        step=tuple(move for moves in every for move in moves.step),
        run_fields=_united(moves.run_fields for moves in every),
        step_fields=_united(moves.step_fields for moves in every),
    )


def _united(tables: Iterable[Mapping[type, frozenset[str]]]) -> dict[type, frozenset[str]]:
    united: dict[type, frozenset[str]] = {}
    for table in tables:
        for fact, fields in table.items():
            united[fact] = united.get(fact, frozenset()) | fields
    return united
