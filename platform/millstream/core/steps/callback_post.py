"""``await callback.result()``: the run goes on with what is posted to a callback of its own, or with null at its end.

PostWaitFound   ─> StepCompleted with what was posted before; or WaitStarted, until the callback's time is over
ResolveCallback ─> StepCompleted with the posted body (``core/steps/callback.py``)
timer           ─> StepCompleted with null

The callback's row has the word, not this step: a post that comes before anybody waits is kept there, and one that comes
at the end of its time is too late for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.runs.closing import close_step
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.resolving import complete, fail_step
from millstream.core.step_kinds import StepKind
from millstream.core.tables import Tables
from millstream.model.facts import CallbackUsed, Fact, StepCompleted, StepFailed, WaitStarted
from millstream.model.operations import PostWaitFound
from millstream.model.rows import Hand, StepRow
from millstream.model.waits.awaited import AwaitedCallback, AwaitedPost

NAME: Final = "callback_post"
NOTHING: Final = b"null"
"""The result where nobody has posted in time."""
UNKNOWN: Final = "CallbackUnknown"


def found(case: Case, draft: Draft, op: PostWaitFound) -> Decided:
    """The body wants what is posted."""
    run, held = case.run.run, case.step(op.callback)
    holds = held.awaits if held is not None else None
    if not isinstance(holds, AwaitedPost):
        message = (
            f"step {op.step!r} waits for a post to a callback of step {op.callback!r}: expected one that "
            "ctx.step.callback has made in this run, got none. Await ctx.step.callback(…) first."
        )
        failed = StepFailed(run, op.step, op.name, NAME, 0, case.dispatch, UNKNOWN, message, "", case.now_ms, False)
        return fail_step(draft, failed)
    before: Sequence[Fact] = ()
    if holds.taken_by:
        first = case.step(holds.taken_by)
        assert first is not None, "a step's row lives as long as its run"
        data = first.data
    elif holds.data:
        data = holds.data
        before = (CallbackUsed(run, op.callback, b"", op.step),)
        draft = replace(draft, bytes=draft.bytes - len(data))  # It moves from row to row.
    elif case.now_ms >= holds.until_ms:
        data = NOTHING
    else:
        awaits = AwaitedCallback(op.callback)
        return (WaitStarted(run, op.step, op.name, NAME, case.dispatch, holds.until_ms, awaits),), draft
    done = StepCompleted(run, op.step, op.name, NAME, 0, case.dispatch, data, case.now_ms, False)
    facts, draft = complete(case, draft, done)
    return (*before, *facts), draft


def times_out(case: Case, row: StepRow) -> list[Fact]:
    """The callback's time is over."""
    fact = StepCompleted(case.run.run, row.step, row.name, NAME, 0, 0, NOTHING, case.now_ms, False)
    return close_step(case, *complete(case, Draft.of(case.run), fact))


def problem(tables: Tables, row: StepRow) -> str:
    """What keeps a step that waits from ever being given what was posted; "": nothing."""
    awaits = row.awaits
    held = tables.steps.get((row.run, awaits.callback)) if isinstance(awaits, AwaitedCallback) else None
    if held is None or not isinstance(held.awaits, AwaitedPost):
        return "waits for a post to a callback that is not there"
    return "waits for a post that has come" if held.awaits.is_used else ""


KIND: Final = StepKind(
    name=NAME,
    finds={PostWaitFound: found},
    times_out=times_out,
    hands={Hand.WAITING: timers.WAIT},
    problem=problem,
    timed_out_result=NOTHING,
)
