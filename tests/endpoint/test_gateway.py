"""Are the requests that steps ask for made as the SDKs' users expect, and are their answers what steps get?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from millstream.execute.endpoint.endpoints import EndpointSettings
from millstream.execute.endpoint.gateway import AI_KIND, KIND, request_of
from millstream.execute.endpoint.guard import Guard
from millstream.execute.endpoint.opcodes import Malformed
from millstream.model.commands import SendSignal
from millstream.model.facts import StepAttemptFailed, WaitStarted
from tests.endpoint.lane import lane_for, until
from tests.endpoint.recordings import RECORDED
from tests.endpoint.servers import Request, listening, response

STEP = "aa" * 20


def asking(op: dict[str, Any], seen: list[Any]) -> Any:
    """An app that asks for one step and returns what it gets."""

    def answer(request: Request) -> bytes:
        memo = json.loads(request.body)["steps"].get(STEP, seen)
        if memo is seen:
            return response(206, [{"id": STEP, "displayName": "ask", **op}])
        seen.append(memo)
        return response(200, "done")

    return answer


def opts_of(scenario: str) -> bytes:
    (op,) = RECORDED[scenario][0]["reply"]["body"]
    return json.dumps(op["opts"]).encode()


def test_a_fetch_is_the_request_that_was_recorded() -> None:
    request = request_of(KIND, opts_of("js-fetch"))
    assert (request.method, request.body) == ("POST", b'{"q":1}')
    assert request.headers == {"User-Agent": "Millstream", "X-A": "b"}


@pytest.mark.parametrize("scenario", ["js-ai-infer", "py-ai-infer"])
def test_an_inference_has_the_key_where_its_provider_wants_it(scenario: str) -> None:
    request = request_of(AI_KIND, opts_of(scenario))
    assert request.method == "POST" and json.loads(request.body or b"")["model"] == "m"
    assert request.headers["X-Api-Key"] == "KEY" and request.headers["Content-Type"] == "application/json"
    assert "Authorization" not in request.headers
    assert all(part == part.capitalize() for name in request.headers for part in name.split("-"))


@pytest.mark.parametrize(
    ("format", "header", "value"),
    [
        ("openai-chat", "Authorization", "Bearer K"),
        ("openai-responses", "Authorization", "Bearer K"),
        ("anthropic", "X-Api-Key", "K"),
        ("azure-openai", "Api-Key", "K"),
        ("gemini", "X-Goog-Api-Key", "K"),
        ("of tomorrow", "Authorization", "Bearer K"),
    ],
)
def test_each_format_has_its_header(format: str, header: str, value: str) -> None:
    opts = {"url": "https://ai.example/v1", "format": format, "auth_key": "K", "body": {}, "headers": {"x-own": "1"}}
    assert request_of(AI_KIND, json.dumps(opts).encode()).headers[header] == value
    own = {**opts, "headers": {header.lower(): "mine"}}
    assert request_of(AI_KIND, json.dumps(own).encode()).headers[header] == "mine"


def test_a_provider_without_a_url_is_asked_where_it_is() -> None:
    opts = {"format": "openai-chat", "auth_key": "K", "body": {}, "url": None}
    assert request_of(AI_KIND, json.dumps(opts).encode()).url == "https://api.openai.com/v1/chat/completions"
    key_in_url = {**opts, "format": "gemini", "url": "https://g.example/m?key=K"}
    assert "X-Goog-Api-Key" not in request_of(AI_KIND, json.dumps(key_in_url).encode()).headers


@pytest.mark.parametrize(
    ("kind", "opts"),
    [
        (KIND, b"[]"),
        (KIND, b'{"method":"GET"}'),
        (KIND, b'{"url":"http://x","method":"G T"}'),
        (KIND, b'{"url":"http://x","headers":[1]}'),
        (AI_KIND, b'{"format":"none"}'),
        (AI_KIND, b'{"format":"gemini","auth_key":"k","url":"http://[oops/"}'),
        (KIND, b'{"url":"http://x","method":"POST","body":"\\ud800"}'),
    ],
)
def test_a_request_that_cannot_be_made_is_refused(kind: str, opts: bytes) -> None:
    with pytest.raises(Malformed):
        request_of(kind, opts)


async def test_any_status_of_a_fetch_is_an_answer() -> None:
    seen: list[Any] = []
    teapot = {"x-own-header": "v", "content-type": "text/plain"}
    async with listening(lambda request: response(418, b"teapot", teapot)) as outside:
        opts = {
            "url": f"http://127.0.0.1:{outside.port}/tea?x=1",
            "method": "PUT",
            "headers": {"x-a": "b"},
            "body": "q",
        }
        op = {"op": "Gateway", "opts": opts}
        async with listening(asking(op, seen)) as app, lane_for(app.url, retries=0) as lane:
            assert await lane.done(await lane.send()) == "done"
        (request,) = outside.requests
        assert request.line == "PUT /tea?x=1 HTTP/1.1" and request.body == b"q" and request.headers["x-a"] == "b"
        headers = {"Content-Length": "6", "Content-Type": "text/plain", "X-Own-Header": "v"}
        assert seen == [
            {"data": {"body": "teapot", "headers": headers, "status_code": 418, "url": opts["url"]}},
        ]


async def test_a_provider_that_is_busy_is_asked_again_and_one_that_refuses_is_not() -> None:
    seen: list[Any] = []
    answers = [response(503, b"busy"), response(200, {"content": "hi"})]
    async with listening(lambda request: answers.pop(0)) as outside:
        opts = {"url": outside.url, "format": "anthropic", "auth_key": "K", "body": {}, "headers": {}}
        op = {"op": "AIGateway", "opts": opts}
        async with listening(asking(op, seen)) as app, lane_for(app.url, retries=1) as lane:
            assert await lane.done(await lane.send()) == "done"
            (failed,) = lane.of(StepAttemptFailed)
            assert failed.error_name == "AIGatewayError" and "status 503: busy" in failed.error_message
        assert seen == [{"data": {"content": "hi"}}]
        seen.clear()
        answers.append(response(400, {"error": "no such model"}))
        async with listening(asking(op, seen)) as app, lane_for(app.url, retries=5) as lane:
            assert await lane.done(await lane.send()) == "done"
            assert not lane.of(StepAttemptFailed)
        (memo,) = seen
        assert memo["error"]["name"] == "AIGatewayError" and "no such model" in memo["error"]["message"]


async def test_a_fetch_leads_where_calls_may_lead_and_nowhere_else() -> None:
    seen: list[Any] = []
    async with listening(lambda request: response(200)) as inside, listening(asking({}, seen)) as app:
        op = {"op": "Gateway", "opts": {"url": inside.url}}
        app.answer = lambda request: _async(asking(op, seen)(request))
        guard = Guard.of([f"127.0.0.{n}/32" for n in (1,)])
        async with lane_for(app.url, EndpointSettings(guard=guard), retries=0) as lane:
            op["opts"] = {"url": inside.url.replace("127.0.0.1", "127.0.0.3")}
            assert await lane.done(await lane.send()) == "done"
        (memo,) = seen
        assert memo["error"]["name"] == "GatewayError" and "not of the public internet" in memo["error"]["message"]
        assert not inside.requests


async def _async(value: bytes) -> bytes:
    return value


async def test_a_redirect_of_a_fetch_is_followed_without_what_was_meant_for_the_first_host() -> None:
    seen: list[Any] = []
    async with listening(lambda request: response(200, b"here")) as second:
        to = response(302, b"", {"location": f"http://127.0.0.1:{second.port}/b"})
        async with listening(lambda request: to) as first:
            opts = {"url": first.url, "headers": {"authorization": "secret", "x-a": "b"}}
            op = {"op": "Gateway", "opts": opts}
            async with listening(asking(op, seen)) as app, lane_for(app.url, retries=0) as lane:
                assert await lane.done(await lane.send()) == "done"
        (request,) = second.requests
        assert "authorization" not in request.headers and request.headers["x-a"] == "b"
        assert seen[0]["data"]["body"] == "here"


async def test_a_redirect_of_a_fetch_to_nowhere_is_its_answer() -> None:
    seen: list[Any] = []
    async with listening(lambda request: response(302, b"gone", {"location": "http://[oops/"})) as outside:
        op = {"op": "Gateway", "opts": {"url": outside.url}}
        async with listening(asking(op, seen)) as app, lane_for(app.url, retries=0) as lane:
            assert await lane.done(await lane.send()) == "done"
    assert (seen[0]["data"]["status_code"], seen[0]["data"]["body"]) == (302, "gone")


async def test_a_signal_comes_with_its_name() -> None:
    seen: list[Any] = []
    op = {"op": "WaitForSignal", "name": "sig-1", "opts": {"signal": "sig-1", "timeout": "1h"}}
    async with listening(asking(op, seen)) as app, lane_for(app.url, retries=0) as lane:
        run = await lane.send()
        await until(lambda: lane.of(WaitStarted))
        lane.submit(SendSignal("sig-1", b'{"ok":true}'))
        assert await lane.done(run) == "done"
    assert seen == [{"data": {"data": {"ok": True}, "signal": "sig-1"}}]
