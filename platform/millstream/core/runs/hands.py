"""How a body and its steps pass from hand to hand: the moves that several folds share (``transitions.py`` lists all).

A dispatch number is given here and in ``starting.py`` (the first) and nowhere else: a run's ``dispatch`` counts every
hand-out of its body and its steps. Rows change by keyword, so that a new field survives every move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.step_kinds import timer_of_step
from millstream.core.tables import Tables
from millstream.model.effects import Effect, Execute
from millstream.model.gates.declared import RunFlow, Slot
from millstream.model.rows import Hand, RunRow, StepRow

# Plain ints: an IntEnum member costs an attribute look-up on the hot path and compares slower.
IDLE, OUT, BACKOFF, PARKED = int(Hand.IDLE), int(Hand.OUT), int(Hand.BACKOFF), int(Hand.PARKED)
WAITING, CLOSING = int(Hand.WAITING), int(Hand.CLOSING)
HELD = int(Hand.HELD)
SLEEPING, DONE, FAILED, SCHEDULED = int(Hand.SLEEPING), int(Hand.DONE), int(Hand.FAILED), int(Hand.SCHEDULED)
QUEUED = int(Hand.QUEUED)

BODY_TIMERS: Final[dict[int, str]] = {Hand.BACKOFF: timers.RETRY, Hand.SCHEDULED: timers.DUE}
"""Where a body waits for a time, and the timer that wakes it there."""


def open_run(tables: Tables, id: str) -> RunRow:
    """The run that a fact is about."""
    run = tables.runs.get(id)
    assert run is not None, f"a fact about run {id}, which is not open"
    return run


def open_step(tables: Tables, run: str, step: str) -> StepRow:
    """The step that a fact is about."""
    row = tables.steps.get((run, step))
    assert row is not None, f"a fact about step {step} of run {run}, which has no row"
    return row


def put_run(tables: Tables, run: RunRow, **changes: object) -> None:
    """Store the run with some fields changed."""
    tables.runs.put(run.run, replace(run, **changes))


def put_step(tables: Tables, step: StepRow, **changes: object) -> None:
    """Store the step with some fields changed."""
    tables.steps.put((step.run, step.step), replace(step, **changes))


def add_step(tables: Tables, run: RunRow, step: StepRow, **changes: object) -> None:
    """Store a step that the run did not know and that is not resolved; with other changes of the run."""
    tables.steps.add((step.run, step.step), step)
    put_run(tables, run, pending=run.pending + 1, steps=(*run.steps, step.step), **changes)


def hand_out_body(tables: Tables, run: RunRow, *, attempt: int, lost: int) -> Sequence[Effect]:
    """The body goes out under the next number; where it has a gate to pass it queues first."""
    if run.flow is not None and not may_execute(run.flow):
        put_run(tables, run, body=QUEUED, attempt=attempt, lost=lost, again=False, wake_at_ms=0)
        return ()
    number = run.dispatch + 1
    put_run(tables, run, body=OUT, body_dispatch=number, dispatch=number, attempt=attempt, lost=lost, again=False)
    return (Execute(run.run, run.function, "", attempt, number),)


def hand_out_step(tables: Tables, run: RunRow, step: StepRow) -> Sequence[Effect]:
    """A step that the run knows goes out under the next number; where it has a gate to pass it queues first."""
    if run.flow is not None and not has_slot(run.flow, step.slot):
        put_step(tables, step, hand=QUEUED, wake_at_ms=0)
        return ()
    number = run.dispatch + 1
    put_step(tables, step, hand=OUT, dispatch=number, wake_at_ms=0)
    put_run(tables, run, dispatch=number)
    return (Execute(run.run, run.function, step.step, step.attempt, number),)


def hand_out_new_step(tables: Tables, run: RunRow, step: StepRow, **changes: object) -> Sequence[Effect]:
    """A step that the run did not know, given as QUEUED, goes out; where it has a gate to pass it stays there."""
    if run.flow is not None and not has_slot(run.flow, None):
        add_step(tables, run, step, **changes)
        return ()
    number = run.dispatch + 1
    add_step(tables, run, replace(step, hand=OUT, dispatch=number), dispatch=number, **changes)
    return (Execute(run.run, run.function, step.step, 0, number),)


def may_execute(flow: RunFlow) -> bool:
    """Whether the body has no gate to pass before it is handed out: it has passed those of the run, and has a slot."""
    return flow.passed == len(flow.gates) and has_slot(flow, flow.slot)


def has_slot(flow: RunFlow, slot: Slot | None) -> bool:
    """Whether a body or step with this slot may execute."""
    return not flow.slots or (slot is not None and slot.passed == len(flow.slots))


def answered(run: RunRow, dispatch: int) -> RunRow:
    """The run with its body idle again, if this is the dispatch it was out under."""
    if run.body != OUT or dispatch != run.body_dispatch:
        return run
    return replace(run, body=IDLE, attempt=0, lost=0)


def leave_hand(tables: Tables, run: RunRow, step: StepRow | None) -> list[Effect]:
    """A step (or, None, the body) leaves the hand it is in; its timer, parking place or hold goes with it."""
    if step is None:
        hand, wake_at_ms, id, timer = run.body, run.wake_at_ms, "", BODY_TIMERS.get(run.body)
    else:
        hand, wake_at_ms, id, timer = step.hand, step.wake_at_ms, step.step, timer_of_step(step)
    if timer is not None:
        return [timers.disarm(tables, wake_at_ms, timer, run.run, id)]
    if hand == PARKED:
        tables.parked.delete((run.function, run.run, id))
    elif hand == HELD:
        tables.held.delete((run.function, run.run, id))
    return []
