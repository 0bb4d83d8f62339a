"""A step is resolved: it has its result, or has failed for good. Recorded once, and never changed.

StepCompleted, StepFailed ─> the step's row is DONE or FAILED, numbered in the order of resolution
                             and the body is handed out again (``discover``), or looks again when it answers
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from millstream.core.handles import Handles
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.ending import fail
from millstream.core.runs.hands import DONE, FAILED, IDLE, OUT, QUEUED, leave_hand, may_execute, open_run
from millstream.core.step_kinds import kind_of
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.effects import Effect, Execute
from millstream.model.facts import Fact, StepCompleted, StepFailed, StepHeld, with_discovery
from millstream.model.operations import Failure, failure_json
from millstream.model.rows import Hand, RunRow, StepRow
from millstream.model.waits.awaited import AwaitedSignal


def complete(case: Case, draft: Draft, fact: StepCompleted) -> Decided:
    """A step's result. Over a limit the step fails instead (``output_too_large``), or the run."""
    size = len(fact.data)
    if size > limits.STEP_OUTPUT_BYTES_MAX:
        return give_up(
            case,
            draft,
            StepFailed(
                fact.run, fact.step, fact.name, fact.kind, fact.attempt, fact.dispatch, "output_too_large",
                f"the result of step {fact.name or fact.step!r} was refused: at most {limits.STEP_OUTPUT_BYTES_MAX} "
                f"bytes, got {size}. Store it elsewhere and return a reference.",
                "", fact.started_at_ms, False,
            ),
        )  # fmt: skip
    held = draft.bytes + size
    if held > limits.RUN_STATE_BYTES_MAX:
        return too_much_state(case, draft, fact.step, held)
    return (fact,), replace(draft, resolved=True, bytes=held)


def too_much_state(case: Case, draft: Draft, step: str, held: int) -> Decided:
    """The run ends: with this step it would hold more than any may."""
    message = (
        f"the run was ended at step {step!r}: the results of a run's steps may have "
        f"{limits.RUN_STATE_BYTES_MAX} bytes together, got {held}. Return references instead of payloads."
    )
    return fail(case, draft, Failure("InngestErrStateOverflowed", message))


def is_completed(decided: Decided) -> bool:
    """Whether ``complete`` recorded the result."""
    facts, _ = decided
    return isinstance(facts[0], StepCompleted)


def give_up(case: Case, draft: Draft, fact: StepFailed, *, is_final: bool = False) -> Decided:
    """No attempt of the step is left: it has failed; or, where its function says so, it is held for an operator.

    ``is_final``  it would end the same whoever tries it again.
    """
    if is_final or not case.holds or Hand.HELD not in kind_of(fact.kind).hands:
        return fail_step(draft, fact)
    row = case.step(fact.step)
    if row is not None and row.hand == Hand.HELD:
        return (), draft  # A late success whose result is too large: it is held already.
    held = StepHeld(
        fact.run, fact.step, fact.name, fact.kind, fact.attempt, fact.dispatch, fact.error_name, fact.error_message,
        fact.error_stack, fact.started_at_ms, fact.error_more,
    )  # fmt: skip
    return (held,), draft


def fail_step(draft: Draft, fact: StepFailed) -> Decided:
    """A step failed for good, and the body is told."""
    return (fact,), replace(draft, resolved=True)


def discovering(facts: Sequence[Fact]) -> list[Fact]:
    """The decision with which the body is handed out again: its last resolved step says so."""
    for at in range(len(facts) - 1, -1, -1):
        fact = facts[at]
        if isinstance(fact, StepCompleted | StepFailed):
            return [*facts[:at], with_discovery(fact), *facts[at + 1 :]]
    raise AssertionError("no step was resolved by this decision")


# --- fold -----------------------------------------------------------------------------------------


def step_completed(tables: Tables, f: StepCompleted, at_ms: int) -> Sequence[Effect]:
    """A step has its result."""
    run = open_run(tables, f.run)
    return _reported(tables, run, f, hand=DONE, data=f.data)


def step_failed(tables: Tables, f: StepFailed, at_ms: int) -> Sequence[Effect]:
    """A step failed for good."""
    run = open_run(tables, f.run)
    data = failure_json(f.error_name, f.error_message, f.error_stack, f.error_more)
    return _reported(tables, run, f, hand=FAILED, data=data)


def _reported(
    tables: Tables, run: RunRow, f: StepCompleted | StepFailed, *, hand: int, data: bytes
) -> Sequence[Effect]:
    held = tables.steps.get((f.run, f.step)) if f.step in run.steps else None
    awaits = held.awaits if held is not None else None
    if awaits is not None and not (isinstance(awaits, AwaitedSignal) and awaits.came):
        awaits = None
    row = replace(
        held or StepRow(f.run, f.step, f.name, f.kind, hand),
        name=f.name, kind=f.kind, hand=hand, attempt=f.attempt, dispatch=f.dispatch, lost=0, order=run.resolved + 1,
        data=data, wake_at_ms=0, awaits=awaits,
    )  # fmt: skip
    return resolve(tables, run, held, row, discover=f.discover)


def resolve(tables: Tables, run: RunRow, held: StepRow | None, row: StepRow, *, discover: bool) -> Sequence[Effect]:
    """Store a step that is done or failed, and see to the body: answered, handed out again, or to look again.

    ``held`` is the step's row before; None: the run did not know it.
    """
    key = (row.run, row.step)
    effects: list[Effect] = []
    steps, pending, bytes = run.steps, run.pending, run.bytes + len(row.data)
    if held is None:
        steps = (*steps, row.step)
        tables.steps.add(key, row)
    else:
        assert held.hand != DONE and held.hand != FAILED, f"step {row.step} of run {row.run} was resolved twice"
        pending -= 1
        bytes -= len(held.data)
        if held.hand != OUT:
            effects = leave_hand(tables, run, held)
        tables.steps.put(key, row)
    body, attempt, lost = run.body, run.attempt, run.lost
    if body == OUT and row.dispatch == run.body_dispatch:
        body, attempt, lost = IDLE, 0, 0
    again = not discover and not (run.joint and body == IDLE)  # A joint body that is idle waits for the others.
    body_dispatch, dispatch = run.body_dispatch, run.dispatch
    if discover and run.flow is not None and not may_execute(run.flow):
        body = QUEUED
    elif discover:
        body, body_dispatch, dispatch = OUT, dispatch + 1, dispatch + 1
        effects.append(Execute(run.run, run.function, "", attempt, dispatch))
    changed = replace(
        run, body=body, body_dispatch=body_dispatch, dispatch=dispatch, attempt=attempt, lost=lost,
        again=again, pending=pending, resolved=row.order, steps=steps, bytes=bytes,
    )  # fmt: skip
    tables.runs.put(run.run, changed)
    return effects


HANDLES = Handles(facts={StepCompleted: step_completed, StepFailed: step_failed})
