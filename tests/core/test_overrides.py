"""Overrides of limits: an operator's numbers count at once, over deploys, until they are reset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from millstream.core.triggers.catalogue import catalogue
from millstream.errors import FunctionError
from millstream.model.facts import GateOpened, RunStarted
from millstream.model.function import AppSpec, FunctionSpec
from millstream.model.gates.declared import ConcurrencyRule, FlowSpec, RateLimitRule, ThrottleRule
from millstream.model.gates.overrides import CONCURRENCY, RATE_LIMIT, THROTTLE, Override, SeeLimits, applied, in_force
from millstream.model.operations import BodyDone
from tests.core.lanes import Lanes
from tests.core.values import MINUTE_MS, app, event, function

CUSTOMER = "event.data.k"
ONE = ConcurrencyRule(1)


def shop(**flow: Any) -> AppSpec:
    return app(msgspec.structs.replace(function("shop-f", "order/placed"), flow=FlowSpec(**flow)))


def steps(limit: int, key: str = "") -> Override:
    """For the rule that ``ConcurrencyRule(…, key)`` declares."""
    return Override(CONCURRENCY, limit, key=key, scope="fn", per="step")


def set_limits(lanes: Lanes, *overrides: Override) -> None:
    """Every lane reads it, and what it leads to arrives."""
    for lane in range(len(lanes.tables)):
        lanes.do(lane, SeeLimits("shop-f", overrides, len(lanes.facts)))
    arrive(lanes)


def arrive(lanes: Lanes, within_ms: int = 0) -> None:
    """Messages, and timers that are due so soon."""
    ends_ms = lanes.now_ms + within_ms
    while True:
        if pairs := list(lanes.under_way()):
            lanes.deliver(pairs[0])
        elif any(arm.at_ms <= ends_ms for of in lanes.timers for arm in of):
            lanes.fire()
        else:
            return


def send(lanes: Lanes, count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        lanes.send(number % len(lanes.tables), event(number, at_ms=lanes.now_ms))
    arrive(lanes)


def flow_of(lanes: Lanes) -> Sequence[FlowSpec | None]:
    return [catalogue(tables).functions["shop-f"].flow for tables in lanes.tables]


def opened(lanes: Lanes) -> int:
    return sum(isinstance(fact, GateOpened) for _, fact in lanes.facts)


def test_queued_runs_pass_at_once_when_the_limit_is_raised() -> None:
    lanes = Lanes(3, shop(concurrency=(ONE,)))
    send(lanes, 6)
    assert len(lanes.out) == 1
    set_limits(lanes, steps(4))
    assert len(lanes.out) == 4, "without anybody leaving"


def test_a_lower_limit_lets_those_who_execute_end_and_nobody_follow() -> None:
    lanes = Lanes(3, shop(concurrency=(ConcurrencyRule(3),)))
    send(lanes, 5)
    assert len(lanes.out) == 3
    set_limits(lanes, steps(1))
    for left in (2, 1, 1):
        lanes.answer(*min(lanes.out), BodyDone(b"null"))
        arrive(lanes)
        assert len(lanes.out) == left


def test_a_throttle_that_is_raised_lets_the_queue_pass() -> None:
    lanes = Lanes(2, shop(throttle=ThrottleRule(1, 60 * MINUTE_MS)))
    send(lanes, 5)
    assert opened(lanes) == 1
    set_limits(lanes, Override(THROTTLE, 60_000, MINUTE_MS, burst=10))
    arrive(lanes, within_ms=10)
    assert opened(lanes) == 5


def test_a_rate_limit_that_is_raised_counts_for_the_next_event() -> None:
    lanes = Lanes(2, shop(rate_limit=RateLimitRule(1, 60 * MINUTE_MS)))
    send(lanes, 3)
    assert len(lanes.started) == 1
    set_limits(lanes, Override(RATE_LIMIT, 3))
    send(lanes, 5, first=10)
    assert len(lanes.started) == 3, "those that have started count"


def test_an_override_outlives_deploys_until_it_is_reset() -> None:
    lanes = Lanes(2, shop(concurrency=(ONE,)))
    set_limits(lanes, steps(5))
    lanes.deploy(shop(concurrency=(ConcurrencyRule(2),), priority="1"))
    assert flow_of(lanes) == [FlowSpec((ConcurrencyRule(5),), priority="1")] * 2
    set_limits(lanes)
    assert flow_of(lanes) == [FlowSpec((ConcurrencyRule(2),), priority="1")] * 2


def test_a_deploy_without_the_gate_makes_it_moot_and_one_with_it_brings_it_back() -> None:
    lanes = Lanes(2, shop(concurrency=(ConcurrencyRule(1, CUSTOMER),)))
    set_limits(lanes, steps(5, CUSTOMER))
    lanes.deploy(shop(concurrency=(ONE,)))
    assert flow_of(lanes) == [FlowSpec((ONE,))] * 2, "another key is another gate"
    lanes.deploy(shop(throttle=ThrottleRule(1, MINUTE_MS)))
    assert flow_of(lanes) == [FlowSpec(throttle=ThrottleRule(1, MINUTE_MS))] * 2
    lanes.deploy(shop(concurrency=(ONE, ConcurrencyRule(2, CUSTOMER))))
    assert flow_of(lanes) == [FlowSpec((ONE, ConcurrencyRule(5, CUSTOMER)))] * 2, "wherever it stands"


def test_an_override_of_a_function_that_comes_later_waits_for_it() -> None:
    lanes = Lanes(2, app(function("shop-other", "a/b")))
    set_limits(lanes, steps(5))
    lanes.deploy(shop(concurrency=(ONE,)))
    assert flow_of(lanes) == [FlowSpec((ConcurrencyRule(5),))] * 2


def test_a_record_that_comes_again_changes_nothing() -> None:
    lanes = Lanes(1, shop(concurrency=(ONE,)))
    lanes.do(0, SeeLimits("shop-f", (steps(5),), 10))
    assert lanes.do(0, SeeLimits("shop-f", (steps(5),), 10)) == []
    assert lanes.do(0, SeeLimits("shop-f", (), 9)) == []
    assert flow_of(lanes) == [FlowSpec((ConcurrencyRule(5),))]


def test_runs_that_queue_while_limits_change_are_neither_lost_nor_twice() -> None:
    lanes = Lanes(3, shop(concurrency=(ONE,)))
    send(lanes, 20)
    for limit in (3, 1, 7):
        set_limits(lanes, steps(limit))
        lanes.answer(*min(lanes.out), BodyDone(b"null"))
        arrive(lanes)
    set_limits(lanes)
    while lanes.out:
        lanes.answer(*min(lanes.out), BodyDone(b"null"))
        arrive(lanes)
    assert len(lanes.started) == 20 == len({fact.run for _, fact in lanes.facts if isinstance(fact, RunStarted)})
    assert not lanes.open


def declared(**flow: Any) -> FunctionSpec:
    return shop(**flow).functions[0]


def test_what_is_left_out_is_as_declared_and_keys_never_change() -> None:
    function = declared(throttle=ThrottleRule(1, MINUTE_MS, 3, CUSTOMER), rate_limit=RateLimitRule(5, MINUTE_MS))
    made = applied(function, (Override(THROTTLE, 9, key=CUSTOMER), Override(RATE_LIMIT, 7, 2 * MINUTE_MS)))
    assert made.flow == FlowSpec(
        throttle=ThrottleRule(9, MINUTE_MS, 3, CUSTOMER), rate_limit=RateLimitRule(7, 2 * MINUTE_MS)
    )


def test_numbers_that_make_no_sense_together_are_refused_and_never_stop_a_lane() -> None:
    function = declared(concurrency=(ConcurrencyRule(2, per="run"),), ordered_by=CUSTOMER)
    one = (Override(CONCURRENCY, 1, scope="fn", per="run"),)
    with pytest.raises(FunctionError, match="never counts"):
        applied(function, one)
    assert in_force(function, one) is function, "a deploy may have made them so"
