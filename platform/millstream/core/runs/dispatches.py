"""Hand-outs that no executor carries out: lost with their worker, or parked until there is code for them.

    OUT ──DispatchLost──> OUT, or BACKOFF first        OUT ──DispatchParked──> PARKED ──DispatchUnparked──> OUT

No attempt is used by either. A hand-out that was lost too often has failed: it kills its workers.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.handles import Handler, Handles
from millstream.core.runs.bodies import give_up_body
from millstream.core.runs.closing import close_step
from millstream.core.runs.deciding import Case, Draft
from millstream.core.runs.ending import refuse_about_run
from millstream.core.runs.hands import (
    BACKOFF,
    PARKED,
    hand_out_body,
    hand_out_step,
    open_run,
    open_step,
    put_run,
    put_step,
)
from millstream.core.runs.resolving import give_up
from millstream.core.runs.retry import lost_retry_at_ms
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.commands import LoseDispatch, ParkDispatch, Unpark
from millstream.model.effects import CodeWanted, Effect
from millstream.model.facts import DispatchLost, DispatchParked, DispatchUnparked, Fact, StepFailed
from millstream.model.operations import Failure
from millstream.model.rows import Hand, ParkedRow, RunRow, StepRow

WORKER_LOST = "WorkerLost"


def lose(tables: Tables, command: LoseDispatch, now_ms: int) -> list[Fact]:
    """A dispatch died with its worker: hand out again, or give up after too many."""
    found = _out(tables, command.run, command.step, command.dispatch)
    if found is None:
        return []
    run, step = found
    lost = (run.lost if step is None else step.lost) + 1
    if lost <= limits.DISPATCHES_LOST_MAX:
        return [DispatchLost(command.run, command.step, command.dispatch, lost, lost_retry_at_ms(lost, now_ms))]
    case, draft = Case(tables, run, command.dispatch, now_ms), Draft.of(run)
    message = (
        f"the worker died, or the connection to the app broke, {lost} times while this ran (at most "
        f"{limits.DISPATCHES_LOST_MAX} are allowed). Look for a crash, an out-of-memory kill or a call of os._exit in "
        "the function; for an app over HTTP also for what cuts its connections."
    )
    if step is None:
        facts, _ = give_up_body(case, draft, Failure(WORKER_LOST, message), attempt=run.attempt)
        return list(facts)
    fact = StepFailed(
        run.run, step.step, step.name, step.kind, step.attempt, step.dispatch, WORKER_LOST, message, "", now_ms, False
    )
    return close_step(case, *give_up(case, draft, fact))


def park(tables: Tables, command: ParkDispatch, now_ms: int) -> list[Fact]:
    """No code for this here, or code that has changed, or it was given back: it waits, and no attempt is used."""
    found = _out(tables, command.run, command.step, command.dispatch)
    if found is None:
        return []
    function = found[0].function
    return [DispatchParked(command.run, command.step, function, command.dispatch, command.reason, command.given_back)]


def unpark(tables: Tables, command: Unpark, now_ms: int) -> list[Fact]:
    """There is code now: hand out again."""
    run = tables.runs.get(command.run)
    if run is None:
        return []
    row = tables.parked.get((run.function, command.run, command.step))
    if row is None or row.dispatch != command.dispatch:
        return []
    return [DispatchUnparked(command.run, command.step, run.function)]


def refuse(tables: Tables, command: LoseDispatch | ParkDispatch | Unpark, reason: str, now_ms: int) -> list[Fact]:
    """What remains of one that raised."""
    return refuse_about_run(tables, command.run, type(command).__name__, reason, now_ms)


def _out(tables: Tables, run_id: str, step_id: str, dispatch: int) -> tuple[RunRow, StepRow | None] | None:
    """The run and step that are out under this very dispatch."""
    run = tables.runs.get(run_id)
    if run is None:
        return None
    if not step_id:
        return (run, None) if run.body == Hand.OUT and run.body_dispatch == dispatch else None
    step = tables.steps.get((run_id, step_id))
    if step is None or step.hand != Hand.OUT or step.dispatch != dispatch:
        return None
    return run, step


# --- fold -----------------------------------------------------------------------------------------


def dispatch_lost(tables: Tables, f: DispatchLost, at_ms: int) -> Sequence[Effect]:
    """A hand-out was lost with its worker: make it again, now or later."""
    run = open_run(tables, f.run)
    if not f.step:
        if not f.retry_at_ms:
            return hand_out_body(tables, run, attempt=run.attempt, lost=f.lost)
        put_run(tables, run, body=BACKOFF, lost=f.lost, wake_at_ms=f.retry_at_ms)
        return (timers.arm(tables, f.retry_at_ms, timers.RETRY, f.run, ""),)
    step = open_step(tables, f.run, f.step)
    if not f.retry_at_ms:
        return hand_out_step(tables, run, replace(step, lost=f.lost))
    put_step(tables, step, hand=BACKOFF, lost=f.lost, wake_at_ms=f.retry_at_ms)
    return (timers.arm(tables, f.retry_at_ms, timers.RETRY, f.run, f.step),)


def dispatch_parked(tables: Tables, f: DispatchParked, at_ms: int) -> Sequence[Effect]:
    """The hand-out waits for a worker that has the code."""
    run = open_run(tables, f.run)
    if not f.step:
        put_run(tables, run, body=PARKED)
    else:
        put_step(tables, open_step(tables, f.run, f.step), hand=PARKED)
    row = ParkedRow(f.function, f.run, f.step, f.dispatch, f.reason, f.given_back)
    tables.parked.put((f.function, f.run, f.step), row)
    return (CodeWanted(f.run, f.function, f.step, f.dispatch),)


def dispatch_unparked(tables: Tables, f: DispatchUnparked, at_ms: int) -> Sequence[Effect]:
    """The code has come."""
    run = open_run(tables, f.run)
    tables.parked.delete((f.function, f.run, f.step))
    if not f.step:
        return hand_out_body(tables, run, attempt=run.attempt, lost=run.lost)
    return hand_out_step(tables, run, open_step(tables, f.run, f.step))


HANDLES = Handles(
    commands={
        LoseDispatch: Handler(lose, refuse),
        ParkDispatch: Handler(park, refuse),
        Unpark: Handler(unpark, refuse),
    },
    facts={DispatchLost: dispatch_lost, DispatchParked: dispatch_parked, DispatchUnparked: dispatch_unparked},
)
