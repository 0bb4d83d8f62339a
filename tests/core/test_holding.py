"""``on_exhausted="hold"``: what has failed for good waits for an operator, who resumes it or lets it fail."""

from __future__ import annotations

import json

import msgspec
import pytest

from millstream.core.owed import owed
from millstream.model import limits
from millstream.model.commands import FireTimer, LoseDispatch, Report
from millstream.model.facts import (
    BodyHeld,
    Fact,
    HeldResumed,
    RequestAnswered,
    RunCancelled,
    RunCompleted,
    RunFailed,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    StepHeld,
)
from millstream.model.function import FAIL, HOLD, FunctionSpec
from millstream.model.ids import ulid
from millstream.model.operations import BodyDone, BodyErrored, Operation, RetryPolicy
from millstream.model.rows import Hand
from millstream.model.run_requests import CancelRun, FailRun, ResumeRun
from tests.core.harness import Harness, folded
from tests.core.values import (
    BOOM,
    HOUR_MS,
    START_MS,
    accept,
    app,
    body_errored,
    done,
    errored,
    event,
    found,
    function,
    report,
    see,
)

HOLDING: FunctionSpec = msgspec.structs.replace(
    function("shop-f", "order/placed", retries=1), on_exhausted=HOLD, finish_ms=HOUR_MS
)
GONE = errored("a", retriable=False)


@pytest.fixture
def harness() -> Harness:
    harness = Harness()
    harness.do(see(app(HOLDING)))
    harness.do(accept(event()))
    return harness


def tell(harness: Harness, *operations: Operation, step: str = "") -> list[Fact]:
    effect = harness.out(step)
    return harness.do(report(effect.run, effect.dispatch, *operations, step=step, attempt=effect.attempt))


def ask(harness: Harness, kind: type[ResumeRun] | type[FailRun], number: int = 1) -> str:
    """What the operator is answered."""
    (*_, answered) = harness.do(kind(harness.run.run, ulid(START_MS, number.to_bytes(10, "big")), 0))
    assert isinstance(answered, RequestAnswered)
    return str(json.loads(answered.reply)["status"])


def resume(harness: Harness) -> list[Fact]:
    return harness.do(ResumeRun(harness.run.run))


def let_fail(harness: Harness) -> list[Fact]:
    return harness.do(FailRun(harness.run.run))


def retry(harness: Harness) -> None:
    timer = harness.armed("retry")
    harness.do(FireTimer(timer.at_ms, timer.kind, timer.id, timer.step), timer.at_ms)


def test_a_step_without_attempts_left_is_held_and_resumed_with_a_fresh_set(harness: Harness) -> None:
    tell(harness, errored("a"))
    retry(harness)
    (held,) = tell(harness, errored("a"), step="a")
    assert isinstance(held, StepHeld) and (held.attempt, held.error_message) == (1, "boom")
    assert harness.step("a").hand == Hand.HELD and harness.run.body == Hand.IDLE
    assert [type(effect).__name__ for effect in owed(harness.tables)] == ["Arm"], (
        "only the time by which it must be over"
    )
    assert resume(harness) == [HeldResumed(harness.run.run, "a")]
    assert harness.out("a").attempt == 0 and not harness.tables.held.scan(limit=1)
    (again,) = tell(harness, errored("a"), step="a")
    assert isinstance(again, StepAttemptFailed)
    retry(harness)
    (finished,) = tell(harness, done("a"), step="a")
    assert isinstance(finished, StepCompleted) and harness.out().dispatch > 1


def test_what_is_not_retriable_is_held_as_well(harness: Harness) -> None:
    assert isinstance(tell(harness, GONE)[0], StepHeld)


def test_a_step_with_a_policy_of_its_own_is_held_once_that_is_used_up(harness: Harness) -> None:
    (held,) = tell(harness, errored("a", retry=RetryPolicy(retries=0)))
    assert isinstance(held, StepHeld)


def test_an_operator_lets_a_step_fail_and_the_body_may_catch_it(harness: Harness) -> None:
    tell(harness, GONE)
    (failed,) = let_fail(harness)
    assert isinstance(failed, StepFailed) and failed.error_message == "boom" and failed.discover
    assert harness.step("a").hand == Hand.FAILED
    (ended,) = tell(harness, BodyDone(b'"caught"'))
    assert isinstance(ended, RunCompleted)


def test_the_step_error_that_a_body_lets_through_is_not_held_again(harness: Harness) -> None:
    tell(harness, GONE)
    let_fail(harness)
    (ended,) = tell(harness, BodyErrored(BOOM, retriable=False, is_final=True))
    assert isinstance(ended, RunFailed)


def test_a_step_that_its_own_body_has_cancelled_fails(harness: Harness) -> None:
    (failed,) = tell(harness, msgspec.structs.replace(GONE, is_final=True))
    assert isinstance(failed, StepFailed)


def test_a_body_is_held_and_resumed_and_its_steps_are_kept(harness: Harness) -> None:
    facts = tell(harness, done("a"), body_errored(retriable=False))
    assert [type(fact) for fact in facts] == [StepCompleted, BodyHeld]
    assert harness.run.body == Hand.HELD
    assert resume(harness) == [HeldResumed(harness.run.run, "")]
    assert harness.out().attempt == 0 and harness.step("a").hand == Hand.DONE
    tell(harness, body_errored())
    retry(harness)
    assert isinstance(tell(harness, body_errored())[0], BodyHeld)
    (ended,) = let_fail(harness)
    assert isinstance(ended, RunFailed) and (ended.attempt, ended.error_message) == (1, "boom")
    assert not harness.runs and not harness.tables.held.scan(limit=1)


def test_what_kills_its_workers_is_held(harness: Harness) -> None:
    for lost in range(limits.DISPATCHES_LOST_MAX + 1):
        out = harness.out()
        facts = harness.do(LoseDispatch(out.run, "", out.dispatch))
        if 0 < lost < limits.DISPATCHES_LOST_MAX:
            retry(harness)
    assert isinstance(facts[0], BodyHeld) and facts[0].error_name == "WorkerLost"
    resume(harness)
    assert harness.run.lost == 0


def test_other_steps_go_on_beside_one_that_is_held(harness: Harness) -> None:
    tell(harness, found("a"), found("b"), found("c"))
    tell(harness, GONE, step="a")
    tell(harness, errored("b", retriable=False), step="b")
    tell(harness, done("c"), step="c")
    assert harness.run.body == Hand.OUT, "the body is told of c"
    tell(harness)
    assert [row.step for _, row in harness.tables.held.scan(limit=9)] == ["a", "b"]
    facts = let_fail(harness)
    assert [(type(fact), fact.step) for fact in facts] == [(StepFailed, "a"), (StepFailed, "b")]  # type: ignore[union-attr]
    assert harness.run.body == Hand.OUT and harness.run.pending == 0


def test_all_that_is_held_of_a_run_is_resumed_together(harness: Harness) -> None:
    tell(harness, found("a"), found("b"))
    tell(harness, GONE, step="a")
    tell(harness, errored("b", retriable=False), step="b")
    assert resume(harness) == [HeldResumed(harness.run.run, "a"), HeldResumed(harness.run.run, "b")]


def test_a_late_success_of_the_attempt_that_was_thought_lost_ends_the_hold(harness: Harness) -> None:
    tell(harness, found("a"), found("b"))
    out = harness.out("a")
    late = Report(out.run, "a", 0, out.dispatch, (done("a"),))
    for lost in range(limits.DISPATCHES_LOST_MAX + 1):
        harness.do(LoseDispatch(out.run, "a", harness.out("a").dispatch))
        if 0 < lost < limits.DISPATCHES_LOST_MAX:
            retry(harness)
    assert harness.step("a").hand == Hand.HELD
    (finished,) = harness.do(late)
    assert isinstance(finished, StepCompleted) and not harness.tables.held.scan(limit=1)


def test_late_failures_and_repeated_requests_change_nothing(harness: Harness) -> None:
    failed = Report(harness.run.run, "", 0, 1, (GONE,))
    harness.do(failed)
    assert harness.do(failed) == []
    assert ask(harness, ResumeRun) == "resumed"
    facts = harness.do(ResumeRun(harness.run.run, ulid(START_MS, (1).to_bytes(10, "big")), 0))
    assert [type(fact) for fact in facts] == [RequestAnswered], "the same answer, and nothing is handed out again"
    assert harness.do(failed) == []
    assert ask(harness, ResumeRun, 2) == "not_held"
    assert ask(harness, FailRun, 3) == "not_held"
    gone = HOLDING.slug.join("01")
    (answered,) = harness.do(FailRun(gone, ulid(START_MS, (4).to_bytes(10, "big")), 0))
    assert isinstance(answered, RequestAnswered) and json.loads(answered.reply)["status"] == "not_open"


def test_a_held_run_is_cancelled_and_timed_out_like_any_other(harness: Harness) -> None:
    tell(harness, GONE)
    (ended,) = harness.do(CancelRun(harness.run.run, "tests"))
    assert isinstance(ended, RunCancelled) and not harness.tables.held.scan(limit=1)
    harness.do(accept(event(2), offset=2))
    tell(harness, body_errored(retriable=False))
    timer = harness.armed("finish")
    (ended,) = harness.do(FireTimer(timer.at_ms, timer.kind, timer.id, timer.step), timer.at_ms)
    assert isinstance(ended, RunCancelled) and not harness.tables.held.scan(limit=1)


def test_a_function_that_holds_no_more_leaves_what_is_held_to_the_operator(harness: Harness) -> None:
    tell(harness, GONE)
    harness.do(see(app(msgspec.structs.replace(HOLDING, on_exhausted=FAIL)), offset=1))
    assert harness.step("a").hand == Hand.HELD
    resume(harness)
    assert isinstance(tell(harness, GONE, step="a")[0], StepFailed)


def test_a_restore_knows_what_is_held(harness: Harness) -> None:
    tell(harness, GONE)
    again = folded(harness.journal, harness.tables.place)
    assert again.held.scan(limit=9) == harness.tables.held.scan(limit=9) != []
