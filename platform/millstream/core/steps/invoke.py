"""``step.invoke``: a run of another function, on a lane of its own, and its result.

InvokeFound ─> WaitStarted; InvokeFunction to the lane of the new run, with this step as its cause
its end     ─> ChildEnded: StepCompleted with its result, or StepFailed with its failure
timer       ─> StepFailed; the other run goes on
a cancelled parent cancels its children, unless they are detached
"""

from __future__ import annotations

from typing import Final

from millstream.core import timers
from millstream.core.flow.starts import through_gates
from millstream.core.origin import OWN_EVENT, new_run_id
from millstream.core.runs.awaiting import too_long
from millstream.core.runs.closing import close_step
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.ending import cause_of
from millstream.core.runs.resolving import complete, fail_step
from millstream.core.step_kinds import StepKind
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue, seen_upto
from millstream.errors import INVOKE_TIMEOUT
from millstream.model import limits
from millstream.model.announcement import RunEnd
from millstream.model.commands import ChildEnded, InvokeFunction
from millstream.model.error_object import more_of
from millstream.model.event import FUNCTION_INVOKED, Envelope
from millstream.model.facts import Fact, Post, RunCancelled, StepCompleted, StepFailed, WaitStarted
from millstream.model.ids import hash16, home_of, lane_of, ulid
from millstream.model.invocation import of_step, with_invocation
from millstream.model.operations import InvokeFound
from millstream.model.rows import Hand, RunRow, StepRow
from millstream.model.run_requests import CancelRun
from millstream.model.waits.awaited import AwaitedRun

NAME: Final = "invoke"
TIMED_OUT: Final = "Timed out waiting for invoked function to complete"
"""The message of the step's error, as every SDK of the protocol knows it; the trail of the step names the run."""


def found(case: Case, draft: Draft, op: InvokeFound) -> Decided:
    """The body wants a run of another function."""
    if op.timeout_ms > limits.WAIT_MS_MAX:
        return fail_step(draft, too_long(case, op, NAME))
    run, lanes, now_ms = case.run.run, case.tables.place.lanes, case.now_ms
    id = ulid(now_ms, hash16(run, op.step)[:10])
    until_ms = now_ms + max(op.timeout_ms, 0)
    about = of_step(op.function, run, op.step, name=op.name, source=case.run.function, until_ms=until_ms)
    data = with_invocation(op.data, about)
    seen = seen_upto(case.tables)
    event = Envelope(id, id, False, FUNCTION_INVOKED, data, now_ms, now_ms, v=op.v, meta=op.meta, catalogue=seen)
    cause = cause_of(run, op.step)
    spec = catalogue(case.tables).functions.get(op.function)
    if spec is not None and spec.flow is not None:
        post, child = through_gates(case.tables, spec, event, OWN_EVENT, cause=cause)
    else:
        lane = home_of(cause, lanes)
        post = Post(lane, InvokeFunction(op.function, event, cause=cause))
        child = new_run_id(case.tables, op.function, event, cause, lane=lane)
    awaits = AwaitedRun(op.function, child, op.is_detached)
    return (WaitStarted(run, op.step, op.name, NAME, case.dispatch, until_ms, awaits), post), draft


def ended(case: Case, row: StepRow, message: ChildEnded) -> list[Fact]:
    """The other run is over."""
    run, failure = case.run.run, message.failure
    if failure is None:
        fact = StepCompleted(run, row.step, row.name, NAME, 0, 0, message.result, case.now_ms, False)
        return close_step(case, *complete(case, Draft.of(case.run), fact))
    failed = StepFailed(
        run, row.step, row.name, NAME, 0, 0, failure.name, failure.message, failure.stack, case.now_ms, False,
        failure.more,
    )  # fmt: skip
    return close_step(case, *fail_step(Draft.of(case.run), failed))


def times_out(case: Case, row: StepRow) -> list[Fact]:
    """The time is over: the step has failed, whatever becomes of the other run."""
    more = more_of({"error": f"{INVOKE_TIMEOUT}: {TIMED_OUT}"})
    failed = StepFailed(
        case.run.run, row.step, row.name, NAME, 0, 0, INVOKE_TIMEOUT, TIMED_OUT, "", case.now_ms, False, more
    )
    return close_step(case, *fail_step(Draft.of(case.run), failed))


def withdraw(tables: Tables, run: RunRow, row: StepRow, fact: RunEnd) -> list[Fact]:
    """The run ends while it waits: where it is cancelled, so is the other one."""
    awaits = _awaits(row)
    if not isinstance(fact, RunCancelled) or awaits.is_detached:
        return []
    reason = f"run {run.run} of {run.function}, which had invoked it, was cancelled"
    return [Post(lane_of(awaits.run, tables.place.lanes), CancelRun(awaits.run, reason))]


def _awaits(row: StepRow) -> AwaitedRun:
    assert isinstance(row.awaits, AwaitedRun), f"step {row.step} of run {row.run} does not wait for a run"
    return row.awaits


KIND = StepKind(
    name=NAME,
    finds={InvokeFound: found},
    hears={ChildEnded: ended},
    times_out=times_out,
    withdraws=withdraw,
    hands={Hand.WAITING: timers.WAIT},
)
