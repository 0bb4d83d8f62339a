"""When a run must have begun: does it count as begun once somebody has it, and is it cancelled where nobody does?"""

from __future__ import annotations

import msgspec

from millstream.core import timers
from millstream.model.commands import FireTimer, ParkDispatch
from millstream.model.facts import RunCancelled, StartPassed
from tests.core.harness import Harness
from tests.core.values import HOUR_MS, accept, app, event, function, see


def started() -> Harness:
    harness = Harness()
    harness.do(see(app(msgspec.structs.replace(function("shop-f", "order/placed"), start_ms=HOUR_MS))))
    harness.do(accept(event()))
    return harness


def due(harness: Harness) -> list[type]:
    arm = harness.armed(timers.START)
    return [type(fact) for fact in harness.do(FireTimer(arm.at_ms, arm.kind, arm.id, arm.step), arm.at_ms)]


def test_a_run_that_an_executor_has_has_begun() -> None:
    harness = started()
    assert due(harness) == [StartPassed]
    assert harness.run


def test_a_run_that_waits_for_its_code_has_not_begun_and_is_cancelled() -> None:
    harness = started()
    harness.do(ParkDispatch(harness.run.run, "", harness.out().dispatch))
    assert RunCancelled in due(harness)
    assert not harness.runs
