"""Is each reply of the SDKs understood, and is what is none said in words?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from millstream.execute.endpoint.opcodes import OPCODES
from millstream.execute.endpoint.replies import Answered, Reply, read_reply
from millstream.execute.endpoint.retry_after import retry_after_ms
from millstream.model import limits
from millstream.model.operations import (
    BodyDone,
    BodyErrored,
    InvokeFound,
    SignalWaitFound,
    SleepFound,
    StepDone,
    StepErrored,
    StepFound,
    WaitFound,
)
from tests.endpoint.recordings import RECORDED, Exchange

NOW_MS = 1_795_356_800_000
STARTED_MS = NOW_MS - 40
URL = "http://127.0.0.1:3000/api/inngest"
SDK = {"x-inngest-sdk": "inngest-js:v4.24.0", "x-inngest-req-version": "2", "content-type": "application/json"}
STEP = "fe05bcdcdc4928012781a5f1a2a77cbb5398e106"


def read(status: int, body: object, headers: dict[str, str] | None = None, **more: str) -> Answered:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = SDK if headers is None else headers
    return read_reply(Reply(status, {**given, **more}, data, STARTED_MS, NOW_MS), URL, "shop-go")


def one(op: str, **fields: Any) -> Any:
    """The operation that an opcode becomes."""
    (operation,) = read(206, [{"op": op, "id": STEP, "displayName": "shown", **fields}]).operations
    return operation


def exchanges() -> Iterator[object]:
    for scenario, recorded in RECORDED.items():
        for number, exchange in enumerate(recorded):
            yield pytest.param(exchange, id=f"{scenario}-{number}")


@pytest.mark.parametrize("exchange", [*exchanges()])
def test_every_recorded_reply_is_understood(exchange: Exchange) -> None:
    reply = exchange["reply"]
    answered = read(reply["status"], reply["body"], reply["headers"])
    assert not answered.trouble
    if reply["status"] == 206:
        assert answered.version == 2
        kinds = {
            "StepRun": StepDone, "StepError": StepErrored, "StepFailed": StepErrored, "StepPlanned": StepFound,
            "Sleep": SleepFound, "WaitForEvent": WaitFound, "WaitForSignal": SignalWaitFound,
            "InvokeFunction": InvokeFound,
        }  # fmt: skip
        known = [op for op in reply["body"] if op["op"] in kinds]
        assert [type(o) for o in answered.operations if not isinstance(o, BodyErrored)][: len(known)] == [
            kinds[op["op"]] for op in known
        ]
        assert [o.step for o in answered.operations if isinstance(o, StepDone)] == [
            op["id"] for op in reply["body"] if op["op"] == "StepRun"
        ]
    elif reply["status"] == 200:
        (done,) = answered.operations
        assert isinstance(done, BodyDone) and json.loads(done.result) == reply["body"]
    else:
        (errored,) = answered.operations
        assert isinstance(errored, BodyErrored)
        assert errored.failure.name == reply["body"]["name"] and errored.failure.message == reply["body"]["message"]
        assert errored.retriable == (reply["headers"].get("x-inngest-no-retry") != "true")
        assert (errored.retry_after_ms >= 0) == ("retry-after" in reply["headers"])


def test_parallel_groups_are_joint_as_their_sdk_wants_them() -> None:
    def joint(scenario: str) -> list[bool | None]:
        return [read(e["reply"]["status"], e["reply"]["body"], e["reply"]["headers"]).joint for e in RECORDED[scenario]]

    assert [flag for flag in joint("py-parallel-wait") if flag is not None] == [True, True]
    assert set(joint("js-parallel-race")) == {False, None}
    two = [{"op": "StepPlanned", "id": "a"}, {"op": "StepPlanned", "id": "b"}]
    assert read(206, two, {**SDK, "x-inngest-req-version": "1"}).joint is False  # Before version 4 of the TS SDK.
    assert read(206, two[:1]).joint is None


def test_a_step_that_ran() -> None:
    assert one("StepRun", data={"a": 1}, timing={"a": (NOW_MS - 7) * 1_000_000, "b": 5}) == StepDone(
        STEP, "shown", b'{"a": 1}', NOW_MS - 7
    )
    assert one("Step", data=None) == StepDone(STEP, "shown", b"null", STARTED_MS)
    assert one("StepRun", data=1, displayName=None, name="name").name == "name"


def test_text_that_was_cut_within_a_character_is_a_result_like_any_other() -> None:
    body = b'[{"op":"StepRun","id":"s","data":"party \\ud83c"}]'
    (step,) = read(206, body).operations
    assert isinstance(step, StepDone) and step.data == b'"party \\ufffd"'
    assert read(200, b'"\\ud83c"').operations == (BodyDone(b'"\\ufffd"'),)


def test_what_json_does_not_have_is_said() -> None:
    (refused,) = read(206, b'[{"op":"StepRun","id":"s","data":NaN}]').operations
    assert isinstance(refused, BodyErrored) and "such as NaN" in refused.failure.message


def test_a_version_and_a_status_that_are_no_numbers_are_none() -> None:
    assert read(206, [], **{"x-inngest-req-version": "\u00b2"}).version == -1
    (refused,) = read(201, b'{"status": 1e999, "body": ""}').operations
    assert isinstance(refused, BodyErrored) and "ended without a reply" in refused.failure.message


def test_a_step_that_failed() -> None:
    error = {"name": "ValueError", "message": "no", "stack": "at f", "code": "unknown", "cause": [1]}
    failed = one("StepError", error=error)
    assert (failed.failure.name, failed.failure.message, failed.failure.stack) == ("ValueError", "no", "at f")
    assert json.loads(failed.failure.more) == {"code": "unknown", "cause": [1]}
    assert failed.retriable and failed.retry_after_ms == -1
    assert not one("StepError", error={**error, "noRetry": True}).retriable
    assert not one("StepFailed", error=error).retriable
    (told,) = read(206, [{"op": "StepError", "id": STEP, "error": error}], **{"retry-after": "2"}).operations
    assert isinstance(told, StepErrored) and told.retry_after_ms == 2_000
    (final,) = read(206, [{"op": "StepError", "id": STEP}], **{"x-inngest-no-retry": "true"}).operations
    assert isinstance(final, StepErrored) and not final.retriable and "gave no error" in final.failure.message


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"name": "1s"}, (1_000, -1)),
        ({"name": "1d2h3m4s"}, (93_784_000, -1)),
        ({"name": "1m0.5s"}, (60_500, -1)),
        ({"opts": {"duration": "2w"}, "name": "nap"}, (1_209_600_000, -1)),
        ({"name": "2026-11-22T14:12:41.233Z"}, (0, 1_795_356_761_233)),
        ({"opts": {"until": "2026-11-22T15:12:41+01:00"}}, (0, 1_795_356_761_000)),
    ],
)
def test_a_sleep_is_a_length_or_an_instant(fields: dict[str, Any], found: tuple[int, int]) -> None:
    sleep = one("Sleep", **fields)
    assert (sleep.length_ms, sleep.until_ms) == found


def test_waits() -> None:
    wait = one("WaitForEvent", name="a/b", opts={"if": "event.data.id == async.data.id", "timeout": "10s"})
    assert (wait.conditions[0].event, wait.conditions[0].expression) == ("a/b", "event.data.id == async.data.id")
    assert wait.timeout_ms == 10_000
    own = one("WaitForEvent", name="x", opts={"event": "a/c", "if": None, "timeout": "2026-11-22T14:13:21Z"})
    assert (own.conditions[0].event, own.timeout_ms) == ("a/c", 1_000)
    assert one("WaitForEvent", name="a", opts={"timeout": ""}).timeout_ms == 0
    signal = one("WaitForSignal", name="s", opts={"signal": "sig", "timeout": "1h", "conflict": "replace"})
    assert (signal.signal, signal.timeout_ms, signal.replaces) == ("sig", limits.HOUR_MS, True)


def test_an_invoke() -> None:
    opts = {"function_id": "shop-child", "payload": {"data": {"n": 7}, "v": None}, "timeout": None}
    invoke = one("InvokeFunction", opts=opts)
    assert (invoke.function, json.loads(invoke.data)) == ("shop-child", {"n": 7})
    assert invoke.timeout_ms == limits.WAIT_MS_MAX
    assert (invoke.meta, invoke.v) == (b"", "")
    carried = {"data": {"n": 7}, "meta": {"trace": "x"}, "v": "2"}
    invoke = one("InvokeFunction", opts={"function_id": "f", "payload": carried})
    assert (invoke.meta, invoke.v) == (b'{"trace":"x"}', "2")
    assert one("InvokeFunction", opts={"function_id": "f", "payload": {"data": None}, "timeout": "1s"}).data == b"{}"


def test_of_less_than_a_second_version_3_of_the_sdk_leaves_nothing() -> None:
    assert one("Sleep", name="", displayName="rest") == SleepFound(STEP, "rest", 0, -1)
    wait = one("WaitForEvent", name="e", opts={"event": "e", "timeout": ""})
    invoke = one("InvokeFunction", opts={"function_id": "f", "payload": {}, "timeout": ""})
    assert isinstance(wait, WaitFound) and isinstance(invoke, InvokeFound)
    assert (wait.timeout_ms, invoke.timeout_ms) == (0, 0)


def test_waits_come_before_the_steps_beside_them() -> None:
    ops = [
        {"op": "StepPlanned", "id": "a"},
        {"op": "WaitForEvent", "id": "b", "name": "e", "opts": {"timeout": "1s"}},
    ]
    assert [type(o) for o in read(206, ops).operations] == [WaitFound, StepFound]


def test_the_end_of_a_run_and_nothing() -> None:
    assert one("RunComplete", data={"a": 1}) == BodyDone(b'{"a": 1}')
    assert read(206, []).operations == read(206, [{"op": "None"}]).operations == ()
    assert read(200, b"").operations == (BodyDone(b"null"),)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([{"op": "DeferAdd", "id": STEP}], "opcode 'DeferAdd', which this server does not know"),
        ([{"op": "StepRun", "data": 1}], "no id of a step"),
        ([{"id": STEP}], "an operation that is none"),
        ([{"op": "Sleep", "id": STEP, "name": "soon"}], "a time that is none"),
        ([{"op": "Sleep", "id": STEP}], "said no time"),
        ([{"op": "WaitForEvent", "id": STEP, "opts": {"if": 7, "timeout": "1s"}, "name": "e"}], "whose if is no text"),
        ([{"op": "WaitForEvent", "id": STEP, "opts": {"timeout": "1s"}}], "named no event"),
        ([{"op": "InvokeFunction", "id": STEP, "opts": {}}], "named none"),
        (
            [{"op": "InvokeFunction", "id": STEP, "opts": {"function_id": "f", "payload": {"meta": 1}}}],
            "meta that is no JSON object",
        ),
        (
            [{"op": "InvokeFunction", "id": STEP, "opts": {"function_id": "f", "payload": {"data": [1]}}}],
            "no JSON object",
        ),
        (["StepRun"], "an operation that is none"),
        ({"op": "StepRun"}, "no JSON array"),
        (b"[", "no JSON array"),
        (b'["\xff"]', "no JSON array"),
    ],
)
def test_what_cannot_be_carried_out_is_an_error_in_words_and_what_was_done_stays(body: Any, words: str) -> None:
    if isinstance(body, list):
        body = [{"op": "StepRun", "id": "done", "data": 1}, *body]
    answered = read(206, body)
    *done, errored = answered.operations
    assert isinstance(errored, BodyErrored) and words in errored.failure.message, errored
    assert len(done) == isinstance(body, list)


def test_every_opcode_of_the_protocol_is_known() -> None:
    ran = {"Step", "StepRun", "StepError", "StepFailed", "StepPlanned"}
    waits = {"Sleep", "WaitForEvent", "WaitForSignal", "InvokeFunction", "Gateway", "AIGateway"}
    assert set(OPCODES) >= ran | waits | {"RunComplete", "SyncRunComplete", "DiscoveryRequest", "None"}


@pytest.mark.parametrize("status", [200, 206, 500])
def test_an_answer_that_is_nested_too_deeply_is_an_error_in_words(status: int) -> None:
    (errored,) = read(status, b"[" * 5_000 + b"]" * 5_000).operations
    assert isinstance(errored, BodyErrored) and errored.retriable
    assert "InternalError" not in errored.failure.name and "the app answered" in errored.failure.message


def test_a_stream_holds_its_reply() -> None:
    inside = {"status": 206, "headers": SDK, "body": json.dumps([{"op": "StepRun", "id": STEP, "data": 3}])}
    body = b"   " * 40 + json.dumps(inside).encode()
    assert (
        read(201, body, {"content-type": "application/json"}).operations
        == read(206, [{"op": "StepRun", "id": STEP, "data": 3}]).operations
    )
    (cut,) = read(201, b"    ").operations
    assert isinstance(cut, BodyErrored) and "stream" in cut.failure.message and cut.retriable


def test_an_error_without_the_form_of_one_is_shown_as_it_is() -> None:
    (errored,) = read(500, b"out of memory").operations
    assert isinstance(errored, BodyErrored) and errored.retriable
    assert errored.failure.message == "the app answered with status 500: out of memory"
    (four,) = read(400, {"name": "E", "message": "m"}, **{"x-inngest-no-retry": "true"}).operations
    assert isinstance(four, BodyErrored) and not four.retriable
    (open_,) = read(400, {"name": "E", "message": "m"}, **{"x-inngest-no-retry": "false"}).operations
    assert isinstance(open_, BodyErrored) and open_.retriable


HTML = {"content-type": "text/html"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "words", "nothing_ran"),
    [
        (401, {"x-inngest-sdk-handled": "true"}, b'{"message":"Unauthorized"}', "--signing-key", True),
        (401, {}, b"", "a sign-in page, or a protection", True),
        (403, HTML, b"<title>Forbidden</title>", "an HTML page called 'Forbidden'", True),
        (307, {"location": "https://other.example/api"}, b"", "https://other.example/api", True),
        (404, {}, b"Cannot POST", "has nothing at this path", True),
        (405, {}, b"", "Export GET, POST and PUT", True),
        (413, HTML, b"", "Raise its limit", False),
        (429, {}, b"", "limits how often", True),
        (503, {}, b"", "the app behind it is down", False),
        (504, {}, b"", "raise the proxy's timeout, or make the steps smaller", False),
        (502, HTML, b"<title>502 Bad Gateway</title>", "Bad Gateway", False),
        (500, HTML, b"<title>Oops</title>", "fails before it reaches serve()", False),
        (400, HTML, b"The plain HTTP request was sent to HTTPS port", "no Inngest SDK did", False),
        (200, HTML, b"<html><title>Login</title>", "a proxy drops the x-inngest-sdk header", True),
        (200, {"content-type": "application/json"}, b'{"ok":true}', "x-inngest-sdk header", False),
    ],
)
def test_who_is_no_sdk_is_told_apart_and_whether_any_code_may_have_run(
    status: int, headers: dict[str, str], body: bytes, words: str, nothing_ran: bool
) -> None:
    answered = read(status, body, headers)
    (errored,) = answered.operations
    assert isinstance(errored, BodyErrored) and errored.failure.name == "not_sdk" and errored.retriable
    assert words in answered.trouble == errored.failure.message and URL in answered.trouble
    assert answered.nothing_ran == nothing_ran


@pytest.mark.parametrize(
    "error",
    [
        {"code": "function_not_found", "message": "function shop-go not found", "name": "FunctionNotFoundError"},
        {"type": "internal", "name": "Error", "message": 'Function "shop-go" was not found in this app; is it synced?'},
        {"type": "internal", "name": "Error", "message": "No function ID found in request"},
    ],
)
def test_a_function_that_the_app_does_not_have_is_named_and_has_not_run(error: dict[str, str]) -> None:
    answered = read(500, error)
    assert "does not have function 'shop-go'" in answered.trouble and "apps sync" in answered.trouble
    assert answered.nothing_ran


def test_a_refused_signature_inside_a_stream_is_told_as_one_outside() -> None:
    inside = {"status": 401, "headers": {"x-inngest-sdk-handled": "true"}, "body": '{"message":"Unauthorized"}'}
    answered = read(201, inside)
    assert "--signing-key" in answered.trouble and answered.nothing_ran


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1", 1_000),
        ("9999999", limits.RETRY_AFTER_MS_MAX),
        ("99999999", -1),
        ("2026-11-22T14:13:21.042Z", 1_042),
        ("2026-11-22T14:13:20Z", 0),
        ("Sun, 22 Nov 2026 14:13:25 GMT", 5_000),
        ("2020-01-01T00:00:00Z", 0),
        ("soon", -1),
        ("", -1),
        ("-5", -1),
    ],
)
def test_retry_after_in_its_three_forms(text: str, ms: int) -> None:
    assert retry_after_ms(text, NOW_MS) == ms


def test_a_reply_without_a_right_signature_is_refused_where_calls_are_signed() -> None:
    def verify(header: str, body: bytes) -> bool:
        return header == f"s={len(body)}"

    body = b'"done"'
    for header, good in (("s=6", True), ("s=7", False), ("", False)):
        reply = Reply(200, {**SDK, "x-inngest-signature": header}, body, STARTED_MS, NOW_MS)
        answered = read_reply(reply, URL, "shop-go", verify)
        assert isinstance(answered.operations[0], BodyDone) == good
        assert ("without a signature of this server's signing key" in answered.trouble) != good
        assert not answered.nothing_ran  # It may have, and as a rule has.
    assert msgspec.json.decode(body) == "done"
