"""When a run must have begun, and be over: what counts as begun, and does nothing of it begin too late?"""

from __future__ import annotations

import msgspec
import pytest

from millstream.core import timers
from millstream.model.commands import FireTimer, ParkDispatch
from millstream.model.effects import Arm, Execute
from millstream.model.facts import RunCancelled, StartPassed
from millstream.model.operations import Operation
from tests.core.harness import Harness
from tests.core.values import (
    HOUR_MS,
    START_MS,
    accept,
    app,
    body_errored,
    errored,
    event,
    function,
    report,
    see,
    sleep,
)


def started(*, finish_ms: int = 0, start_ms: int = HOUR_MS, in_ms: int = 0) -> Harness:
    harness = Harness()
    bounds = {"start_ms": start_ms, "finish_ms": finish_ms}
    harness.do(see(app(msgspec.structs.replace(function("shop-f", "order/placed"), **bounds))))
    harness.do(accept(msgspec.structs.replace(event(), ts_ms=START_MS + in_ms)))
    return harness


def fired(arm: Arm) -> FireTimer:
    return FireTimer(arm.at_ms, arm.kind, arm.id, arm.step)


def due(harness: Harness) -> list[type]:
    arm = harness.armed(timers.START)
    return [type(fact) for fact in harness.do(fired(arm), arm.at_ms)]


def test_a_run_that_an_executor_has_has_begun() -> None:
    harness = started()
    assert due(harness) == [StartPassed]
    assert harness.run


def test_a_run_that_waits_for_its_code_has_not_begun_and_is_cancelled() -> None:
    harness = started()
    harness.do(ParkDispatch(harness.run.run, "", harness.out().dispatch))
    assert RunCancelled in due(harness)
    assert not harness.runs


@pytest.mark.parametrize(
    "operation",
    [sleep("nap", 60_000), errored("charge"), body_errored()],
    ids=lambda operation: type(operation).__name__,
)
def test_what_was_to_go_on_before_the_end_of_the_time_does_not_go_on_after_it(operation: Operation) -> None:
    harness = started(start_ms=0, finish_ms=HOUR_MS)
    out = harness.out()
    harness.do(report(out.run, out.dispatch, operation))
    (goes_on,) = (e for e in harness.outstanding if isinstance(e, Arm) and e.kind != timers.FINISH)
    facts = harness.do(fired(goes_on), START_MS + 2 * HOUR_MS)
    assert [type(fact) for fact in facts] == [RunCancelled]
    assert not harness.runs


def test_a_run_that_was_to_begin_while_no_worker_was_there_does_not_begin_behind_its_time() -> None:
    harness = started(in_ms=HOUR_MS)
    facts = harness.do(fired(harness.armed(timers.DUE)), START_MS + 2 * HOUR_MS)
    assert [type(fact) for fact in facts] == [RunCancelled]
    assert not [effect for effect in harness.effects if isinstance(effect, Execute)]
