"""Does JSON come out of user code, and back into the types it declares?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TypedDict

import msgspec
import pytest

from millstream import Event, NonRetriableError, UnserialisableResult, event_record
from millstream.errors import BadRequest, LimitExceeded
from millstream.sdk.outgoing import envelope_of
from millstream.sdk.payloads import encode, read, reader_of, result_reader
from millstream.wire.events_topic import Written, read_event


@dataclass
class Order:
    cents: int


class Mail(TypedDict):
    to: str


class Point(msgspec.Struct):
    x: int


class Pair(NamedTuple):
    a: int
    b: int


class Model:
    """What pydantic's models look like from outside."""

    def __init__(self, n: int) -> None:
        self.n = n

    def model_dump(self, mode: str) -> dict[str, int]:
        return {"n": self.n}

    @classmethod
    def model_validate_json(cls, data: bytes) -> Model:
        return cls(msgspec.json.decode(data)["n"])


@pytest.mark.parametrize(
    ("value", "json"),
    [(None, b"null"), ((1, 2), b"[1,2]"), (Order(5), b'{"cents":5}'), (Model(3), b'{"n":3}'),
     ({"at": datetime(2026, 1, 2, tzinfo=UTC)}, b'{"at":"2026-01-02T00:00:00Z"}'), ({1: "a"}, b'{"1":"a"}')],
)  # fmt: skip
def test_results_become_json(value: object, json: bytes) -> None:
    assert encode(value, "x") == json


def looped() -> list[object]:
    inner: list[object] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    ("value", "path"),
    [(object(), "$"), ({"a": [1, {"b": object()}]}, "$.a[1].b"), (Order(object()), "$.cents"),  # type: ignore[arg-type]
     (Point(lambda: 1), "$.x"), ([1, "\ud800"], "$[1]"), (looped(), "$[0]")],
)  # fmt: skip
def test_what_is_not_json_is_named_by_its_path(value: object, path: str) -> None:
    with pytest.raises(UnserialisableResult) as refused:
        encode(value, "the result")
    assert f"{path} is a" in str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "json", "value"),
    [(Order, b'{"cents":5}', Order(5)), (list[Point], b'[{"x":1}]', [Point(1)]), (Pair, b"[1,2]", Pair(1, 2)),
     (Order | None, b"null", None), (dict[str, Order], b'{"a":{"cents":1}}', {"a": Order(1)}),
     (Mail, b'{"to":"x"}', {"to": "x"})],
)  # fmt: skip
def test_json_is_read_into_structured_types(wanted: object, json: bytes, value: object) -> None:
    assert read(json, reader_of(wanted), "x") == value


@pytest.mark.parametrize("wanted", [int, dict, dict[str, int], None, object, "nothing", list[int]])
def test_other_types_stay_plain_json(wanted: object) -> None:
    assert reader_of(wanted) is None


def test_models_that_validate_json_themselves_are_asked_to() -> None:
    read_back = read(b'{"n":4}', reader_of(Model), "x")
    assert isinstance(read_back, Model) and read_back.n == 4


def test_a_misfit_names_the_field() -> None:
    with pytest.raises(NonRetriableError, match=r"\$.cents"):
        read(b'{"cents":"5"}', reader_of(Order), "the data")


def test_the_return_annotation_says_what_a_result_is_read_into() -> None:
    async def charge() -> Order:
        return Order(1)

    def plain() -> dict[str, int]:
        return {}

    for _ in range(2):  # The second answer comes from the cache.
        reader = result_reader(charge)
        assert reader is not None and reader(b'{"cents":1}') == Order(1)
        assert result_reader(plain) is None
    assert result_reader(print) is None and result_reader(lambda: 1) is None


def test_events_are_checked_before_they_leave() -> None:
    sent = envelope_of(Event("a/b", {"n": 1}, id="i", key="k", user={"u": 1}), 1_800_000_000_000)
    assert (sent.name, sent.data, sent.id, sent.id_is_clients, sent.key, sent.user) == (
        "a/b", b'{"n":1}', "i", True, "k", b'{"u":1}',
    )  # fmt: skip
    assert envelope_of(Event("a"), 1_800_000_000_000).id == ""
    for wrong in (
        Event(""),
        Event("inngest/x"),
        Event("a", id=""),
        Event("a", ts=5),
        Event("a" * 2_000),
        Event("a", key="k" * 1_025),
    ):
        with pytest.raises(BadRequest):
            envelope_of(wrong, 1_800_000_000_000)
    with pytest.raises(LimitExceeded):
        envelope_of(Event("a", {"x": "y" * 4_000_000}), 1_800_000_000_000)


def test_a_record_for_the_events_topic_is_what_a_lane_reads() -> None:
    key, value = event_record(Event("order/placed", {"n": 1}, id="order-1", ts=1_800_000_000_000))
    read = read_event(Written("events", 0, 7, 1_800_000_000_001), value)
    assert (key, read.name, read.data, read.id, read.id_is_clients, read.ts_ms) == (
        b"order-1", "order/placed", b'{"n":1}', "order-1", True, 1_800_000_000_000,
    )  # fmt: skip
    assert event_record(Event("order/placed", id="order-1", key="customer-7")).key == b"customer-7"
    assert event_record(Event("order/placed")).key is None
    with pytest.raises(BadRequest, match="server's own"):
        event_record(Event("inngest/function.finished"))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"user": "x"}, "user must be a JSON object"),
        ({"meta": [1]}, "meta must be a JSON object"),
        ({"id": 5}, "id must be a string"),
        ({"key": "\ud800"}, "key is no Unicode text"),
        ({"v": b"1"}, "v must be a string"),
        ({"ts": 1.8e12}, "ts must be Unix milliseconds, an int"),
        ({"ts": True}, "ts must be Unix milliseconds, an int"),
    ],
)
def test_what_a_lane_would_refuse_is_refused_where_the_record_is_made(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        event_record(Event("a", **wrong))  # type: ignore[arg-type]
