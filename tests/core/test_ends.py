"""How runs end, and who is told: internal events, failure handlers, and what is left behind."""

from __future__ import annotations

import json

import pytest

from millstream.model.effects import Abandon
from millstream.model.event import FUNCTION_CANCELLED, FUNCTION_FAILED, FUNCTION_FINISHED, Envelope
from millstream.model.facts import Fact, PublishQueued, RunFailed
from millstream.model.operations import BodyDone
from millstream.model.run_requests import CancelRun
from tests.core.harness import Harness
from tests.core.values import accept, app, body_errored, done, errored, event, found, function, report, see, sleep

ENDS = (FUNCTION_FINISHED, FUNCTION_FAILED, FUNCTION_CANCELLED)


def harness_with(*names: str, starts: str = "order/placed") -> Harness:
    """A function that starts, and others that subscribe to how runs end."""
    others = [function(f"shop-on{n}", name) for n, name in enumerate(names)]
    harness = Harness()
    harness.do(see(app(function("shop-f", starts), function("shop-f-failure", "never/sent"), *others)))
    return harness


def announced(facts: list[Fact]) -> list[Envelope]:
    return [fact.event for fact in facts if isinstance(fact, PublishQueued) and fact.event is not None]


def test_an_end_is_announced_only_where_somebody_subscribes() -> None:
    harness = harness_with()
    harness.do(accept(event()))
    assert announced(harness.do(report(harness.run.run, 1, body_errored(retriable=False)))) == []


def test_a_completed_run_is_announced_as_finished_with_its_result() -> None:
    harness = harness_with(*ENDS)
    harness.do(accept(event(data=b'{"n":1}')))
    run = harness.run.run
    (told,) = announced(harness.do(report(run, 1, BodyDone(b'{"sum":3}'))))
    data = json.loads(told.data)
    assert (told.name, data["run_id"], data["result"]) == (FUNCTION_FINISHED, run, {"sum": 3})
    assert data["event"]["data"] == {"n": 1} and data["_inngest"] == {"status": "Completed"}


def test_a_failed_run_is_announced_as_failed_and_finished_with_its_error() -> None:
    harness = harness_with(*ENDS)
    harness.do(accept(event()))
    run = harness.run.run
    failed, finished = announced(harness.do(report(run, 1, body_errored(retriable=False))))
    assert (failed.name, finished.name) == (FUNCTION_FAILED, FUNCTION_FINISHED)
    assert failed.id == run and finished.id == finished.internal_id != failed.internal_id
    assert json.loads(failed.data)["error"]["message"] == "boom"


def test_a_cancelled_run_is_announced_as_cancelled() -> None:
    harness = harness_with(*ENDS)
    harness.do(accept(event()))
    (told,) = announced(harness.do(CancelRun(harness.run.run, "tests")))
    assert told.name == FUNCTION_CANCELLED and json.loads(told.data)["_inngest"] == {"status": "Cancelled"}


def test_a_failure_handler_that_fails_is_not_announced_as_failed() -> None:
    harness = Harness()
    handler = function("shop-f-failure", FUNCTION_FAILED)
    harness.do(see(app(function("shop-f", "order/placed"), handler, function("shop-audit", FUNCTION_FINISHED))))
    harness.do(accept(event(name=FUNCTION_FAILED)))
    facts = harness.do(report(harness.run.run, 1, body_errored(retriable=False)))
    assert [told.name for told in announced(facts)] == [FUNCTION_FINISHED]


@pytest.mark.parametrize("data", [b"{broken", b'{"x":"\\ud800"}', b"[" * 100_000, b"\xff"])
def test_a_run_of_unreadable_data_ends_and_is_announced_all_the_same(data: bytes) -> None:
    harness = harness_with(*ENDS)
    harness.do(accept(event(data=data)))
    facts = harness.do(report(harness.run.run, 1, body_errored(retriable=False)))
    assert isinstance(facts[0], RunFailed) and len(announced(facts)) == 2
    assert not harness.runs


def test_nothing_of_a_run_is_left_when_it_ends() -> None:
    harness = harness_with()
    harness.do(accept(event()))
    run = harness.run.run
    harness.do(report(run, 1, done("a"), found("b"), sleep("c"), errored("d")))
    harness.do(CancelRun(run, "tests"))
    for table in (harness.tables.runs, harness.tables.steps, harness.tables.events, harness.tables.timers):
        assert not table.scan(limit=1)
    assert harness.effects[-1] == Abandon(run) and not harness.outstanding


def test_an_event_is_kept_until_the_last_run_that_needs_it_has_ended() -> None:
    harness = Harness()
    harness.do(see(app(function("shop-a", "order/placed"), function("shop-b", "order/placed"))))
    harness.do(accept(event()))
    first, second = harness.runs
    harness.do(report(first, 1, BodyDone(b"1")))
    assert harness.tables.events.scan(limit=1)
    harness.do(report(second, 1, BodyDone(b"1")))
    assert not harness.tables.events.scan(limit=1)
