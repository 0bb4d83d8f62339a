"""What reports lead to: results, parallel steps, sleeps, sends, and answers that come late or twice."""

from __future__ import annotations

import json

import pytest

from millstream.model import limits
from millstream.model.commands import FireTimer, LoseDispatch, Report
from millstream.model.event import Envelope
from millstream.model.facts import (
    DiscoveryAnswered,
    PublishQueued,
    RunCompleted,
    RunFailed,
    SleepEnded,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    StepPlanned,
)
from millstream.model.operations import BodyDone, Operation, PublishFound, SendFound, SleepFound
from millstream.model.rows import Hand
from tests.core.harness import Harness
from tests.core.values import (
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
    sleep,
)


@pytest.fixture
def harness() -> Harness:
    harness = Harness()
    harness.do(see(app(function("shop-f", "order/placed"))))
    harness.do(accept(event()))
    return harness


def tell(harness: Harness, *operations: Operation, step: str = "") -> Report:
    """The report that answers what is out."""
    effect = harness.out(step)
    return report(effect.run, effect.dispatch, *operations, step=step, attempt=effect.attempt)


def fire(harness: Harness, kind: str) -> FireTimer:
    """The only timer of a kind, at its time."""
    timer = harness.armed(kind)
    harness.now_ms = max(harness.now_ms, timer.at_ms)
    return FireTimer(timer.at_ms, timer.kind, timer.id, timer.step)


def test_a_step_done_is_recorded_and_the_body_goes_out_again(harness: Harness) -> None:
    (fact,) = harness.do(tell(harness, done("a", b"7")))
    assert isinstance(fact, StepCompleted) and fact.discover
    assert harness.step("a").data == b"7" and harness.out().dispatch == 2


def test_a_handler_that_returns_ends_its_run(harness: Harness) -> None:
    (fact,) = harness.do(tell(harness, BodyDone(b"7")))
    assert isinstance(fact, RunCompleted) and not harness.runs


def test_a_command_delivered_twice_changes_nothing(harness: Harness) -> None:
    for operations in ((done("a"),), (found("b"), found("c")), ()):
        command = tell(harness, *operations)
        assert harness.do(command)
        assert harness.do(command) == []
        if not operations or operations[0] == done("a"):
            continue
        for step in ("b", "c"):
            command = tell(harness, done(step), step=step)
            assert harness.do(command)
            assert harness.do(command) == []
    command = tell(harness, BodyDone(b"1"))
    assert harness.do(command)
    assert harness.do(command) == []


def test_one_step_told_twice_in_one_report_is_taken_once(harness: Harness) -> None:
    harness.do(tell(harness, found("a"), found("b")))
    assert len(harness.do(tell(harness, done("a"), done("a", b"2"), errored("a"), step="a"))) == 1
    assert harness.step("a").data == b"1"
    harness.do(tell(harness, errored("b"), errored("b", after_ms=9_000), step="b"))
    assert harness.step("b").attempt == 1


def test_parallel_steps_go_out_on_their_own_and_end_in_any_order(harness: Harness) -> None:
    facts = harness.do(tell(harness, found("a"), found("b")))
    assert [type(fact) for fact in facts] == [StepPlanned, StepPlanned]
    assert harness.run.body == Hand.IDLE
    harness.do(tell(harness, done("b"), step="b"))
    assert harness.run.body == Hand.OUT
    harness.do(tell(harness, done("a"), step="a"))
    assert [harness.run.again, harness.out().dispatch] == [True, 4], "the body is out and has not seen step a"
    assert harness.do(tell(harness)) == [DiscoveryAnswered(harness.run.run, 4, True)]
    assert [harness.run.again, harness.out().dispatch] == [False, 5]
    harness.do(tell(harness, BodyDone(b"[1,2]")))
    assert not harness.runs


def test_a_step_found_again_while_it_is_out_is_not_handed_out_twice(harness: Harness) -> None:
    harness.do(tell(harness, found("a"), found("b")))
    harness.do(tell(harness, done("b"), step="b"))
    assert harness.do(tell(harness, found("a"))) == [DiscoveryAnswered(harness.run.run, 4, False)]
    assert harness.run.body == Hand.IDLE and harness.out("a").dispatch == 2


def test_several_operations_of_one_report_are_decided_together(harness: Harness) -> None:
    harness.do(tell(harness, done("a"), found("b"), sleep("c"), errored("d")))
    hands = {step: harness.step(step).hand for step in "abcd"}
    assert hands == {"a": Hand.DONE, "b": Hand.OUT, "c": Hand.SLEEPING, "d": Hand.BACKOFF}
    assert harness.run.body == Hand.OUT


def test_a_late_success_of_the_awaited_attempt_is_taken(harness: Harness) -> None:
    harness.do(tell(harness, found("a"), found("b")))
    late = tell(harness, done("a", b"7"), step="a")
    harness.do(LoseDispatch(late.run, "a", late.dispatch))
    assert harness.out("a").dispatch > late.dispatch
    (fact,) = harness.do(late)
    assert isinstance(fact, StepCompleted) and harness.step("a").data == b"7"


def test_a_late_failure_is_never_taken(harness: Harness) -> None:
    harness.do(tell(harness, found("a"), found("b")))
    late = tell(harness, errored("a"), step="a")
    harness.do(LoseDispatch(late.run, "a", late.dispatch))
    assert harness.do(late) == []


def test_a_late_success_of_an_attempt_that_is_over_is_ignored(harness: Harness) -> None:
    harness.do(tell(harness, found("a"), found("b")))
    late = tell(harness, done("a"), step="a")
    harness.do(tell(harness, errored("a"), step="a"))
    assert harness.do(late) == []


def test_a_late_body_brings_its_steps_and_nothing_else(harness: Harness) -> None:
    late = tell(harness, done("a", b"7"), found("b"), BodyDone(b"1"))
    harness.do(LoseDispatch(late.run, "", late.dispatch))
    (fact,) = harness.do(late)
    assert isinstance(fact, StepCompleted) and not fact.discover
    assert harness.run.again and harness.run.body == Hand.OUT


def test_a_report_of_a_dispatch_that_was_never_made_is_ignored(harness: Harness) -> None:
    run = harness.run.run
    assert harness.do(report(run, 0, done("a"))) == []
    assert harness.do(report(run, 9, done("a"))) == []
    assert harness.do(report(run, 1, done("a"), step="a")) == []


def test_a_step_reported_under_the_bodys_number_does_not_answer_the_body(harness: Harness) -> None:
    harness.do(tell(harness, found("a"), found("b")))
    harness.do(tell(harness, done("b"), step="b"))
    assert harness.do(report(harness.run.run, harness.out().dispatch, done("a"), step="a")) == []
    assert harness.run.body == Hand.OUT


def test_a_body_that_reports_another_failure_of_a_step_in_other_hands_changes_nothing(harness: Harness) -> None:
    harness.do(tell(harness, errored("a"), sleep("b")))
    before = harness.step("a")
    harness.do(fire(harness, "sleep"))
    harness.do(tell(harness, errored("a")))
    assert harness.step("a") == before


def test_an_answer_that_says_nothing_of_its_step_is_a_failed_attempt(harness: Harness) -> None:
    harness.do(tell(harness, found("a"), found("b")))
    (fact,) = harness.do(tell(harness, step="a"))
    assert isinstance(fact, StepAttemptFailed) and fact.error_name == "StepNotReported"
    (fact,) = harness.do(tell(harness, body_errored(retriable=False), step="b"))
    assert isinstance(fact, StepFailed) and fact.error_name == "ValueError"


def test_a_body_that_brings_nothing_while_nothing_is_under_way_is_a_failed_attempt(harness: Harness) -> None:
    harness.do(tell(harness))
    assert harness.run.body == Hand.BACKOFF and harness.run.attempt == 1


def test_a_sleep_ends_at_its_time_and_the_body_goes_on(harness: Harness) -> None:
    harness.do(tell(harness, sleep("nap", 60_000)))
    assert harness.armed("sleep").at_ms == START_MS + 60_000 and harness.run.body == Hand.IDLE
    command = fire(harness, "sleep")
    assert harness.do(command) == [SleepEnded(harness.run.run, "nap", True)]
    assert harness.do(command) == []
    assert harness.step("nap").data == b"null" and harness.out().dispatch == 2


def test_a_sleep_until_a_time_already_past_wakes_at_once(harness: Harness) -> None:
    harness.do(tell(harness, SleepFound("nap", "nap", 0, START_MS - 5_000)))
    assert harness.armed("sleep").at_ms == START_MS - 5_000


def test_nothing_but_its_timer_ends_a_sleep(harness: Harness) -> None:
    harness.do(tell(harness, sleep("nap", 60_000), done("a")))
    harness.do(tell(harness, done("nap"), errored("nap")))
    harness.do(report(harness.run.run, 1, done("nap"), step="nap"))
    assert harness.step("nap").hand == Hand.SLEEPING


def test_a_sleep_that_is_too_long_fails_as_a_step(harness: Harness) -> None:
    (fact,) = harness.do(tell(harness, sleep("nap", limits.SLEEP_MS_MAX + 1)))
    assert isinstance(fact, StepFailed) and fact.error_name == "InngestErrTimeoutTooLong" and fact.discover


def test_sent_events_get_ids_of_their_run_and_step(harness: Harness) -> None:
    drafts = (event(1, "order/paid"), event(2, "order/seen", id="mine"))
    completed, first, second = harness.do(tell(harness, SendFound("tell", "tell", drafts)))
    assert isinstance(completed, StepCompleted)
    assert isinstance(first, PublishQueued) and isinstance(second, PublishQueued)
    assert isinstance(first.event, Envelope) and isinstance(second.event, Envelope)
    assert json.loads(completed.data) == {"ids": [first.event.internal_id, "mine"]}
    assert first.event.id == first.event.internal_id != drafts[0].internal_id
    assert second.event.internal_id != first.event.internal_id
    again = Harness()
    for command in harness.commands[:3]:
        again.do(command)
    assert [fact.event for fact in again.publishes()] == [first.event, second.event]


def test_a_published_record_names_its_run_and_step(harness: Harness) -> None:
    run = harness.run.run
    operation = PublishFound("out", "out", "invoices", b"k", b"v", (("h", b"x"),))
    _, queued = harness.do(tell(harness, operation))
    assert isinstance(queued, PublishQueued) and queued.topic == "invoices"
    assert queued.headers == (("h", b"x"), ("millstream-id", f"{run}/out".encode()))


def test_a_result_that_is_too_large_fails_the_step(harness: Harness) -> None:
    large = b"1" * (limits.STEP_OUTPUT_BYTES_MAX + 1)
    (fact,) = harness.do(tell(harness, done("a", large)))
    assert isinstance(fact, StepFailed) and fact.error_name == "output_too_large"
    (fact,) = harness.do(tell(harness, BodyDone(large)))
    assert isinstance(fact, RunFailed) and fact.error_name == "output_too_large"


def test_refused_results_do_not_count_towards_the_state(harness: Harness) -> None:
    large = b"1" * (limits.STEP_OUTPUT_BYTES_MAX + 1)
    harness.do(tell(harness, *(done(f"s{n}", large) for n in range(9))))
    assert harness.run.resolved == 9


def test_a_run_with_too_much_state_fails_and_publishes_nothing_more(harness: Harness) -> None:
    each = limits.STEP_OUTPUT_BYTES_MAX
    for number in range(limits.RUN_STATE_BYTES_MAX // each):
        harness.do(tell(harness, done(f"s{number}", b"1" * each)))
    (fact,) = harness.do(tell(harness, PublishFound("out", "out", "invoices", b"", b"")))
    assert isinstance(fact, RunFailed) and fact.error_name == "InngestErrStateOverflowed"


def test_a_run_with_too_many_steps_fails(harness: Harness) -> None:
    harness.do(tell(harness, *(done(f"s{n}") for n in range(limits.STEPS_PER_RUN_MAX))))
    (fact,) = harness.do(tell(harness, done("one more")))
    assert isinstance(fact, RunFailed) and fact.error_name == "InngestErrFunctionOverflowed"
    assert not harness.runs
