"""What counts as an attempt, and what waits until the app is well? A case for each line of ``endpoints.py``'s table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from millstream.execute.endpoint import endpoints
from millstream.execute.endpoint.endpoints import EndpointSettings
from millstream.model.facts import BodyAttemptFailed, DispatchLost, DispatchParked, RunFailed
from millstream.wire.signing import SigningKeys
from tests.endpoint.lane import lane_for, until
from tests.endpoint.servers import AS_AN_SDK, Request, listening, response, three_steps

KEY, OTHER_KEY = "signkey-prod-" + "ab" * 16, "signkey-prod-" + "cd" * 16
HTML = {"content-type": "text/html"}
HANDLED = {"content-type": "application/json", "x-inngest-sdk-handled": "true"}
Answer = Callable[[Request], bytes | None]


def posts(app: Any) -> int:
    """How many calls have come."""
    return len([request for request in app.requests if request.line.startswith("POST")])


class App:
    """An app that answers everything with ``first``, and as an app does once it ``is_well``."""

    def __init__(self, first: bytes | None, *, looks_well: bool = False) -> None:
        self.first, self.looks_well, self.is_well = first, looks_well, False

    def __call__(self, request: Request) -> bytes | None:
        if self.looks_well and request.line.startswith("GET"):
            return AS_AN_SDK
        return three_steps(request) if self.is_well else self.first


REFUSALS = [
    (response(401, {"message": "Unauthorized"}, HANDLED), "is in cloud mode, this server in dev mode"),
    (response(401, b"<title>Sign in</title>", HTML), "a sign-in page, or a protection of deployments"),
    (response(403, b"no", {}), "answered 403 with an answer before any SDK"),
    (response(404, b"Cannot POST", HTML), "has nothing at this path"),
    (response(405, b"", {}), "Export GET, POST and PUT"),
    (response(429, b"", {}), "limits how often it is asked"),
    (response(301, b"", {"location": "https://shop.example/api/inngest"}), "redirects to https://shop.example/api"),
    (response(307, b"", {"location": "http://127.0.0.2/api"}), "redirects to http://127.0.0.2/api"),
    (response(200, b"<title>Welcome</title>", HTML), "an HTML page called 'Welcome'"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
]


@pytest.mark.parametrize(("answer", "words"), REFUSALS)
async def test_where_nothing_ran_and_the_app_is_not_well_runs_wait_and_no_attempt_is_used(
    answer: bytes, words: str
) -> None:
    app = App(answer)
    async with listening(app) as server, lane_for(server.url, retries=0) as lane:
        runs = [await lane.send() for _ in range(3)]
        await until(lambda: len(lane.of(DispatchParked)) == 3)
        assert words in lane.trouble, lane.trouble
        called = posts(server)
        await until(lambda: len(server.requests) - posts(server) >= 3)
        assert posts(server) == called  # It is looked at, and not called.
        app.is_well = True
        assert [await lane.done(run) for run in runs] == ["done"] * 3
        assert not lane.of(BodyAttemptFailed) and not lane.of(DispatchLost) and not lane.trouble


async def test_an_app_in_another_mode_waits_for_its_operator_and_is_not_called() -> None:
    """An app in dev mode runs code for a call and does not sign what came of it."""
    is_signed = False

    def answer(request: Request) -> bytes:
        if not is_signed:
            return three_steps(request) if request.line.startswith("POST") else AS_AN_SDK
        return _signed_answer(request)

    settings = EndpointSettings(keys=SigningKeys.of(KEY))
    async with listening(answer) as server, lane_for(server.url, settings, retries=1) as lane:
        first = await lane.send()
        await until(lambda: lane.of(BodyAttemptFailed))
        assert "is in dev mode, this server in cloud mode" in lane.trouble
        second = await lane.send()
        await until(lambda: {parked.run for parked in lane.of(DispatchParked)} == {first, second})
        assert posts(server) == 1  # The first has used an attempt, since its code may have run; nothing else is called.
        is_signed = True
        assert [await lane.done(first), await lane.done(second)] == ["done", "done"]
        assert len(lane.of(BodyAttemptFailed)) == 1


async def test_a_key_that_is_replaced_on_one_side_only_fails_no_run() -> None:
    keys = {"app": OTHER_KEY}

    def answer(request: Request) -> bytes:
        ours = SigningKeys.of(keys["app"])
        if not ours.verify(request.headers["x-inngest-signature"], request.body, _signed_at_s(request)):
            return response(401, {"message": "Unauthorized"}, HANDLED)
        return _signed_answer(request)

    settings = EndpointSettings(keys=SigningKeys.of(KEY))
    async with listening(answer) as server, lane_for(server.url, settings, retries=0) as lane:
        run = await lane.send()
        await until(lambda: lane.of(DispatchParked))
        assert "different signing keys" in lane.trouble and "INNGEST_SIGNING_KEY" in lane.trouble
        keys["app"] = KEY
        assert await lane.done(run) == "done"
        assert not lane.of(BodyAttemptFailed) and not lane.trouble


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (response(502, b"<title>502</title>", HTML), "the app behind it is down, or takes longer"),
        (response(504, b"", {}), "raise the proxy's timeout"),
        (response(200, {"ok": True}, {"content-type": "application/json"}), "a proxy drops the x-inngest-sdk header"),
    ],
)
async def test_where_code_may_have_run_an_attempt_is_used_and_what_follows_waits(answer: bytes, words: str) -> None:
    app = App(answer)
    async with listening(app) as server, lane_for(server.url, retries=1) as lane:
        first = await lane.send()
        await until(lambda: lane.of(BodyAttemptFailed))
        assert words in lane.trouble, lane.trouble
        second = await lane.send()
        await until(lambda: {parked.run for parked in lane.of(DispatchParked)} == {first, second})
        assert posts(server) == 1
        app.is_well = True
        assert [await lane.done(first), await lane.done(second)] == ["done", "done"]
        assert len(lane.of(BodyAttemptFailed)) == 1


@pytest.mark.parametrize(
    ("answer", "words", "calls"),
    [
        (response(403, b"<title>Blocked</title>", HTML), "an HTML page called 'Blocked'", 4),
        (response(504, b"", {}), "raise the proxy's timeout", 2),
        (response(206, b"no json"), "no JSON array", 2),
        (response(500, {"code": "function_not_found", "message": "function shop-go not found"}), "apps sync", 4),
    ],
)
async def test_what_is_wrong_with_one_call_alone_is_an_attempt_of_its_run(
    answer: bytes, words: str, calls: int
) -> None:
    """Where nothing ran it is called once more at once: another server of the app may answer, or its key be new."""
    app = App(answer, looks_well=True)
    async with listening(app) as server, lane_for(server.url, retries=1) as lane:
        failed = await lane.failed()
        assert words in failed.error_message, failed.error_message
        assert len(lane.of(BodyAttemptFailed)) == 1 and posts(server) == calls
        assert not lane.of(DispatchParked)
        app.is_well = True
        assert await lane.done(await lane.send()) == "done"
        assert not lane.trouble


async def test_a_call_refused_once_is_made_again_without_an_attempt() -> None:
    refused = 1

    def answer(request: Request) -> bytes:
        nonlocal refused
        if request.line.startswith("POST") and refused:
            refused -= 1
            return response(404, b"old server of a rolling deploy", {})
        return three_steps(request)

    async with listening(answer) as server, lane_for(server.url, retries=0) as lane:
        assert await lane.done(await lane.send()) == "done"
        assert not lane.of(BodyAttemptFailed) and not lane.of(DispatchParked)


async def test_a_connection_that_breaks_and_an_app_that_is_not_well_after_it() -> None:
    """As where a server speaks TLS and was asked in plain: it hangs up."""
    app = App(None)
    async with listening(app) as server, lane_for(server.url, retries=0) as lane:
        run = await lane.send()
        await until(lambda: lane.of(DispatchParked))
        assert len(lane.of(DispatchLost)) == 1 and "Try https://" in lane.trouble
        app.is_well = True
        assert await lane.done(run) == "done"


async def test_an_app_whose_sdk_does_not_know_the_look_is_called_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "TRIAL_S", 0.3)
    is_well = False

    def answer(request: Request) -> bytes:
        if request.line.startswith("GET"):
            return response(405, b"", {})
        return three_steps(request) if is_well else response(404, b"", {})

    async with listening(answer) as server, lane_for(server.url, retries=0) as lane:
        run = await lane.send()
        await until(lambda: len(lane.of(DispatchParked)) >= 2)  # The first trial was in vain.
        is_well = True
        assert await lane.done(run) == "done"
        assert not lane.of(BodyAttemptFailed)


async def test_an_app_whose_code_does_not_load_is_waited_for() -> None:
    """As `next dev` answers while there is a syntax error."""
    app = App(response(500, b"<title>Error</title>", HTML))
    async with listening(app) as server, lane_for(server.url, retries=0) as lane:
        run = await lane.send()
        await until(lambda: lane.of(DispatchParked))
        assert "Look at its log" in lane.trouble
        app.is_well = True
        assert await lane.done(run) == "done" and not lane.of(BodyAttemptFailed)


async def test_an_app_that_fails_in_one_call_alone_uses_an_attempt() -> None:
    app = App(response(500, b"<title>Error</title>", HTML), looks_well=True)
    async with listening(app) as server, lane_for(server.url, retries=0) as lane:
        assert "500" in (await lane.failed()).error_message
        assert posts(server) == 1


@pytest.mark.parametrize("first", [None, response(502, b"", {}), response(503, b"", {}), response(504, b"", {})])
async def test_where_a_proxy_has_nobody_behind_it_calls_wait_for_as_long_as_it_takes(
    first: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "TRIAL_S", 0.0)
    app = App(first)
    async with listening(app) as server, lane_for(server.url, retries=1) as lane:
        run = await lane.send()
        await until(lambda: lane.of(DispatchParked))
        called = posts(server)
        await until(lambda: len(server.requests) - posts(server) >= 5)
        assert posts(server) == called
        app.is_well = True
        assert await lane.done(run) == "done"


async def test_what_is_wrong_is_said_once_though_other_calls_are_answered(caplog: pytest.LogCaptureFixture) -> None:
    def answer(request: Request) -> bytes:
        if request.line.startswith("POST") and request.resolved == 1:
            return response(504, b"", {})
        return three_steps(request)

    with caplog.at_level("INFO", "millstream.endpoints"):
        async with listening(answer) as server, lane_for(server.url, retries=2) as lane:
            ends = [await lane.end(await lane.send()) for _ in range(3)]
    assert all(isinstance(end, RunFailed) for end in ends)
    assert len([one for one in caplog.records if "app in trouble" in one.message]) == 1


def _signed_at_s(request: Request) -> int:
    return int(request.headers["x-inngest-signature"].partition("&")[0][2:])


def _signed_answer(request: Request) -> bytes:
    """What an app with the key answers: a GET with its introspection, a call with its steps."""
    if request.line.startswith("GET"):
        return response(200, {"mode": "cloud", "authentication_succeeded": True})
    plain = three_steps(request)
    head, _, body = plain.partition(b"\r\n\r\n")
    signature = _over(body, _signed_at_s(request))
    return head + f"\r\nx-inngest-signature: {signature}\r\n\r\n".encode() + body


def _over(body: bytes, at_s: int) -> str:
    """An app signs the bytes of its answer."""
    return SigningKeys.of(KEY).sign_canonical(body, at_s)
