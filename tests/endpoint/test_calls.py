"""Is a dispatch the call that the SDKs were recorded to get?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec.structs import replace

from millstream.errors import INVOKE_TIMEOUT
from millstream.execute.endpoint.calls import (
    EVENTS_BESIDE_API_BYTES,
    USE_API_BYTES,
    Target,
    call_of,
)
from millstream.execute.port import RunView
from millstream.model.effects import Execute
from millstream.model.event import Envelope
from millstream.model.operations import failure_json
from millstream.model.rows import Hand, RunRow, StepRow
from millstream.model.waits.awaited import AwaitedSignal
from millstream.wire.app_urls import call_url
from millstream.wire.canonical_json import canonical_json
from millstream.wire.step_memos import TIMED_OUT, memo_of
from tests.endpoint.recordings import RECORDED, SERVE, Exchange, dispatch_of

NOT_OURS = {"fn_id", "qi_id"}
"""What was recorded and we leave out: with it an SDK would report to another API."""
OTHERWISE = {"request_id", "job_id", "generation_id"}


def exchanges() -> Iterator[object]:
    for scenario, recorded in RECORDED.items():
        for number, exchange in enumerate(recorded):
            yield pytest.param(exchange, id=f"{scenario}-{number}")


@pytest.mark.parametrize("exchange", [*exchanges()])
def test_a_call_is_as_it_was_recorded(exchange: Exchange) -> None:
    recorded = exchange["call"]["body"]
    view, effect = dispatch_of(exchange)
    target = Target(url=SERVE, retries=recorded["ctx"]["max_attempts"] - 1, version=recorded["version"])
    call = call_of(view, effect, target, "request")
    made = json.loads(call.body)
    context, expected = made.pop("ctx"), dict(recorded)
    expected_context = dict(expected.pop("ctx"))
    assert made == expected
    order = context.pop("stack")["stack"]  # In a race ``current`` was how many there were when the call was planned.
    assert order == expected_context.pop("stack")["stack"]
    if effect.step:  # In a race some were recorded with false; a call about one step never runs another.
        assert context.pop("disable_immediate_execution") is True
        del expected_context["disable_immediate_execution"]
    assert {k: v for k, v in context.items() if k not in OTHERWISE} == {
        k: v for k, v in expected_context.items() if k not in OTHERWISE | NOT_OURS
    }
    assert parse_qs(urlsplit(call.url).query) == parse_qs(urlsplit(exchange["call"]["url"]).query)
    assert call.headers["X-Run-Id"] == context["run_id"]
    assert call.headers["X-Inngest-Req-Version"] == str(recorded["version"])
    assert call.headers["X-Inngest-Step-Id"] == (effect.step or "step")


def view_of(*rows: StepRow, data: bytes = b'{"n":1}', **run: int) -> RunView:
    event = Envelope("e", "e", False, "order/placed", data, 5, 5)
    return RunView(RunRow("r", "shop-f", ("e",), "", 0, resolved=len(rows), **run), (event,), rows)


def body_of(view: RunView, effect: Execute | None = None, **target: object) -> dict[str, object]:
    made = call_of(view, effect or Execute("r", "shop-f", "", 0, 1), Target(url=SERVE, retries=4, **target), "q")  # type: ignore[arg-type]
    assert canonical_json(made.body) == made.body
    body: dict[str, object] = json.loads(made.body)
    return body


@pytest.mark.parametrize(
    ("serve", "url"),
    [
        ("http://h/api/inngest", "http://h/api/inngest?fnId=my+app-f%26g&stepId=step"),
        ("http://h/api?tenant=a%20b", "http://h/api?tenant=a%20b&fnId=my+app-f%26g&stepId=step"),
        ("http://h/api?fnId=old&x=1&stepId=old", "http://h/api?x=1&fnId=my+app-f%26g&stepId=step"),
        ("http://h/api#part", "http://h/api?fnId=my+app-f%26g&stepId=step"),
    ],
)
def test_the_url_has_function_and_step_and_keeps_other_parameters(serve: str, url: str) -> None:
    assert call_url(serve, "my app-f&g", "") == url


def test_steps_are_run_at_once_only_where_the_body_waits_for_no_others() -> None:
    def at_once(view: RunView, **target: object) -> bool:
        return body_of(view, **target)["ctx"]["disable_immediate_execution"] is False  # type: ignore[index]

    assert at_once(view_of())
    assert not at_once(view_of(pending=1))
    assert not at_once(view_of(), plans=True)
    step = StepRow("r", "s", "s", "run", Hand.OUT, 1, 2)
    targeted = body_of(view_of(step, pending=1), Execute("r", "shop-f", "s", 1, 2))["ctx"]
    assert targeted["disable_immediate_execution"] is True and targeted["attempt"] == 1  # type: ignore[index]


def test_retries_of_a_dispatch_have_one_job_and_count_generations() -> None:
    first, second = (body_of(view_of(), Execute("r", "shop-f", "", attempt, 1))["ctx"] for attempt in (0, 1))
    assert first["job_id"] == second["job_id"]  # type: ignore[index]
    assert (first["generation_id"], second["generation_id"]) == (1, 2)  # type: ignore[index]
    done = StepRow("r", "s", "s", "run", Hand.DONE, order=1, data=b"1")
    assert body_of(view_of(done))["ctx"]["job_id"] != first["job_id"]  # type: ignore[index]


def test_a_run_that_is_too_large_for_a_call_is_asked_for() -> None:
    half = b'"' + b"x" * (USE_API_BYTES // 2) + b'"'
    small = [StepRow("r", str(n), "", "run", Hand.DONE, order=n + 1, data=half) for n in range(1)]
    large = [*small, StepRow("r", "1", "", "run", Hand.DONE, order=2, data=half)]
    assert body_of(view_of(*small))["use_api"] is False
    body = body_of(view_of(*large))
    assert body["use_api"] is True and body["ctx"]["use_api"] is True and body["steps"] == {}  # type: ignore[index]
    assert body["ctx"]["stack"] == {"current": 2, "stack": ["0", "1"]}  # type: ignore[index]
    assert body["event"]["data"] == {"n": 1}  # type: ignore[index]


def test_events_that_are_too_large_are_asked_for_too() -> None:
    data = b'{"text":"%b"}' % (b"x" * EVENTS_BESIDE_API_BYTES)
    event = Envelope("e", "e", False, "big", data, 5, 5)
    view = replace(view_of(), events=(event,) * 3)
    body = body_of(view)
    assert body["use_api"] is True
    assert body["event"] == {"data": {}, "id": "e", "name": "big", "ts": 5, "user": {}} and body["events"] == [
        body["event"]
    ]


def test_a_step_is_remembered_under_one_key() -> None:
    def memo(kind: str, data: bytes, hand: Hand = Hand.DONE) -> object:
        remembered = memo_of(StepRow("r", "s", "s", kind, hand, data=data))
        return None if remembered is None else json.loads(remembered)

    assert memo("run", b"null") == {"data": None}
    assert memo("gateway", b'{"status_code":200}') == {"data": {"status_code": 200}}
    assert memo("invoke", b"[1]") == {"data": [1]}
    assert (
        memo("sleep", b"null") is None and memo_of(StepRow("r", "s", "s", "sleep", Hand.DONE, data=b"null")) == b"null"
    )
    came = {"name": "a", "data": {"key": 1}, "id": "i", "ts": 5}
    assert memo("wait_for_event", json.dumps({**came, "key": "k"}).encode()) == {**came, "user": {}}
    assert memo("wait_for_event", b"null") is None and memo("wait_for_signal", b"null") is None
    signal = StepRow("r", "s", "s", "wait_for_signal", Hand.DONE, data=b"null", awaits=AwaitedSignal("sig", came=True))
    assert memo_of(signal) == b'{"data":{"data":null,"signal":"sig"}}'
    failed = failure_json("TypeError", "no", "at f", b'{"cause":{"a":1},"__serialized":true}')
    assert memo("run", failed, Hand.FAILED) == {
        "error": {"name": "TypeError", "message": "no", "stack": "at f", "cause": {"a": 1}}
    }
    late = failure_json(INVOKE_TIMEOUT, "run 01 of shop-f was not over in time", "")
    assert memo("invoke", late, Hand.FAILED) == {
        "error": {"error": f"{INVOKE_TIMEOUT}: {TIMED_OUT}", "message": TIMED_OUT, "name": INVOKE_TIMEOUT}
    }
    assert memo_of(StepRow("r", "s", "s", "run", Hand.OUT)) is None
