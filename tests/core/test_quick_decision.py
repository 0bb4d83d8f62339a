"""The short way (``core/runs/quick.py``) leads where the long way leads. The harness compares the two for every command
of every test of this layer; here is which commands must take it, and which must not."""

from __future__ import annotations

import pytest

from millstream.core.runs.quick import QUICK
from millstream.model import limits
from millstream.model.commands import AcceptEvent, FireTimer
from millstream.model.event import FUNCTION_FINISHED
from millstream.model.facts import EventAccepted, RunCompleted, RunStarted, StepCompleted
from millstream.model.function import EventTrigger
from millstream.model.operations import BodyDone, Operation
from tests.core.harness import Harness
from tests.core.values import START_MS, accept, app, done, event, found, function, report, see, sleep

F = function("shop-f", "order/placed")


def started(*more: object) -> Harness:
    harness = Harness()
    harness.do(see(app(F, *more)))  # type: ignore[arg-type]
    harness.do(accept(event()))
    return harness


def tell(harness: Harness, *operations: Operation) -> None:
    effect = harness.out("")
    harness.do(report(effect.run, effect.dispatch, *operations))


def test_a_run_of_steps_one_after_another_takes_the_short_way_from_its_event_to_its_end() -> None:
    harness = started()
    tell(harness, done("a"))
    tell(harness, done("b", b"2"))
    tell(harness, BodyDone(b"3"))
    assert harness.quick_ones == 4
    kinds = {type(fact) for fact, _ in harness.journal}
    assert kinds >= {EventAccepted, RunStarted, StepCompleted, RunCompleted}
    assert not harness.tables.runs.scan(limit=9)
    assert not harness.tables.steps.scan(limit=9)
    assert not harness.tables.events.scan(limit=9)


def test_the_end_of_a_sleep_takes_the_short_way_where_the_body_waits_for_it_alone() -> None:
    harness = started()
    tell(harness, sleep("a"))
    before = harness.quick_ones
    timer = harness.armed()
    assert harness.do(FireTimer(timer.at_ms - 1, timer.kind, timer.id, timer.step)) == []  # Of another sleep.
    harness.do(FireTimer(timer.at_ms, timer.kind, timer.id, timer.step), timer.at_ms)
    assert harness.quick_ones == before + 1
    tell(harness, BodyDone(b"1"))
    assert not harness.tables.timers.scan(limit=9)


@pytest.mark.parametrize(
    "operations",
    [
        (found("a"), found("b")),
        (sleep("a"),),
        (done("a"), done("b")),
        (done("a", b"x" * (limits.STEP_OUTPUT_BYTES_MAX + 1)),),
        (BodyDone(b"x" * (limits.RUN_RESULT_BYTES_MAX + 1)),),
        (),
    ],
    ids=["parallel", "sleep", "two at once", "too large", "too large an end", "nothing"],
)
def test_what_is_rare_takes_the_long_way(operations: tuple[Operation, ...]) -> None:
    harness = started()
    before = harness.quick_ones
    tell(harness, *operations)
    assert harness.quick_ones == before


def test_a_step_that_is_recorded_already_takes_the_long_way() -> None:
    harness = started()
    tell(harness, done("a"))
    before = harness.quick_ones
    tell(harness, done("a"))
    assert harness.quick_ones == before


def test_an_end_that_somebody_subscribes_to_takes_the_long_way() -> None:
    harness = started(function("shop-audit", FUNCTION_FINISHED))
    before = harness.quick_ones
    tell(harness, BodyDone(b"1"))
    assert harness.quick_ones == before


@pytest.mark.parametrize(
    "given",
    [
        accept(event(name="nobody/listens")),
        accept(event(at_ms=START_MS + 60_000)),
        accept(event(at_ms=limits.EVENT_TS_MAX_MS + 1)),
        accept(event(id="half a \ud800")),
    ],
    ids=["nobody", "later", "no time", "no id"],
)
def test_an_event_that_does_not_start_one_function_now_takes_the_long_way(given: AcceptEvent) -> None:
    harness = Harness()
    harness.do(see(app(F)))
    assert QUICK[type(given)](harness.tables, given, START_MS) is None
    assert not any(table.flight for table in harness.tables.all)


def test_an_event_seen_before_and_one_for_two_functions_take_the_long_way() -> None:
    harness = started()
    before = harness.quick_ones
    harness.do(accept(event(), offset=1))
    harness.do(see(app(F, function("shop-g", EventTrigger("order/*"))), offset=1))
    harness.do(accept(event(number=2), offset=2))
    assert harness.quick_ones == before
