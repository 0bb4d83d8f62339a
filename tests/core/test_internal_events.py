"""The events that the server makes itself have the members, and types, that SDKs were recorded to receive."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from msgspec.structs import replace

from millstream.core.intake.crons import tick_event
from millstream.model.event import FUNCTION_FINISHED, FUNCTION_INVOKED, Envelope
from millstream.model.facts import EventAccepted, Fact, PublishQueued
from millstream.model.invocation import correlation_of, of_request, of_step, with_invocation
from millstream.model.operations import BodyDone, InvokeFound
from tests.core.lanes import Lanes
from tests.core.values import START_MS, app, event, function

INVOKED: Final = {
    "correlation_id": "01KAP7M1Q8QXJ2Z8W9JY0V7N5T.bc8d8647",
    "expire": 1826892914776,
    "fn_id": "wire js-child",
    "gid": "0b0bfcf8-7b5b-4a08-9c11-0c7c0d1f2c11",
    "name": "call",
    "source_app_id": "5b1cbd38-2a01-4f4a-8a2b-0d5d8b6f0a02",
    "source_fn_id": "c2dd7e33-93be-41a5-9fd5-6e3b0dbf4c7e",
    "source_fn_v": 1,
}
"""What was recorded of a step's invocation, without its traces."""
ASKED_FOR: Final = {
    "expire": 0, "fn_id": "wire py-no-steps", "gid": "", "name": "", "source_app_id": "", "source_fn_id": "",
    "source_fn_v": 0,
}  # fmt: skip
"""What was recorded of ``POST /invoke/{slug}``."""


def shape(value: Any) -> Any:
    return {name: type(one).__name__ for name, one in value.items()}


def settled(lanes: Lanes) -> None:
    while pair := next(iter(lanes.under_way()), None):
        lanes.deliver(pair)


def the(facts: list[tuple[int, Fact]], name: str) -> Any:
    """The only event of this name that a lane has made."""
    made: list[Any] = [fact for _, fact in facts if isinstance(fact, EventAccepted)]
    made += [fact.event for _, fact in facts if isinstance(fact, PublishQueued) and fact.event is not None]
    (one,) = (event for event in made if event.name == name)
    return one


def test_a_run_that_a_step_invokes_is_told_who_invoked_it_and_its_end_names_who_waits() -> None:
    child, parent = function("wire js-child", "never/sent"), function("wire js-f", "order/placed")
    lanes = Lanes(2, app(child, parent, function("wire js-spy", FUNCTION_FINISHED)))
    lanes.send(0, event(data=b'{"n":1}'))
    (run,) = lanes.open
    found = InvokeFound("bc8d8647", "call", "wire js-child", b'{"n":7}', 60_000, meta=b'{"trace":"x"}', v="2")
    lanes.answer(run, "", found)
    settled(lanes)
    (other,) = lanes.open - {run}
    invoked = the(lanes.facts, FUNCTION_INVOKED)
    data = json.loads(invoked.data)
    assert list(data) == ["_inngest", "n"] and data["n"] == 7
    assert (invoked.meta, invoked.v) == (b'{"trace":"x"}', "2")
    about = data["_inngest"]
    assert shape(about) == shape(INVOKED) and list(about) == list(INVOKED)
    assert about["correlation_id"] == f"{run}.bc8d8647" and about["expire"] == START_MS + 60_000
    assert (about["fn_id"], about["name"], about["source_fn_id"]) == ("wire js-child", "call", "wire js-f")
    lanes.answer(other, "", BodyDone(b'{"got":7}'))
    finished = json.loads(the(lanes.facts, FUNCTION_FINISHED).data)
    assert list(finished) == [
        "_inngest", "correlation_id", "event", "events", "function_id", "result", "run_id",
    ]  # fmt: skip
    assert finished["correlation_id"] == about["correlation_id"] and finished["event"]["data"] == data


def test_an_invocation_from_outside_says_what_was_recorded_of_one() -> None:
    assert of_request("wire py-no-steps") == ASKED_FOR
    assert list(of_request("f")) == list(ASKED_FOR)


def test_the_same_step_invokes_under_the_same_id_when_it_is_decided_again() -> None:
    one, two = (of_step("f", "run", "step", name="n", source="p", until_ms=5) for _ in range(2))
    assert one == two != of_step("f", "run", "other", name="n", source="p", until_ms=5)


@pytest.mark.parametrize(
    ("data", "rest"),
    [
        (b"{}", {}),
        (b' { "a" : 1 } ', {"a": 1}),
        (b'{"_inngest":{"correlation_id":"forged"},"a":1}', {"a": 1}),
        (b'{"\\u005finngest":1,"a":"\\u00e9"}', {"a": "\u00e9"}),
    ],
)
def test_the_member_stands_beside_the_caller_s_data_and_is_nobody_else_s(data: bytes, rest: dict[str, Any]) -> None:
    written = with_invocation(data, {"fn_id": "f"})
    assert json.loads(written) == {"_inngest": {"fn_id": "f"}, **rest}
    assert written.count(b"inngest") == 1


@pytest.mark.parametrize("data", [b"", b"[1]", b'{"_inngest":', b'{"_inngest":x}', b"null"])
def test_data_that_is_no_object_stays_as_it_is(data: bytes) -> None:
    assert with_invocation(data, {"fn_id": "f"}) == data


@pytest.mark.parametrize(
    "data", [b"{}", b"[]", b"{broken", b'{"_inngest":1}', b'{"_inngest":{"correlation_id":5}}', b"[" * 100_000]
)
def test_an_invocation_that_names_nobody_has_nobody_who_waits(data: bytes) -> None:
    invoked = replace(event(data=data), name=FUNCTION_INVOKED)
    assert correlation_of(invoked) == ""
    forged = Envelope("1", "1", False, "order/placed", b'{"_inngest":{"correlation_id":"x.y"}}', 0, 0)
    assert correlation_of(forged) == ""


def test_a_tick_says_its_time_as_it_was_recorded() -> None:
    tick = tick_event("wire js-cron", "* * * * *", 1_795_357_080_000, 1_795_357_080_900)
    assert json.loads(tick.data) == {
        "cron": "* * * * *", "fireAt": "2026-11-22T14:18:00Z", "scheduledAt": "2026-11-22T14:18:00Z",
    }  # fmt: skip
    assert (tick.id, tick.name, tick.ts_ms) == ("2026-11-22T14:18:00Z", "inngest/scheduled.timer", 1_795_357_080_000)
