"""Waits as the SDKs ask for them: what a condition is found by, what a wait leaves for its executor to send."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from millstream.model.commands import SendSignal
from millstream.model.facts import SignalTaken
from millstream.model.operations import Condition, SignalWaitFound, WaitFound
from millstream.model.rows import Hand, StepRow
from millstream.model.waits.awaited import AwaitedEvents, AwaitedSignal
from tests.core.lanes import Lanes
from tests.core.values import app, event, function


def started() -> tuple[Lanes, str]:
    lanes = Lanes(2, app(function("wire py-f", "order/placed")))
    lanes.send(0, event(1, data=b'{"id":5,"user":{"mail":"a@b.c"}}'))
    (run,) = lanes.open
    return lanes, run


def settled(lanes: Lanes) -> None:
    while pair := next(iter(lanes.under_way()), None):
        lanes.deliver(pair)


def row_of(lanes: Lanes, run: str, step: str) -> StepRow:
    row = lanes.tables[lanes.lane_of(run)].steps.get((run, step))
    assert row is not None
    return row


@pytest.mark.parametrize(
    "said",
    [
        "event.data.id == async.data.id",
        "async.data.id == event.data.id",
        "event.data.user.mail == async.data.user.mail",
        "event.data.id == async.data.id && async.data.amount > 5",
        "async.data.id == 5",
    ],
)
def test_an_equality_of_the_sdks_is_the_value_of_a_place(said: str) -> None:
    lanes, run = started()
    lanes.answer(run, "", WaitFound("w", "w", (Condition("wire/reply", expression=said),), 10_000))
    awaits = row_of(lanes, run, "w").awaits
    assert isinstance(awaits, AwaitedEvents)
    (condition,) = awaits.conditions
    assert condition.path.startswith("data."), "it would be looked at one by one"
    rest = "amount" in said
    assert bool(condition.expression) == rest


def test_the_event_that_came_is_the_result_as_it_was_sent() -> None:
    lanes, run = started()
    said = "event.data.id == async.data.id"
    lanes.answer(run, "", WaitFound("w", "w", (Condition("wire/reply", expression=said),), 10_000))
    settled(lanes)
    reply = replace(event(2, "wire/reply", data=b'{"id":5,"answer":true}'), key="k", user=b'{"u":1}', v="2")
    lanes.send(1, replace(event(3, "wire/reply"), data=b'{"id":6}'))
    lanes.send(1, reply)
    settled(lanes)
    row = row_of(lanes, run, "w")
    assert row.hand == Hand.DONE and json.loads(row.data) == {
        "name": "wire/reply", "data": {"id": 5, "answer": True}, "id": reply.id, "ts": reply.ts_ms, "user": {"u": 1},
        "v": "2", "key": "k",
    }  # fmt: skip


def test_a_timeout_of_nothing_is_over_at_once() -> None:
    lanes, run = started()
    now_ms = lanes.now_ms
    lanes.answer(run, "", WaitFound("w", "w", (Condition("wire/reply"),), 0))
    settled(lanes)
    while row_of(lanes, run, "w").hand != Hand.DONE:
        assert lanes.fire()
        settled(lanes)
    assert row_of(lanes, run, "w").data == b"null"
    assert lanes.now_ms - now_ms <= 2_000, "every lane was asked"


@pytest.mark.parametrize("data", [b'{"a":1}', b"null"])
def test_a_signal_that_came_leaves_its_name_beside_what_was_sent_and_null_is_no_timeout(data: bytes) -> None:
    lanes, run = started()
    lanes.answer(run, "", SignalWaitFound("s", "s", "approve/5", 10_000))
    settled(lanes)
    home = next(n for n, tables in enumerate(lanes.tables) if tables.signals.get("approve/5") is not None)
    lanes.do(home, SendSignal("approve/5", data))
    settled(lanes)
    row = row_of(lanes, run, "s")
    assert (row.hand, row.data, row.awaits) == (Hand.DONE, data, AwaitedSignal("approve/5", True))
    assert [fact for _, fact in lanes.facts if isinstance(fact, SignalTaken)] == [SignalTaken(run, "s")]


def test_one_whose_time_was_over_leaves_nothing_but_null() -> None:
    lanes, run = started()
    lanes.answer(run, "", SignalWaitFound("s", "s", "approve/5", 0))
    settled(lanes)
    while row_of(lanes, run, "s").hand != Hand.DONE:
        assert lanes.fire()
        settled(lanes)
    row = row_of(lanes, run, "s")
    assert (row.data, row.awaits) == (b"null", None)


def test_a_second_wait_for_a_signal_fails_or_takes_its_place_as_it_asks() -> None:
    lanes, first = started()
    lanes.answer(first, "", SignalWaitFound("s", "s", "approve/5", 60_000))
    settled(lanes)
    lanes.send(0, event(2))
    (second,) = lanes.open - {first}
    lanes.answer(second, "", SignalWaitFound("s", "s", "approve/5", 60_000))
    settled(lanes)
    assert row_of(lanes, second, "s").hand == Hand.FAILED
    lanes.answer(second, "", SignalWaitFound("s2", "s2", "approve/5", 60_000, True))
    settled(lanes)
    assert row_of(lanes, second, "s2").hand == Hand.WAITING
    lanes.cancel(second)
    settled(lanes)
    lanes.cancel(first)
    settled(lanes)
    assert not lanes.open
