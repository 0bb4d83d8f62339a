"""What executors report: the one place where a report meets the state of its run.

A report answers a dispatch. It counts when that dispatch is still out; otherwise it is **late**: its worker was thought
dead, or answered twice. A late success of an attempt that is still awaited is taken, since the work was done; a late
failure never is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from millstream.core.handles import Handler, Handles
from millstream.core.runs import bodies
from millstream.core.runs.closing import close_body, close_step
from millstream.core.runs.deciding import Case, Decided, Draft, Fate, is_resolved
from millstream.core.runs.ending import fail, refuse_about_run
from millstream.core.step_kinds import ANSWERS, COUNTS_LATE, FINDS
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.commands import AwaitEvent, AwaitSignal, InvokeFunction, Report
from millstream.model.facts import Fact, JointFound, Post
from millstream.model.gates.messages import AdmitStart
from millstream.model.operations import BodyDone, BodyErrored, Failure, Operation, StepErrored
from millstream.model.rows import Hand, StepRow

BEGINNINGS: Final = (AwaitEvent, AwaitSignal, InvokeFunction, AdmitStart)
"""Messages with which a wait begins. One that is found in the answer that ends its run has not begun."""
STEP_NOT_REPORTED: Final = "StepNotReported"
# ``Any`` because each function takes its own operation; the keys say which.
BODY: Final[dict[type, Callable[[Case, Draft, Any], Decided]]] = {
    BodyDone: bodies.done,
    BodyErrored: bodies.errored,
}


def report(tables: Tables, command: Report, now_ms: int) -> list[Fact]:
    """Decide about a report."""
    run = tables.runs.get(command.run)
    if run is None:
        return []  # A late answer to a run that is already over.
    if not 0 < command.dispatch <= run.dispatch:
        return []  # It was never handed out.
    case = Case(tables, run, command.dispatch, now_ms)
    if command.step:
        return _of_step(case, command)
    if run.body != Hand.OUT or run.body_dispatch != command.dispatch:
        return _late_body(case, command)
    joint: Sequence[Fact] = ()
    if command.joint is not None and command.joint != run.joint:
        joint = (JointFound(run.run, command.joint),)
        case = replace(case, run=replace(run, joint=command.joint))
    facts: Sequence[Fact]
    facts, draft = _walk(case, command.operations)
    if not facts and not draft.look_again and not run.pending:
        facts, draft = bodies.nothing_reported(case, draft)
    if draft.fate is Fate.ENDED:
        facts = [fact for fact in facts if not (type(fact) is Post and isinstance(fact.message, BEGINNINGS))]
        return close_body(case, facts, draft)
    return [*joint, *close_body(case, facts, draft)]


def _of_step(case: Case, command: Report) -> list[Fact]:
    row = case.step(command.step)
    if row is None or is_resolved(row):
        return []  # Another report was quicker.
    if command.dispatch == case.run.body_dispatch:
        return []  # That number is the body's: a fact with it would answer the body.
    late = row.hand != Hand.OUT or row.dispatch != command.dispatch
    if late and row.attempt != command.attempt:
        return []  # The attempt it speaks of is over.
    taken = COUNTS_LATE if late else ANSWERS
    facts: Sequence[Fact]
    facts, draft = _walk(case, [op for op in command.operations if type(op) in taken and _step_of(op) == row.step])
    if not late and not facts:
        facts, draft = decide_operation(case, draft, _unspoken(command, row, case.now_ms))
    return close_step(case, facts, draft)


def _late_body(case: Case, command: Report) -> list[Fact]:
    """Of an answer that comes too late, what was done counts; of a body that goes on living, what it finds later."""
    run = case.run
    awaited = run.attempt == command.attempt
    lives = run.body == Hand.IDLE and run.body_dispatch == command.dispatch
    counts = [op for op in command.operations if (awaited and type(op) in COUNTS_LATE) or (lives and type(op) in FINDS)]
    return close_step(case, *_walk(case, counts))


def _walk(case: Case, operations: Sequence[Operation]) -> tuple[list[Fact], Draft]:
    """The operations of a report one after another, up to the one that ends the run or restarts its body."""
    facts: list[Fact] = []
    draft = Draft.of(case.run)
    for operation in operations:
        if draft.fate is not Fate.OPEN:
            break
        more, draft = decide_operation(case, draft, operation)
        facts += more
    return facts, draft


def decide_operation(case: Case, draft: Draft, operation: Operation) -> Decided:
    """What one operation leads to, after those that led to the draft."""
    of_body = BODY.get(type(operation))
    if of_body is not None:
        return of_body(case, draft, operation)
    step = _step_of(operation)
    find = FINDS.get(type(operation))
    row = case.step(step)
    if row is None:
        if step in draft.spoken:
            return (), draft
        draft = replace(draft, spoken=(*draft.spoken, step), found=draft.found + 1)
        if len(case.run.steps) + draft.found > limits.STEPS_PER_RUN_MAX:
            return _too_many_steps(case, draft, step)
        if find is not None:
            return find(case, draft, operation)
    elif find is not None:
        return (), draft  # The run knows it already.
    return ANSWERS[type(operation)](case, draft, operation, row)


def _step_of(operation: Operation) -> str:
    """The step that an operation of a step kind is about."""
    step: str = operation.step  # type: ignore[union-attr]
    return step


def _too_many_steps(case: Case, draft: Draft, step: str) -> Decided:
    message = (
        f"the run was ended at step {step!r}: a run may have {limits.STEPS_PER_RUN_MAX} steps and this is one "
        "more. Move part of the work to another function, started with an event."
    )
    return fail(case, draft, Failure("InngestErrFunctionOverflowed", message))


def _unspoken(command: Report, row: StepRow, now_ms: int) -> StepErrored:
    """An answer to a step's dispatch that does not say how the step ended: its attempt has failed.

    The code around the step raised before it was reached, or the executor is at fault. Waiting would be for ever.
    """
    for operation in command.operations:
        if isinstance(operation, BodyErrored):
            return StepErrored(
                row.step, row.name, operation.failure, now_ms, operation.retriable, operation.retry_after_ms,
                is_final=operation.is_final,
            )  # fmt: skip
    message = (
        f"step {row.step!r} was handed out, and the answer did not say how it ended: expected its result or its "
        f"error, got {', '.join(type(o).__name__ for o in command.operations) or 'nothing'}. "
        "Check that the function still has this step."
    )
    return StepErrored(row.step, row.name, Failure(STEP_NOT_REPORTED, message), now_ms)


def refuse(tables: Tables, command: Report, reason: str, now_ms: int) -> list[Fact]:
    """What remains of a report that raised."""
    return refuse_about_run(tables, command.run, "Report", reason, now_ms)


HANDLES = Handles(commands={Report: Handler(report, refuse)})
