"""Requests and messages: cancel, invoke, between lanes in order and exactly once, answered once and the same again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from millstream.core import requests
from millstream.core.messages import MESSAGES
from millstream.core.nouns import DECIDE
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.commands import CleanUp, InvokeFunction, NoteDelivered, NotePublished, TakeMessage
from millstream.model.effects import Answer, Deliver, Publish
from millstream.model.facts import (
    CommandRefused,
    Fact,
    MessagesDelivered,
    MessageSent,
    MessageTaken,
    PublishesSent,
    RequestAnswered,
    RequestsDropped,
    RunCancelled,
    RunStarted,
)
from millstream.model.ids import run_id, ulid
from millstream.model.operations import PublishFound
from millstream.model.run_requests import CancelRun
from tests.core.harness import Harness
from tests.core.values import LANES, START_MS, accept, app, event, function, report, see

ASKED = ulid(START_MS, bytes(10))
HERE = run_id(START_MS, "x", "f", "", lane=0, lanes=LANES)
ELSEWHERE = run_id(START_MS, "x", "f", "", lane=1, lanes=LANES)


@pytest.fixture
def harness() -> Harness:
    harness = Harness()
    harness.do(see(app(function("shop-f", "order/placed"))))
    return harness


def answer(facts: list[Fact]) -> dict[str, str]:
    (found,) = (fact for fact in facts if isinstance(fact, RequestAnswered))
    decoded: dict[str, str] = json.loads(found.reply)
    return decoded


def test_a_cancelled_run_ends_and_whoever_asked_is_answered(harness: Harness) -> None:
    harness.do(accept(event()))
    run = harness.run.run
    facts = harness.do(CancelRun(run, "tests", ASKED, 3))
    assert facts[0] == RunCancelled(run, "shop-f", "tests")
    assert answer(facts) == {"status": "cancelled", "run": run}
    assert harness.effects[-1] == Answer(ASKED, 3, json.dumps(answer(facts), separators=(",", ":")).encode())


def test_a_request_that_comes_again_gets_the_same_answer_where_it_is_asked(harness: Harness) -> None:
    harness.do(accept(event()))
    run = harness.run.run
    first = answer(harness.do(CancelRun(run, "tests", ASKED, 3)))
    facts = harness.do(CancelRun(run, "tests", ASKED, 4))
    assert len(facts) == 1 and answer(facts) == first
    assert isinstance(harness.effects[-1], Answer) and harness.effects[-1].reply_to == 4


@pytest.mark.parametrize("run", [HERE, "no id at all"])
def test_cancelling_what_is_not_open_says_so(harness: Harness, run: str) -> None:
    assert answer(harness.do(CancelRun(run, "tests", ASKED, 0))) == {"status": "not_open", "run": run}


def test_a_lane_that_cancels_what_is_not_open_is_remembered_where_its_start_may_still_come(harness: Harness) -> None:
    (fact,) = harness.do(CancelRun(HERE, "another lane says so"))
    assert isinstance(fact, RequestAnswered) and fact.request == HERE
    assert harness.do(CancelRun("no id at all", "nobody asks")) == []


def test_a_run_of_another_lane_is_cancelled_there(harness: Harness) -> None:
    command = CancelRun(ELSEWHERE, "tests", ASKED, 3)
    assert harness.do(command) == [MessageSent(1, 1, command)]
    assert harness.do(command) == [MessageSent(1, 2, command)]
    assert harness.outstanding == {Deliver(1, 1), Deliver(1, 2)}
    assert harness.do(NoteDelivered(1, 1)) == [MessagesDelivered(1, 1)]
    assert harness.do(NoteDelivered(1, 1)) == []
    assert harness.do(NoteDelivered(1, 99)) == [MessagesDelivered(1, 2)], "never more than was sent"
    assert not harness.tables.outbox.scan(limit=1)


def test_an_invoked_function_starts_whatever_its_triggers_say(harness: Harness) -> None:
    facts = harness.do(InvokeFunction("shop-f", event(name="what/ever"), ASKED, 0))
    assert answer(facts) == {"status": "started", "run": harness.run.run}
    assert len(harness.do(InvokeFunction("shop-f", event(name="what/ever"), ASKED, 0))) == 1
    assert len(harness.runs) == 1


def test_two_requests_with_one_event_are_two_runs(harness: Harness) -> None:
    harness.do(InvokeFunction("shop-f", event(), ASKED, 0))
    harness.do(InvokeFunction("shop-f", event(), ulid(START_MS, bytes(9) + b"1"), 0))
    assert len(harness.runs) == 2


def test_an_invocation_whose_answer_is_forgotten_never_restarts_its_open_run(harness: Harness) -> None:
    command = InvokeFunction("shop-f", event(), ASKED, 0)
    started = answer(harness.do(command))
    harness.do(CleanUp(), START_MS + limits.DAY_MS + 1)
    facts = harness.do(command)
    assert answer(facts) == started and not any(isinstance(fact, RunStarted) for fact in facts)


def test_invoking_a_function_that_is_not_known_says_so(harness: Harness) -> None:
    asked = InvokeFunction("shop-x", event(), ASKED, 0)
    assert answer(harness.do(asked)) == {"status": "unknown_function", "function": "shop-x"}


def test_messages_are_taken_in_order_and_exactly_once(harness: Harness) -> None:
    def message(seq: int) -> TakeMessage:
        return TakeMessage(1, seq, InvokeFunction("shop-f", event(seq), ulid(START_MS, seq.to_bytes(10, "big")), 0))

    assert harness.do(message(2)) == []
    assert harness.do(message(1))[0] == MessageTaken(1, 1)
    assert harness.do(message(1)) == []
    assert harness.do(message(3)) == []
    assert harness.do(message(2))[0] == MessageTaken(1, 2)
    assert len(harness.runs) == 2


def test_a_message_that_cannot_be_decided_is_taken_and_those_behind_it_come_through(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.do(accept(event()))
    harness.may_raise = True

    def broken(tables: Tables, command: CancelRun, now_ms: int) -> list[Fact]:
        raise ZeroDivisionError("broken")

    with monkeypatch.context() as patch:
        patch.setitem(MESSAGES, CancelRun, replace(MESSAGES[CancelRun], decide=broken))
        facts = harness.do(TakeMessage(1, 1, CancelRun(harness.run.run, "tests", ASKED, 0)))
    assert [type(fact) for fact in facts] == [MessageTaken, CommandRefused, RequestAnswered]
    assert answer(facts)["status"] == "refused"
    assert harness.do(TakeMessage(1, 2, CancelRun(harness.run.run, "tests")))[1:]


def test_a_request_that_cannot_be_decided_is_answered(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(tables: Tables, command: CancelRun, now_ms: int) -> list[Fact]:
        raise ZeroDivisionError("broken")

    harness.may_raise = True
    monkeypatch.setitem(DECIDE, CancelRun, broken)
    assert answer(harness.do(CancelRun(HERE, "tests", ASKED, 0))) == {
        "status": "refused",
        "reason": "ZeroDivisionError: broken",
    }


def test_answers_are_forgotten_after_a_day_in_bounded_portions(harness: Harness) -> None:
    for number in range(requests.REQUESTS_DROPPED_AT_ONCE_MAX + 5):
        harness.do(CancelRun(HERE, "tests", ulid(START_MS, number.to_bytes(10, "big")), 0))
    harness.do(CancelRun(HERE, "tests", ulid(START_MS + limits.HOUR_MS, bytes(10)), 0))
    assert harness.do(CleanUp(), START_MS + limits.DAY_MS) == []
    before = ulid(START_MS + 1, bytes(10))
    assert harness.do(CleanUp(), START_MS + limits.DAY_MS + 1) == [RequestsDropped(before, 1_000)]
    assert harness.do(CleanUp()) == [RequestsDropped(before, 5)]
    assert harness.do(CleanUp()) == []
    assert len(harness.tables.requests.scan(limit=10)) == 1


def test_records_are_owed_until_they_are_known_to_have_arrived(harness: Harness) -> None:
    harness.do(accept(event()))
    found = [PublishFound(step, step, "topic", b"", b"") for step in "ab"]
    harness.do(report(harness.run.run, 1, *found))
    assert {effect for effect in harness.outstanding if isinstance(effect, Publish)} == {Publish(1), Publish(2)}
    assert harness.do(NotePublished((1, 77))) == [PublishesSent((1,))]
    assert harness.do(NotePublished((1, 77))) == []
