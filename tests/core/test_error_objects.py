"""What an error has beside name, message and stack: it reaches every place where the error is recorded or told."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from msgspec.structs import replace

from millstream.core.steps.invoke import TIMED_OUT
from millstream.errors import INVOKE_TIMEOUT
from millstream.model import limits
from millstream.model.commands import FireTimer
from millstream.model.error_object import error_object, members, more_of
from millstream.model.event import FUNCTION_FAILED, FUNCTION_FINISHED, Envelope
from millstream.model.facts import (
    BodyAttemptFailed,
    BodyHeld,
    Fact,
    PublishQueued,
    RunFailed,
    StepAttemptFailed,
    StepFailed,
    StepHeld,
)
from millstream.model.function import HOLD
from millstream.model.operations import BodyErrored, Failure, InvokeFound, StepErrored, failure_of
from millstream.model.rows import Hand
from millstream.model.run_requests import FailRun
from tests.core.harness import Harness
from tests.core.lanes import Lanes
from tests.core.values import START_MS, accept, app, event, function, report, see

SAID: Final[dict[str, object]] = {"code": "no_card", "cause": {"name": "E", "message": "x"}, "data": [1, None]}
MORE: Final = more_of({"name": "CardError", "message": "no card", "stack": "at f", **SAID})
FAILURE: Final = Failure("CardError", "no card", "at f", MORE)


def harness(retries: int = 0, on_exhausted: str = "fail", *others: str) -> Harness:
    made = Harness()
    spec = replace(function("shop-f", "order/placed", retries=retries), on_exhausted=on_exhausted)
    made.do(see(app(spec, *(function(f"shop-on{n}", name) for n, name in enumerate(others)))))
    made.do(accept(event(data=b'{"a":1}')))
    return made


def step_error(*, retriable: bool = True) -> StepErrored:
    return StepErrored("s", "s", FAILURE, START_MS, retriable)


def the(facts: list[Fact], kind: type[Any]) -> Any:
    (found,) = (fact for fact in facts if isinstance(fact, kind))
    return found


def told(facts: list[Fact]) -> list[Envelope]:
    return [fact.event for fact in facts if isinstance(fact, PublishQueued) and fact.event is not None]


def test_it_is_in_the_facts_of_attempts_and_in_the_row_of_a_failed_step() -> None:
    here = harness(retries=1)
    run = here.run.run
    assert the(here.do(report(run, 1, step_error())), StepAttemptFailed).error_more == MORE
    wake = here.armed("retry")
    here.do(FireTimer(wake.at_ms, wake.kind, wake.id, wake.step), wake.at_ms)
    again = here.out("s")
    facts = here.do(report(run, again.dispatch, step_error(), step="s", attempt=again.attempt))
    assert the(facts, StepFailed).error_more == MORE
    assert failure_of(here.step("s").data) == FAILURE
    facts = here.do(report(run, here.out().dispatch, BodyErrored(FAILURE)))
    assert the(facts, BodyAttemptFailed).error_more == MORE
    wake = here.armed("retry")
    here.do(FireTimer(wake.at_ms, wake.kind, wake.id, wake.step), wake.at_ms)
    facts = here.do(report(run, here.out().dispatch, BodyErrored(FAILURE), attempt=1))
    assert the(facts, RunFailed) == RunFailed(run, "shop-f", 1, "CardError", "no card", "at f", MORE)


def test_it_survives_a_hold_and_the_operator_who_lets_it_fail() -> None:
    here = harness(0, HOLD)
    run = here.run.run
    assert the(here.do(report(run, 1, step_error())), StepHeld).error_more == MORE
    assert the(here.do(FailRun(run)), StepFailed).error_more == MORE
    assert failure_of(here.step("s").data) == FAILURE
    assert the(here.do(report(run, here.out().dispatch, BodyErrored(FAILURE))), BodyHeld).error_more == MORE
    assert the(here.do(FailRun(run)), RunFailed).error_more == MORE


@pytest.mark.parametrize(("retriable", "why"), [(True, "invalid status code: 500"), (False, "NonRetriableError")])
def test_a_failed_run_is_announced_with_the_error_and_as_its_result_the_whole_object(retriable: bool, why: str) -> None:
    here = harness(0, "fail", FUNCTION_FAILED, FUNCTION_FINISHED)
    run = here.run.run
    for announced in told(here.do(report(run, 1, BodyErrored(FAILURE, retriable)))):
        data = json.loads(announced.data)
        assert list(data) == ["_inngest", "error", "event", "events", "function_id", "result", "run_id"]
        assert data["_inngest"] == {"status": "Failed"}
        assert list(data["error"].items()) == [
            ("error", why), ("message", "no card"), ("name", "CardError"), ("stack", "at f"),
        ]  # fmt: skip
        assert data["result"] == {**SAID, "message": "no card", "name": "CardError", "stack": "at f"}
        assert list(data["event"]) == ["name", "data", "id", "ts", "user"] and data["event"]["user"] == {}
        assert [list(each) for each in data["events"]] == [["name", "data", "id", "ts"]]


def test_a_step_that_waits_for_a_run_fails_with_that_run_s_error() -> None:
    child, parent = function("shop-child", "never/sent", retries=0), function("shop-f", "order/placed", retries=0)
    lanes = Lanes(2, app(child, parent))
    lanes.send(0, event())
    (run,) = lanes.open
    lanes.answer(run, "", InvokeFound("call", "call", "shop-child", b"{}", 60_000))
    while pair := next(iter(lanes.under_way()), None):
        lanes.deliver(pair)
    (other,) = lanes.open - {run}
    lanes.answer(other, "", BodyErrored(FAILURE, retriable=False))
    while pair := next(iter(lanes.under_way()), None):
        lanes.deliver(pair)
    row = lanes.tables[lanes.lane_of(run)].steps.get((run, "call"))
    assert row is not None and row.hand == Hand.FAILED
    failure = failure_of(row.data)
    assert (failure.name, failure.message, failure.stack) == ("CardError", "no card", "at f")
    assert members(failure.more) == {**SAID, "error": "NonRetriableError"}


def test_a_run_that_was_not_over_in_time_is_the_error_that_every_sdk_knows() -> None:
    here = harness()
    run = here.run.run
    here.do(report(run, 1, InvokeFound("call", "call", "shop-f", b"{}", 1_000)))
    wake = here.armed("wait")
    here.do(FireTimer(wake.at_ms, wake.kind, wake.id, wake.step), wake.at_ms)
    row = here.tables.steps.get((run, "call"))
    assert row is not None
    failure = failure_of(row.data)
    assert (failure.name, failure.message, failure.stack) == (INVOKE_TIMEOUT, TIMED_OUT, "")
    assert TIMED_OUT == "Timed out waiting for invoked function to complete"
    assert members(failure.more) == {"error": f"InngestInvokeTimeoutError: {TIMED_OUT}"}


@pytest.mark.parametrize(
    "error",
    [
        {"name": "E", "message": "m", "stack": "s"},
        {"data": float("nan")},
        {"data": "x" * limits.ERROR_MORE_BYTES_MAX},
        {"data": object()},
    ],
)
def test_what_is_no_json_or_too_large_is_left_out_and_the_error_stays(error: dict[str, object]) -> None:
    assert more_of(error) == b""


def test_as_much_as_the_limit_is_kept_and_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    frame = len(b'{"data":""}')
    kept = more_of({"data": "x" * (limits.ERROR_MORE_BYTES_MAX - frame)})
    assert len(kept) == limits.ERROR_MORE_BYTES_MAX
    assert more_of({"data": "\ud800"}) == b'{"data":"?"}'


@pytest.mark.parametrize("more", [b"{broken", b"[1]", b"\xff", b"[" * 100_000, b'{"name":"other"}'])
def test_bytes_that_are_no_such_object_add_nothing(more: bytes) -> None:
    assert error_object("E", "m", "", more) == {"message": "m", "name": "E", "stack": None}
