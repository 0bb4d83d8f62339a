"""Fold, the part about runs: how a body and its steps pass from hand to hand (the states are in ``model.rows.Hand``).

    RunStarted ─> body OUT ──report──> IDLE ──a step is resolved──> OUT ─> … ─> the run ends, its rows are deleted
    StepPlanned ─> step OUT ─┬─ StepCompleted ─> DONE
                             ├─ StepAttemptFailed ─> BACKOFF ─ RetryDue ─> OUT
                             └─ StepFailed ─> FAILED

A dispatch number is given here and nowhere else: the run's ``dispatch`` counts every hand-out of its body and its
steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from millstream.core import timers
from millstream.core.runs.ending import leave_hand, let_go
from millstream.core.tables import Tables
from millstream.model.effects import CodeWanted, Effect, Execute
from millstream.model.facts import (
    BodyAttemptFailed,
    DiscoveryAnswered,
    DispatchLost,
    DispatchParked,
    DispatchUnparked,
    RetryDue,
    RunCancelled,
    RunCompleted,
    RunDue,
    RunFailed,
    RunStarted,
    SleepEnded,
    SleepStarted,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    StepPlanned,
)
from millstream.model.operations import failure_json
from millstream.model.rows import EventRow, Hand, ParkedRow, RunRow, StepRow

# Plain ints: an IntEnum member costs an attribute look-up on the hot path and compares slower.
IDLE, OUT, BACKOFF, PARKED = int(Hand.IDLE), int(Hand.OUT), int(Hand.BACKOFF), int(Hand.PARKED)
SLEEPING, DONE, FAILED, SCHEDULED = int(Hand.SLEEPING), int(Hand.DONE), int(Hand.FAILED), int(Hand.SCHEDULED)


def run_started(tables: Tables, f: RunStarted, at_ms: int) -> Sequence[Effect]:
    """A run begins: its body goes out at once, or is scheduled."""
    for id in f.events:
        held = tables.events.get(id)
        assert held is not None, f"run {f.run} started on event {id}, which was not accepted"
        tables.events.put(id, EventRow(held.event, held.runs + 1))
    if f.start_at_ms:
        tables.runs.put(f.run, RunRow(f.run, f.function, f.events, f.cause, at_ms, SCHEDULED, wake_at_ms=f.start_at_ms))
        return (timers.arm(tables, f.start_at_ms, timers.DUE, f.run, ""),)
    tables.runs.add(f.run, RunRow(f.run, f.function, f.events, f.cause, at_ms, OUT, 1, 1))
    return (Execute(f.run, f.function, "", 0, 1),)


def run_due(tables: Tables, f: RunDue, at_ms: int) -> Sequence[Effect]:
    """A scheduled run begins."""
    run = _run(tables, f.run)
    gone = leave_hand(tables, run, None)
    return [*gone, *_hand_out_body(tables, run, 0, 0)]


def run_ended(tables: Tables, f: RunCompleted | RunFailed | RunCancelled, at_ms: int) -> Sequence[Effect]:
    """A run is over: nothing of it remains in the tables."""
    return let_go(tables, _run(tables, f.run), f)


def step_completed(tables: Tables, f: StepCompleted, at_ms: int) -> Sequence[Effect]:
    """A step has its result."""
    run = _run(tables, f.run)
    row = StepRow(f.run, f.step, f.name, f.kind, DONE, f.attempt, f.dispatch, 0, run.resolved + 1, f.data)
    return _resolve(tables, run, row, f.discover)


def step_failed(tables: Tables, f: StepFailed, at_ms: int) -> Sequence[Effect]:
    """A step failed for good."""
    run = _run(tables, f.run)
    held = tables.steps.get((f.run, f.step))
    kind = held.kind if held is not None else "run"
    data = failure_json(f.error_name, f.error_message, f.error_stack)
    row = StepRow(f.run, f.step, f.name, kind, FAILED, f.attempt, f.dispatch, 0, run.resolved + 1, data)
    return _resolve(tables, run, row, f.discover)


def _resolve(tables: Tables, run: RunRow, row: StepRow, discover: bool) -> Sequence[Effect]:
    """Store a step that is done or failed, and see to the body: answered, handed out again, or to look again."""
    key = (row.run, row.step)
    held = tables.steps.get(key) if row.step in run.steps else None
    effects: list[Effect] = []
    steps, pending = run.steps, run.pending
    if held is None:
        steps = (*steps, row.step)
        tables.steps.add(key, row)
    else:
        assert held.hand != DONE and held.hand != FAILED, f"step {row.step} of run {row.run} was resolved twice"
        pending -= 1
        if held.hand != OUT:
            effects = leave_hand(tables, run, held)
        tables.steps.put(key, row)
    body, dispatch, attempt, lost = run.body, run.dispatch, run.attempt, run.lost
    if body == OUT and row.dispatch == run.body_dispatch:
        body, attempt, lost = IDLE, 0, 0
    body_dispatch = run.body_dispatch
    if discover:
        body, body_dispatch, dispatch = OUT, dispatch + 1, dispatch + 1
        effects.append(Execute(run.run, run.function, "", attempt, dispatch))
    tables.runs.put(
        run.run,
        RunRow(
            run.run, run.function, run.events, run.cause, run.queued_at_ms, body, body_dispatch, dispatch,
            attempt, lost, not discover, pending, row.order, steps, run.bytes + len(row.data), run.wake_at_ms,
        ),
    )  # fmt: skip
    return effects


def discovery_answered(tables: Tables, f: DiscoveryAnswered, at_ms: int) -> Sequence[Effect]:
    """The body found nothing new; hand it out again where something was resolved meanwhile."""
    run = _run(tables, f.run)
    if f.discover:
        return _hand_out_body(tables, run, 0, 0)
    _put(tables, run, body=IDLE, attempt=0, lost=0)
    return ()


def step_planned(tables: Tables, f: StepPlanned, at_ms: int) -> Sequence[Effect]:
    """A step was found beside others: it goes out on its own."""
    run = _answered(_run(tables, f.run), f.dispatch)
    number = run.dispatch + 1
    tables.steps.add((f.run, f.step), StepRow(f.run, f.step, f.name, "run", OUT, 0, number))
    _put(tables, run, dispatch=number, pending=run.pending + 1, steps=(*run.steps, f.step))
    return (Execute(f.run, run.function, f.step, 0, number),)


def sleep_started(tables: Tables, f: SleepStarted, at_ms: int) -> Sequence[Effect]:
    """A step that is nothing but a timer."""
    run = _answered(_run(tables, f.run), f.dispatch)
    tables.steps.add(
        (f.run, f.step),
        StepRow(f.run, f.step, f.name, "sleep", SLEEPING, dispatch=f.dispatch, wake_at_ms=f.wake_at_ms),
    )
    _put(tables, run, pending=run.pending + 1, steps=(*run.steps, f.step))
    return (timers.arm(tables, f.wake_at_ms, timers.SLEEP, f.run, f.step),)


def sleep_ended(tables: Tables, f: SleepEnded, at_ms: int) -> Sequence[Effect]:
    """The timer has fired: the sleep is a resolved step."""
    run = _run(tables, f.run)
    held = tables.steps.get((f.run, f.step))
    assert held is not None and held.hand == SLEEPING, f"step {f.step} of run {f.run} does not sleep"
    row = StepRow(f.run, f.step, held.name, "sleep", DONE, 0, held.dispatch, 0, run.resolved + 1, b"null")
    return _resolve(tables, run, row, f.discover)


def step_attempt_failed(tables: Tables, f: StepAttemptFailed, at_ms: int) -> Sequence[Effect]:
    """The step waits for its next attempt."""
    run = _answered(_run(tables, f.run), f.dispatch)
    held = f.step in run.steps
    tables.steps.put(
        (f.run, f.step),
        StepRow(f.run, f.step, f.name, "run", BACKOFF, f.attempt + 1, f.dispatch, wake_at_ms=f.retry_at_ms),
    )
    if held:
        tables.runs.put(f.run, run)
    else:
        _put(tables, run, pending=run.pending + 1, steps=(*run.steps, f.step))
    return (timers.arm(tables, f.retry_at_ms, timers.RETRY, f.run, f.step),)


def body_attempt_failed(tables: Tables, f: BodyAttemptFailed, at_ms: int) -> Sequence[Effect]:
    """The body waits for its next attempt."""
    run = _run(tables, f.run)
    _put(tables, run, body=BACKOFF, attempt=f.attempt + 1, lost=0, wake_at_ms=f.retry_at_ms)
    return (timers.arm(tables, f.retry_at_ms, timers.RETRY, f.run, ""),)


def retry_due(tables: Tables, f: RetryDue, at_ms: int) -> Sequence[Effect]:
    """A delay is over: hand out again."""
    run = _run(tables, f.run)
    if not f.step:
        gone = leave_hand(tables, run, None)
        return [*gone, *_hand_out_body(tables, run, run.attempt, run.lost)]
    held = tables.steps.get((f.run, f.step))
    assert held is not None, f"step {f.step} of run {f.run} is not there to be tried again"
    gone = leave_hand(tables, run, held)
    return [*gone, *_hand_out_step(tables, run, held)]


def dispatch_lost(tables: Tables, f: DispatchLost, at_ms: int) -> Sequence[Effect]:
    """A hand-out was lost with its worker: make it again, now or later."""
    run = _run(tables, f.run)
    if not f.step:
        if not f.retry_at_ms:
            return _hand_out_body(tables, run, run.attempt, f.lost)
        _put(tables, run, body=BACKOFF, lost=f.lost, wake_at_ms=f.retry_at_ms)
        return (timers.arm(tables, f.retry_at_ms, timers.RETRY, f.run, ""),)
    held = tables.steps.get((f.run, f.step))
    assert held is not None, f"step {f.step} of run {f.run} was lost, but is not there"
    hand = BACKOFF if f.retry_at_ms else OUT
    lost = StepRow(
        f.run, f.step, held.name, held.kind, hand, held.attempt, held.dispatch, f.lost, wake_at_ms=f.retry_at_ms
    )
    if not f.retry_at_ms:
        return _hand_out_step(tables, run, lost)
    tables.steps.put((f.run, f.step), lost)
    return (timers.arm(tables, f.retry_at_ms, timers.RETRY, f.run, f.step),)


def dispatch_parked(tables: Tables, f: DispatchParked, at_ms: int) -> Sequence[Effect]:
    """The hand-out waits for a worker that has the code."""
    run = _run(tables, f.run)
    if not f.step:
        _put(tables, run, body=PARKED)
    else:
        held = tables.steps.get((f.run, f.step))
        assert held is not None, f"step {f.step} of run {f.run} was parked, but is not there"
        tables.steps.put(
            (f.run, f.step),
            StepRow(f.run, f.step, held.name, held.kind, PARKED, held.attempt, held.dispatch, held.lost),
        )
    tables.parked.put((f.function, f.run, f.step), ParkedRow(f.function, f.run, f.step, f.dispatch))
    return (CodeWanted(f.run, f.function, f.step, f.dispatch),)


def dispatch_unparked(tables: Tables, f: DispatchUnparked, at_ms: int) -> Sequence[Effect]:
    """The code has come."""
    run = _run(tables, f.run)
    tables.parked.delete((f.function, f.run, f.step))
    if not f.step:
        return _hand_out_body(tables, run, run.attempt, run.lost)
    held = tables.steps.get((f.run, f.step))
    assert held is not None, f"step {f.step} of run {f.run} was unparked, but is not there"
    return _hand_out_step(tables, run, held)


def _hand_out_body(tables: Tables, run: RunRow, attempt: int, lost: int) -> Sequence[Effect]:
    number = run.dispatch + 1
    _put(tables, run, body=OUT, body_dispatch=number, dispatch=number, attempt=attempt, lost=lost, again=False)
    return (Execute(run.run, run.function, "", attempt, number),)


def _hand_out_step(tables: Tables, run: RunRow, step: StepRow) -> Sequence[Effect]:
    number = run.dispatch + 1
    tables.steps.put(
        (run.run, step.step),
        StepRow(run.run, step.step, step.name, step.kind, OUT, step.attempt, number, step.lost),
    )
    _put(tables, run, dispatch=number)
    return (Execute(run.run, run.function, step.step, step.attempt, number),)


def _answered(run: RunRow, dispatch: int) -> RunRow:
    """The run with its body back in nobody's hand, if this is the dispatch it was out under."""
    if run.body != OUT or dispatch != run.body_dispatch:
        return run
    return run.with_changes(body=IDLE, attempt=0, lost=0)


def _run(tables: Tables, id: str) -> RunRow:
    run = tables.runs.get(id)
    assert run is not None, f"a fact about run {id}, which is not open"
    return run


def _put(tables: Tables, run: RunRow, **changes: object) -> None:
    tables.runs.put(run.run, run.with_changes(**changes))
