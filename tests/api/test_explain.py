"""Each way in which an app cannot be reached is one sentence that says what to do; found with servers that are so."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from millstream.execute.endpoint import caller as calls
from millstream.execute.endpoint.caller import Caller
from millstream.execute.endpoint.explain import explain
from millstream.execute.endpoint.guard import Guard
from millstream.execute.endpoint.http import Http
from millstream.wire.signing import SigningKeys
from tests.api.sdk_apps import sdk_app

KEY, OTHER_KEY = "signkey-prod-" + "ab" * 16, "signkey-prod-" + "cd" * 16
OURS = "http://127.0.0.1:8288"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Bytes = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def web_server(answer: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that answers everything so; the URL of an app there."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    port = runner.addresses[0][1]
    yield f"{'https' if tls else 'http'}://127.0.0.1:{port}/api/inngest"
    await runner.cleanup()


@contextlib.asynccontextmanager
async def byte_server(answer: Bytes) -> AsyncIterator[str]:
    """A server that does so with each connection."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/inngest"
    server.close()


async def why(url: str, method: str = "PUT", key: str = "") -> str:
    """What is said of an app."""
    caller = Caller(SigningKeys.of(key), Http(Guard(is_open=True), calls.CONNECT_S), OURS)
    try:
        reply = await (caller.put(url, in_band=bool(key)) if method == "PUT" else caller.get(url))
        return explain(caller.asked(method, url), reply)
    finally:
        await caller.close()


def answering(status: int, text: str = "", kind: str = "text/plain", **headers: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text, content_type=kind, headers=headers)

    return answer


async def test_nothing_listens() -> None:
    async with web_server(answering(200)) as url:
        pass
    said = await why(url)
    assert said.startswith("nothing listens at 127.0.0.1:") and "Start it" in said


async def test_a_name_that_is_none() -> None:
    assert "name in http://no-such-host.invalid/api/inngest is not known" in await why(
        "http://no-such-host.invalid/api/inngest"
    )


async def test_an_answer_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "ANSWER_S", 0.3)
    never = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()
        writer.close()

    async with byte_server(silent) as url:
        assert "did not answer within" in await why(url)
        never.set()


async def test_a_connection_that_closes_at_once() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with byte_server(close) as url:
        assert "closed the connection without an answer" in await why(url)


async def test_what_is_no_http() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read(1)
        writer.close()

    async with byte_server(greet) as url:
        assert "does not speak HTTP" in await why(url)


async def test_plain_http_where_https_was_asked_for() -> None:
    async with web_server(answering(200)) as url:
        assert "Write http://" in await why(url.replace("http://", "https://"))


async def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    files = [str(tmp_path / name) for name in ("key.pem", "cert.pem")]
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*making, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)  # noqa: ASYNC221
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files[1], files[0])
    async with web_server(answering(200), tls) as url:
        assert "is not trusted here" in await why(url)


async def test_an_answer_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "BODY_BYTES_MAX", 1_000)
    async with web_server(answering(200, "x" * 2_000)) as url:
        assert "larger than" in await why(url)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answering(307, Location="https://shop.example/login"), "redirects to https://shop.example/login"),
        (answering(401, "<!doctype html><p>Sign in", "text/html"), "a sign-in page, or a protection of deployments"),
        (answering(403, "no"), "answered 403 with an answer before any SDK"),
        (answering(404, "<html>Not found</html>", "text/html"), "/x/inngest"),
        (answering(405), "Export GET, POST and PUT"),
        (answering(502, "<html>Bad gateway</html>", "text/html"), "an HTML page of a proxy"),
        (answering(504), "raise the proxy's timeout"),
        (answering(500, "<html>Error</html>", "text/html"), "Look at its log"),
        (answering(200, "<html>My shop</html>", "text/html"), "an HTML page, but no Inngest SDK did"),
        (answering(200, "{}", "application/json"), "another server has this port"),
        (
            answering(500, '{"message":"Failed to register; fetch failed"}', **{"x-inngest-sdk": "js:v4.24.0"}),
            f"reaches no server to register with: Failed to register; fetch failed. Start it with INNGEST_DEV={OURS}",
        ),
        (answering(500, '{"message":"boom"}', **{"x-inngest-sdk": "js:v4.24.0"}), "answered 500: boom"),
    ],
)
async def test_an_answer_that_is_no_app_which_works(answer: Handler, words: str) -> None:
    async with web_server(answer) as url:
        said = await why(url)
        assert (words in said and url in said) or "has nothing at this path" in said


@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_an_app_in_cloud_mode_and_a_server_in_dev_mode(method: str) -> None:
    async with sdk_app(OURS, signing_key=KEY) as app:
        said = await why(app.url, method)
        assert "is in cloud mode, this server in dev mode" in said and f"INNGEST_DEV={OURS}" in said


@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_an_app_in_dev_mode_and_a_server_in_cloud_mode(method: str) -> None:
    async with sdk_app(OURS) as app:
        said = await why(app.url, method, KEY)
        assert "is in dev mode, this server in cloud mode" in said and "INNGEST_SIGNING_KEY" in said


@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_an_app_with_another_key(method: str) -> None:
    async with sdk_app(OURS, signing_key=OTHER_KEY) as app:
        assert "different signing keys" in await why(app.url, method, KEY)


async def test_an_app_that_reaches_no_server() -> None:
    async with web_server(answering(200)) as gone:
        pass
    async with sdk_app(gone.removesuffix("/api/inngest")) as app:
        assert "reaches no server to register with" in await why(app.url)


async def test_an_app_that_works_needs_no_words() -> None:
    async with sdk_app(OURS, signing_key=KEY) as app:
        assert await why(app.url, "GET", KEY) == ""
        assert await why(app.url, "PUT", KEY) == ""
    async with sdk_app(OURS) as app:
        assert await why(app.url, "GET") == ""


def test_every_failure_of_a_call_has_a_sentence_of_its_own() -> None:
    asked = calls.Asked("PUT", "http://127.0.0.1:1/api/inngest")
    said = [explain(asked, calls.Outcome(failure=failure)) for failure in calls.FAILURES]
    assert len(set(said)) == len(calls.FAILURES)
    assert not [one for one in said if "answered 0" in one]


async def test_what_an_address_holds_of_secrets_is_said_to_nobody() -> None:
    async with web_server(answering(404)) as url:
        hidden = url.replace("://", "://app:hunter2@") + "?x-vercel-protection-bypass=letmein"
        said = await why(hidden)
        assert "has nothing at this path" in said and url.partition("://")[2].partition("/")[0] in said
        assert "hunter2" not in said and "letmein" not in said
