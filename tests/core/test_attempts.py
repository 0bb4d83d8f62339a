"""What fails is tried again: delays, limits, lost workers, code that is not there."""

from __future__ import annotations

import pytest

from millstream.core.runs.retry import lost_retry_at_ms, retry_at_ms
from millstream.model import limits
from millstream.model.commands import FireTimer, LoseDispatch, ParkDispatch, Report, Unpark
from millstream.model.effects import CodeWanted
from millstream.model.facts import (
    BodyAttemptFailed,
    DispatchLost,
    DispatchParked,
    DispatchUnparked,
    Fact,
    RetryDue,
    RunFailed,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    StepPlanned,
)
from millstream.model.function import DEFAULT_BACKOFF
from millstream.model.operations import BodyDone, Operation, RetryPolicy
from millstream.model.place import Place
from millstream.model.rows import Hand
from tests.core.harness import Harness
from tests.core.values import (
    PLACE,
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

TABLE_S = (15, 30, 60, 120, 300, 600, 1_200, 2_400, 3_600, 7_200, 7_200, 7_200)


@pytest.fixture
def harness() -> Harness:
    harness = Harness()
    harness.do(see(app(function("shop-f", "order/placed", retries=2))))
    harness.do(accept(event()))
    return harness


def tell(harness: Harness, *operations: Operation, step: str = "") -> Report:
    effect = harness.out(step)
    return report(effect.run, effect.dispatch, *operations, step=step, attempt=effect.attempt)


def fire(harness: Harness) -> list[Fact]:
    timer = harness.armed("retry")
    return harness.do(FireTimer(timer.at_ms, timer.kind, timer.id, timer.step), timer.at_ms)


def lose(harness: Harness, step: str = "") -> list[Fact]:
    effect = harness.out(step)
    return harness.do(LoseDispatch(effect.run, effect.step, effect.dispatch))


def test_a_failed_step_is_tried_again_after_its_delay_until_its_retries_are_used_up(harness: Harness) -> None:
    harness.do(tell(harness, errored("a")))
    assert harness.armed().at_ms == START_MS + 1_000
    assert fire(harness) == [RetryDue(harness.run.run, "a")]
    assert harness.out("a").attempt == 1
    harness.do(tell(harness, errored("a"), step="a"))
    assert harness.armed().at_ms == START_MS + 1_000 + 5_000
    fire(harness)
    (fact,) = harness.do(tell(harness, errored("a"), step="a"))
    assert isinstance(fact, StepFailed) and fact.attempt == 2 and fact.error_message == "boom"
    assert harness.out().dispatch == 4, "the body sees the failed step and may catch it"
    harness.do(tell(harness, BodyDone(b'"caught"')))
    assert not harness.runs


def test_a_body_that_raises_is_tried_again_and_its_steps_are_kept(harness: Harness) -> None:
    facts = harness.do(tell(harness, done("a"), body_errored()))
    assert [type(fact) for fact in facts] == [StepCompleted, BodyAttemptFailed]
    fire(harness)
    assert harness.out().attempt == 1 and harness.step("a").hand == Hand.DONE
    harness.do(tell(harness, body_errored()))
    fire(harness)
    (fact,) = harness.do(tell(harness, body_errored()))
    assert isinstance(fact, RunFailed) and fact.attempt == 2
    assert not harness.runs


def test_progress_gives_the_body_all_its_attempts_back(harness: Harness) -> None:
    harness.do(tell(harness, body_errored()))
    fire(harness)
    harness.do(tell(harness, done("a")))
    assert harness.out().attempt == 0


def test_what_cannot_be_retried_fails_at_once(harness: Harness) -> None:
    (fact,) = harness.do(tell(harness, errored("a", retriable=False)))
    assert isinstance(fact, StepFailed) and fact.attempt == 0
    (fact,) = harness.do(tell(harness, body_errored(retriable=False)))
    assert isinstance(fact, RunFailed)


def test_a_step_with_a_policy_of_its_own_is_tried_again_as_that_says(harness: Harness) -> None:
    own = RetryPolicy(retries=3, delays_ms=(7_000, 9_000))
    for due_ms in (7_000, 16_000, 25_000):
        harness.do(tell(harness, errored("a", retry=own), step="a" if harness.run.pending else ""))
        assert harness.armed().at_ms == START_MS + due_ms
        fire(harness)
    (fact,) = harness.do(tell(harness, errored("a", retry=own), step="a"))
    assert isinstance(fact, StepFailed) and fact.attempt == 3


def test_what_a_policy_leaves_open_the_function_says(harness: Harness) -> None:
    harness.do(tell(harness, errored("a", retry=RetryPolicy())))
    assert harness.armed().at_ms == START_MS + 1_000
    fire(harness)
    harness.do(tell(harness, errored("a", retry=RetryPolicy(delays_ms=(60_000,))), step="a"))
    assert harness.armed().at_ms == START_MS + 1_000 + 60_000
    fire(harness)
    (fact,) = harness.do(tell(harness, errored("a", retry=RetryPolicy()), step="a"))
    assert isinstance(fact, StepFailed) and fact.attempt == 2


def test_the_delays_of_a_policy_have_its_jitter(harness: Harness) -> None:
    (fact,) = harness.do(tell(harness, errored("a", retry=RetryPolicy(9, (1_000,), 1_000_000))))
    assert isinstance(fact, StepAttemptFailed) and START_MS + 1_000 < fact.retry_at_ms <= START_MS + 1_001_000


def test_a_lost_hand_out_uses_no_attempt_of_a_policy(harness: Harness) -> None:
    harness.do(tell(harness, errored("a", retry=RetryPolicy(1, (1_000,)))))
    fire(harness)
    lose(harness, "a")
    (fact,) = harness.do(tell(harness, done("a"), step="a"))
    assert isinstance(fact, StepCompleted) and fact.attempt == 1


@pytest.mark.parametrize(("asked_ms", "kept_ms"), [(0, 1_000), (7_000, 7_000), (limits.DAY_MS + 1, limits.DAY_MS)])
def test_a_delay_that_code_asks_for_is_kept_between_a_second_and_a_day(
    harness: Harness, asked_ms: int, kept_ms: int
) -> None:
    (fact,) = harness.do(tell(harness, errored("a", after_ms=asked_ms)))
    assert isinstance(fact, StepAttemptFailed) and fact.retry_at_ms == START_MS + kept_ms


@pytest.mark.parametrize("attempt", range(len(TABLE_S)))
def test_the_default_delays_follow_the_table_with_up_to_30_seconds_of_jitter(attempt: int) -> None:
    def delay_ms(run: str) -> int:
        return retry_at_ms(PLACE, DEFAULT_BACKOFF, run, "a", attempt, now_ms=0, after_ms=-1)

    least_ms = TABLE_S[attempt] * 1_000
    delays = {delay_ms(f"run{n}") for n in range(50)}
    assert all(least_ms <= delay <= least_ms + DEFAULT_BACKOFF.jitter_ms for delay in delays)
    assert len(delays) > 40, "runs that fail together do not come back together"
    assert delay_ms("run1") == delay_ms("run1"), "the same decision made again gives the same time"


def test_a_retry_interval_of_the_group_replaces_the_table() -> None:
    place = Place("shop", 0, 1, retry_interval_ms=250)
    assert retry_at_ms(place, DEFAULT_BACKOFF, "r", "a", 3, now_ms=0, after_ms=-1) == 250


def test_a_lost_dispatch_is_handed_out_again_and_uses_no_attempt(harness: Harness) -> None:
    lost = harness.out()
    assert lose(harness) == [DispatchLost(lost.run, "", 1, 1, 0)]
    assert (harness.out().dispatch, harness.out().attempt) == (2, 0)
    assert harness.do(LoseDispatch(lost.run, "", 1)) == [], "it was lost once"


def test_a_dispatch_lost_again_waits_longer_each_time() -> None:
    delays = [lost_retry_at_ms(lost, 1_000_000) for lost in range(1, 7)]
    assert delays == [0, 1_001_000, 1_005_000, 1_015_000, 1_060_000, 1_060_000]


def test_a_body_that_kills_its_workers_fails_the_run_as_worker_lost(harness: Harness) -> None:
    for lost in range(limits.DISPATCHES_LOST_MAX):
        lose(harness)
        if lost:
            fire(harness)
    (fact,) = lose(harness)
    assert isinstance(fact, RunFailed) and fact.error_name == "WorkerLost"
    assert not harness.runs


def test_a_step_that_kills_its_workers_fails_as_worker_lost_and_the_body_may_catch_it(harness: Harness) -> None:
    harness.do(tell(harness, found("a"), found("b")))
    for lost in range(limits.DISPATCHES_LOST_MAX):
        lose(harness, "a")
        if lost:
            fire(harness)
    (fact,) = lose(harness, "a")
    assert isinstance(fact, StepFailed) and fact.error_name == "WorkerLost" and fact.attempt == 0
    assert harness.run.body == Hand.OUT


@pytest.mark.parametrize(("reason", "given_back"), [("", False), ("", True), ("its code has changed", False)])
@pytest.mark.parametrize("step", ["", "a"])
def test_a_dispatch_without_code_or_given_back_is_parked_until_there_is_some(
    harness: Harness, step: str, reason: str, given_back: bool
) -> None:
    if step:
        harness.do(tell(harness, found("a"), found("b")))
    out = harness.out(step)
    command = ParkDispatch(out.run, step, out.dispatch, reason, given_back)
    assert harness.do(command) == [DispatchParked(out.run, step, "shop-f", out.dispatch, reason, given_back)]
    assert harness.do(command) == []
    assert CodeWanted(out.run, "shop-f", step, out.dispatch) in harness.outstanding
    assert harness.do(Unpark(out.run, step, out.dispatch + 9)) == []
    assert harness.do(Unpark(out.run, step, out.dispatch)) == [DispatchUnparked(out.run, step, "shop-f")]
    assert harness.out(step).dispatch > out.dispatch and harness.out(step).attempt == 0


def test_a_parked_step_takes_a_late_success(harness: Harness) -> None:
    harness.do(tell(harness, found("a"), found("b")))
    late = tell(harness, done("a"), step="a")
    harness.do(ParkDispatch(late.run, "a", late.dispatch))
    (fact,) = harness.do(late)
    assert isinstance(fact, StepCompleted)


def test_a_body_that_lives_on_may_bring_more_under_the_number_it_answered(harness: Harness) -> None:
    answer = tell(harness, found("a"), found("b"))
    harness.do(answer)
    more = report(answer.run, answer.dispatch, found("c"))
    (planned,) = harness.do(more)
    assert isinstance(planned, StepPlanned) and planned.step == "c"
    assert harness.out("c").dispatch > harness.out("b").dispatch
    assert harness.do(more) == [], "told twice"


def test_what_a_body_brings_late_counts_only_under_its_last_number(harness: Harness) -> None:
    answer = tell(harness, found("a"), found("b"))
    harness.do(answer)
    harness.do(tell(harness, done("a"), step="a"))
    assert harness.out("").dispatch > answer.dispatch, "it is out again, and will be asked then"
    assert harness.do(report(answer.run, answer.dispatch, found("c"))) == []


def test_an_exception_under_a_number_that_was_answered_counts_for_nothing(harness: Harness) -> None:
    answer = tell(harness, found("a"), found("b"))
    harness.do(answer)
    assert harness.do(report(answer.run, answer.dispatch, body_errored())) == []
    assert harness.do(report(answer.run, answer.dispatch, BodyDone(b"1"))) == []


def test_a_step_that_the_body_ran_at_once_is_tried_again_on_its_own(harness: Harness) -> None:
    (failed,) = harness.do(tell(harness, errored("a")))
    assert isinstance(failed, StepAttemptFailed) and harness.run.body == Hand.IDLE
    fire(harness)
    again = harness.out("a")
    assert (again.step, again.attempt) == ("a", 1)
    (completed,) = harness.do(tell(harness, done("a"), step="a"))
    assert isinstance(completed, StepCompleted) and completed.attempt == 1
    assert harness.out().attempt == 0, "the body goes on, in its first attempt"


def test_a_step_that_the_body_ran_at_once_and_that_failed_for_good_lets_the_body_go_on(harness: Harness) -> None:
    (failed,) = harness.do(tell(harness, errored("a", retriable=False)))
    assert isinstance(failed, StepFailed) and failed.discover
    assert harness.step("a").hand == Hand.FAILED
    harness.do(tell(harness, done("compensate")))
    harness.do(tell(harness, BodyDone(b"1")))
    assert not harness.runs
