"""Held: a body or step that has failed for good and waits for an operator (``on_exhausted="hold"``).

    no attempt is left ──StepHeld, BodyHeld──> HELD ──HeldResumed──> OUT, as if it had never been tried
                                                 └──StepFailed, RunFailed──> as without a hold

What a run does beside a held step goes on; a held run is open, and is cancelled or timed out like any other. Only what
trying again may help is held: not a step that its own body has cancelled, nor the StepError of a failed step that the
body lets through, nor what a limit of the run ends.

The operator speaks of the run: whatever is held of it at that moment is meant.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from millstream.core.handles import Handles
from millstream.core.messages import MessageKind
from millstream.core.requests import answer
from millstream.core.runs.closing import close_step
from millstream.core.runs.deciding import Case, Draft
from millstream.core.runs.ending import fail
from millstream.core.runs.hands import (
    HELD,
    add_step,
    answered,
    hand_out_body,
    hand_out_step,
    leave_hand,
    open_run,
    open_step,
    put_run,
    put_step,
)
from millstream.core.runs.resolving import fail_step
from millstream.core.tables import Tables
from millstream.model.effects import Effect
from millstream.model.facts import BodyHeld, Fact, HeldResumed, StepFailed, StepHeld
from millstream.model.operations import Failure
from millstream.model.rows import HeldRow, RunRow, StepRow
from millstream.model.run_requests import FailRun, ResumeRun

RESUMED = "resumed"
FAILED = "failed"
NOT_HELD = "not_held"
NOT_OPEN = "not_open"


def resume(tables: Tables, command: ResumeRun, now_ms: int) -> list[Fact]:
    """Try again what is held of a run."""
    run = tables.runs.get(command.run)
    if run is None:
        return answer(command, {"status": NOT_OPEN, "run": command.run})
    held = _held(tables, run)
    if not held:
        return answer(command, {"status": NOT_HELD, "run": command.run})
    facts: list[Fact] = [HeldResumed(run.run, step) for step in held]
    return [*facts, *answer(command, {"status": RESUMED, "run": command.run})]


def let_fail(tables: Tables, command: FailRun, now_ms: int) -> list[Fact]:
    """Let what is held of a run fail: a held step, so that the body sees its StepError; a held body, and so the run."""
    run = tables.runs.get(command.run)
    if run is None:
        return answer(command, {"status": NOT_OPEN, "run": command.run})
    held = _held(tables, run)
    if not held:
        return answer(command, {"status": NOT_HELD, "run": command.run})
    case, draft = Case(tables, run, 0, now_ms), Draft.of(run)
    facts: list[Fact] = []
    if "" in held:
        error = _row(tables, run, "")
        failure = Failure(error.error_name, error.error_message, error.error_stack, error.error_more)
        ended, _ = fail(case, draft, failure, attempt=run.attempt)
        facts += ended
    else:
        for id in held:
            error, step = _row(tables, run, id), open_step(tables, run.run, id)
            failed = StepFailed(
                run.run, id, step.name, step.kind, step.attempt, step.dispatch, error.error_name, error.error_message,
                error.error_stack, error.held_at_ms, False, error.error_more,
            )  # fmt: skip
            more, draft = fail_step(draft, failed)
            facts += more
        facts = close_step(case, facts, draft)
    return [*facts, *answer(command, {"status": FAILED, "run": command.run})]


def _held(tables: Tables, run: RunRow) -> list[str]:
    """What is held of a run: steps, and "" for its body."""
    found = [""] if run.body == HELD else []
    if run.pending:
        for id in run.steps:
            step = tables.steps.get((run.run, id))
            if step is not None and step.hand == HELD:
                found.append(id)
    return found


def _row(tables: Tables, run: RunRow, step: str) -> HeldRow:
    row = tables.held.get((run.function, run.run, step))
    assert row is not None, f"step {step!r} of run {run.run} is held, but has no row that says so"
    return row


RESUME_RUN = MessageKind(message=ResumeRun, decide=resume)
FAIL_RUN = MessageKind(message=FailRun, decide=let_fail)


# --- fold -----------------------------------------------------------------------------------------


def step_held(tables: Tables, f: StepHeld, at_ms: int) -> Sequence[Effect]:
    """The step waits for an operator."""
    before = open_run(tables, f.run)
    run = answered(before, f.dispatch)
    effects: Sequence[Effect] = ()
    if f.step not in run.steps:
        row = StepRow(f.run, f.step, f.name, f.kind, HELD, f.attempt, f.dispatch)
        add_step(tables, run, row)
    else:
        step = open_step(tables, f.run, f.step)
        effects = leave_hand(tables, run, step)
        put_step(tables, step, name=f.name, hand=HELD, attempt=f.attempt, dispatch=f.dispatch, lost=0, wake_at_ms=0)
        if run is not before:
            tables.runs.put(f.run, run)
    _hold(tables, run, f.step, f, at_ms)
    return effects


def body_held(tables: Tables, f: BodyHeld, at_ms: int) -> Sequence[Effect]:
    """The body waits for an operator."""
    run = open_run(tables, f.run)
    put_run(tables, run, body=HELD, attempt=f.attempt, lost=0)
    _hold(tables, run, "", f, at_ms)
    return ()


def _hold(tables: Tables, run: RunRow, step: str, f: StepHeld | BodyHeld, at_ms: int) -> None:
    row = HeldRow(run.function, run.run, step, at_ms, f.error_name, f.error_message, f.error_stack, f.error_more)
    tables.held.put((run.function, run.run, step), row)


def held_resumed(tables: Tables, f: HeldResumed, at_ms: int) -> Sequence[Effect]:
    """It is handed out again, with a fresh set of attempts."""
    run = open_run(tables, f.run)
    if not f.step:
        return [*leave_hand(tables, run, None), *hand_out_body(tables, run, attempt=0, lost=0)]
    step = open_step(tables, f.run, f.step)
    gone = leave_hand(tables, run, step)
    return [*gone, *hand_out_step(tables, run, replace(step, attempt=0, lost=0))]


HANDLES = Handles(facts={StepHeld: step_held, BodyHeld: body_held, HeldResumed: held_resumed})
