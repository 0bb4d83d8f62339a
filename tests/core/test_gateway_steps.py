"""Steps that are one HTTP request, made by the executor: they execute, and are tried again, as a step that runs."""

from __future__ import annotations

from typing import Final

import pytest
from msgspec.structs import replace

from millstream.model import limits
from millstream.model.commands import FireTimer, LoseDispatch, ParkDispatch, Unpark
from millstream.model.facts import Fact, GatewayPlanned, RunFailed, StepCompleted, StepFailed, StepHeld
from millstream.model.function import FAIL, HOLD
from millstream.model.operations import GatewayFound, Operation, StepDone, failure_of
from millstream.model.rows import Hand
from millstream.model.run_requests import ResumeRun
from tests.core.harness import Harness, folded
from tests.core.values import BOOM, PLACE, START_MS, accept, app, done, errored, event, function, report, see

REQUEST: Final = b'{"url":"https://api.example/x","method":"POST"}'


def started(on_exhausted: str = FAIL, retries: int = 1) -> Harness:
    harness = Harness()
    harness.do(see(app(replace(function("shop-f", "order/placed", retries=retries), on_exhausted=on_exhausted))))
    harness.do(accept(event()))
    return harness


def answer(harness: Harness, *operations: Operation, step: str = "") -> list[Fact]:
    out = harness.out(step)
    return harness.do(report(out.run, out.dispatch, *operations, step=step, attempt=out.attempt))


@pytest.mark.parametrize("kind", ["gateway", "ai_gateway"])
def test_it_is_recorded_with_its_request_and_handed_out_on_its_own(kind: str) -> None:
    harness = started()
    (planned,) = answer(harness, GatewayFound("get", "Get it", REQUEST, kind))
    assert planned == GatewayPlanned(harness.run.run, "get", "Get it", kind, 1, REQUEST)
    row = harness.step("get")
    assert (row.kind, row.hand, row.data, row.name) == (kind, Hand.OUT, REQUEST, "Get it")
    assert harness.out("get").attempt == 0 and harness.run.bytes == len(REQUEST)
    (completed,) = answer(harness, StepDone("get", "Get it", b'{"status_code":418}', START_MS), step="get")
    assert isinstance(completed, StepCompleted) and completed.kind == kind and completed.discover
    row = harness.step("get")
    assert (row.kind, row.hand, row.data) == (kind, Hand.DONE, b'{"status_code":418}')
    assert harness.run.bytes == len(row.data), "the request is no longer held"


def test_it_is_tried_again_and_fails_as_a_step_that_runs_and_keeps_its_request_meanwhile() -> None:
    harness = started()
    answer(harness, GatewayFound("get", "get", REQUEST))
    answer(harness, errored("get"), step="get")
    wake = harness.armed("retry")
    assert harness.step("get").data == REQUEST
    harness.do(FireTimer(wake.at_ms, wake.kind, wake.id, wake.step), wake.at_ms)
    assert harness.out("get").attempt == 1 and harness.step("get").data == REQUEST
    (failed,) = answer(harness, errored("get"), step="get")
    assert isinstance(failed, StepFailed) and (failed.kind, failed.attempt) == ("gateway", 1)
    assert failure_of(harness.step("get").data) == BOOM


def test_it_is_lost_parked_held_and_resumed_with_its_request() -> None:
    harness = started(HOLD, 0)
    run = harness.run.run
    answer(harness, GatewayFound("get", "get", REQUEST))
    harness.do(LoseDispatch(run, "get", harness.out("get").dispatch))
    harness.do(ParkDispatch(run, "get", harness.out("get").dispatch))
    harness.do(Unpark(run, "get", harness.step("get").dispatch))
    (held,) = answer(harness, errored("get"), step="get")
    assert isinstance(held, StepHeld) and held.kind == "gateway" and harness.step("get").data == REQUEST
    harness.do(ResumeRun(run))
    assert harness.step("get").hand == Hand.OUT and harness.step("get").data == REQUEST


def test_it_stands_in_the_journal_whole() -> None:
    harness = started()
    answer(harness, GatewayFound("get", "get", REQUEST))
    row = folded(harness.journal, PLACE).steps.get((harness.run.run, "get"))
    assert row == harness.step("get")


def test_a_request_over_its_limit_fails_the_step_and_as_much_as_the_limit_does_not() -> None:
    harness = started()
    answer(harness, GatewayFound("get", "get", b"x" * limits.GATEWAY_REQUEST_BYTES_MAX))
    assert harness.step("get").hand == Hand.OUT
    harness = started()
    (failed,) = answer(harness, GatewayFound("get", "get", b"x" * (limits.GATEWAY_REQUEST_BYTES_MAX + 1)))
    assert isinstance(failed, StepFailed) and failed.error_name == "request_too_large" and failed.discover


def test_requests_count_for_what_a_run_may_hold() -> None:
    harness = started()
    much = b"x" * limits.GATEWAY_REQUEST_BYTES_MAX
    facts = answer(harness, *(GatewayFound(f"get{n}", "get", much) for n in range(9)))
    assert isinstance(facts[-1], RunFailed) and facts[-1].error_name == "InngestErrStateOverflowed"


def test_a_kind_that_is_none_ends_the_run_and_says_so() -> None:
    harness = started()
    harness.may_raise = True
    answer(harness, GatewayFound("get", "get", REQUEST, "run"))
    assert not harness.runs


def test_a_body_finds_it_beside_others() -> None:
    harness = started()
    facts = answer(harness, done("a"), GatewayFound("get", "get", REQUEST))
    assert [type(fact) for fact in facts] == [StepCompleted, GatewayPlanned]
    assert harness.out("get").step == "get" and harness.out().step == ""
