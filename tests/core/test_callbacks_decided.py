"""What is decided about callbacks: one post is taken, in time, whether somebody waits for it or not."""

from __future__ import annotations

import json
from typing import Final

import pytest

from millstream.core.steps import callback as callbacks
from millstream.core.steps import callback_post
from millstream.model import limits
from millstream.model.commands import FireTimer, ResolveCallback
from millstream.model.effects import Answer
from millstream.model.facts import CallbackOpened, StepCompleted
from millstream.model.operations import CallbackFound, PostWaitFound, StepDone, failure_of
from millstream.model.place import Place
from millstream.model.rows import Hand
from millstream.model.run_requests import CancelRun
from millstream.model.waits.awaited import AwaitedPost
from millstream.model.waits.callback_token import PATH, callback_id, mark_of, opened, token_of
from tests.core.harness import Harness
from tests.core.values import HOUR_MS, LANES, PLACE, START_MS, accept, app, done, event, function, report, see

KEY: Final = PLACE.callback_key
LATER: Final = "a later step"


def waiting_for_an_approval(place: Place = PLACE) -> Harness:
    """A run that has asked for a callback of an hour."""
    harness = Harness(place)
    harness.do(see(app(function("shop-order", "order/placed"))))
    harness.do(accept(event()))
    answered(harness, CallbackFound("approve", "approve", HOUR_MS))
    return harness


def answered(harness: Harness, *operations: CallbackFound | PostWaitFound | StepDone) -> None:
    """The body answers."""
    out = harness.out()
    harness.do(report(out.run, out.dispatch, *operations))


def asked(harness: Harness, step: str = "approve/result") -> None:
    """The body wants what is posted."""
    answered(harness, PostWaitFound(step, step, "approve"))


def posted(harness: Harness, data: bytes = b'"yes"', *, request: str = "one", run: str = "") -> str:
    """Somebody posts; what he is told."""
    message = ResolveCallback(run or harness.run.run, mark_of("approve"), data, request, 0)
    told = len(harness.effects)
    harness.do(message)
    (reply,) = (e.reply for e in harness.effects[told:] if isinstance(e, Answer))
    return str(json.loads(reply)["status"])


def timed_out(harness: Harness) -> None:
    """The time of the wait comes."""
    arm = harness.armed("wait")
    harness.do(FireTimer(arm.at_ms, arm.kind, arm.id, arm.step), arm.at_ms)


def test_a_callback_is_done_at_once_and_its_url_is_signed() -> None:
    harness = waiting_for_an_approval()
    row = harness.step("approve")
    result = json.loads(row.data)
    assert row.hand == Hand.DONE
    assert result["id"] == callback_id(row.run, "approve")
    assert result["url"] == f"https://shop.example{PATH}{token_of(KEY, result['id'])}"
    assert opened(KEY, result["url"].rpartition("/")[2]) == (row.run, mark_of("approve"))


def test_nothing_but_one_fact_and_the_row_holds_the_url() -> None:
    harness = waiting_for_an_approval()
    told = [fact for fact, _ in harness.journal if PATH in str(fact)]
    assert [type(fact) for fact in told] == [CallbackOpened]
    assert PATH not in callbacks.without_url(harness.step("approve")).decode()


def one_post_is_taken() -> None:
    harness = waiting_for_an_approval()
    asked(harness)
    assert posted(harness) == "taken"
    assert harness.step("approve/result").data == b'"yes"'
    assert posted(harness, b'"no"', request="two") == "used"
    assert harness.step("approve/result").data == b'"yes"'


def test_one_post_is_taken() -> None:
    one_post_is_taken()


def a_post_that_nobody_waits_for_is_kept() -> None:
    harness = waiting_for_an_approval()
    assert posted(harness) == "taken"
    assert posted(harness, b'"no"', request="two") == "used"
    asked(harness)
    assert harness.step("approve/result").data == b'"yes"'


def test_a_post_that_nobody_waits_for_is_kept_and_lies_there_once() -> None:
    a_post_that_nobody_waits_for_is_kept()
    harness = waiting_for_an_approval()
    posted(harness)
    asked(harness)
    assert harness.step("approve").awaits == AwaitedPost(START_MS + HOUR_MS, b"", "approve/result")


def test_a_request_that_is_repeated_gets_the_same_answer() -> None:
    harness = waiting_for_an_approval()
    assert posted(harness) == posted(harness) == "taken"
    assert posted(harness, request="two") == posted(harness, request="two") == "used"


def a_post_at_the_end_of_the_time_is_too_late() -> None:
    harness = waiting_for_an_approval()
    asked(harness)
    harness.now_ms = START_MS + HOUR_MS
    assert posted(harness) == "expired"
    timed_out(harness)
    assert harness.step("approve/result").data == b"null"


def test_a_post_at_the_end_of_the_time_is_too_late_whether_the_timer_has_fired_or_not() -> None:
    a_post_at_the_end_of_the_time_is_too_late()
    harness = waiting_for_an_approval()
    asked(harness)
    timed_out(harness)
    assert posted(harness) == "expired"


def test_whoever_asks_when_the_time_is_over_gets_nothing_at_once() -> None:
    harness = waiting_for_an_approval()
    harness.now_ms = START_MS + HOUR_MS
    asked(harness)
    assert harness.step("approve/result").data == b"null"


def test_all_who_wait_for_one_callback_have_what_is_posted_now_or_later() -> None:
    harness = waiting_for_an_approval()
    first, second = PostWaitFound("first", "first", "approve"), PostWaitFound("second", "second", "approve")
    answered(harness, first, second)
    assert posted(harness) == "taken"
    asked(harness, LATER)
    assert [harness.step(step).data for step in ("first", "second", LATER)] == [b'"yes"'] * 3


def test_a_callback_of_a_run_that_is_over_or_of_no_step_is_over() -> None:
    harness = waiting_for_an_approval()
    run = harness.run.run
    harness.do(ResolveCallback(run, mark_of("another"), b"1", "zero", 0))
    assert json.loads(next(e.reply for e in harness.effects if isinstance(e, Answer)))["status"] == "over"
    harness.do(CancelRun(run, "enough"))
    assert not harness.runs
    assert posted(harness, run=run) == "over"


def test_a_post_for_which_a_run_has_no_room_is_refused_and_another_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = waiting_for_an_approval()
    monkeypatch.setattr(limits, "RUN_STATE_BYTES_MAX", harness.run.bytes + 10)
    assert posted(harness, b'"%s"' % (b"x" * 20)) == "no_room"
    assert posted(harness, b'"small"', request="two") == "taken"


@pytest.mark.parametrize("place", [Place("shop", 0, LANES), Place("shop", 0, LANES, callback_key=KEY)])
def test_without_an_address_the_step_fails_and_names_the_setting(place: Place) -> None:
    harness = waiting_for_an_approval(place)
    failure = failure_of(harness.step("approve").data)
    assert failure.name == callbacks.NO_URL
    assert "--public-url" in failure.message and "MILLSTREAM_PUBLIC_URL" in failure.message


def test_too_long_a_time_and_a_callback_that_is_not_there_fail_the_step() -> None:
    harness = waiting_for_an_approval()
    answered(harness, CallbackFound("long", "long", limits.WAIT_MS_MAX + 1), PostWaitFound("lost", "lost", "gone"))
    assert failure_of(harness.step("long").data).name == "InngestErrTimeoutTooLong"
    assert failure_of(harness.step("lost").data).name == callback_post.UNKNOWN


def test_a_callback_whose_result_nobody_wants_keeps_no_run_open() -> None:
    harness = waiting_for_an_approval()
    answered(harness, done("mail"))
    assert harness.run.pending == 0
    assert not [key for key, _ in harness.tables.timers.scan(limit=10)]
    assert sum(isinstance(fact, StepCompleted) for fact, _ in harness.journal) == 2


@pytest.mark.parametrize(
    "token", ["", "x", "..", "01KBC000000000000000000000.5f.", "\xe9" * 30, "01KBC000000000000000000000"]
)
def test_any_other_text_is_no_token(token: str) -> None:
    assert opened(KEY, token) is None


def test_a_token_of_another_group_run_or_step_is_none_of_ours() -> None:
    id = callback_id(waiting_for_an_approval().run.run, "approve")
    token = token_of(KEY, id)
    other_step = f"{id[:-1]}{'0' if id[-1] != '0' else '1'}"
    assert opened(KEY, token) is not None
    assert opened(bytes([1] * 32), token) is None
    assert opened(b"", token) is None
    assert opened(KEY, token.replace(id, other_step)) is None
    assert opened(KEY, token[:-1]) is None
