"""Each way in which an app does not answer calls is one line that says what to do, in the log and in `/api/apps`."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from millstream.model.facts import DispatchParked, RunFailed
from tests.api.sdk_apps import sdk_app
from tests.api.test_explain import answering, web_server
from tests.endpoint.servers import listening
from tests.endpoint.stage import Server, free_port, spec, until

KEY = "signkey-prod-" + "ab" * 16
WORDS = {
    "nothing": "nothing listens at 127.0.0.1:",
    "cloud": "is in cloud mode, this server in dev mode: start the app with INNGEST_DEV=http://",
    "html": "an HTML page, but no Inngest SDK did",
    "login": "a sign-in page, or a protection of deployments",
    "path": "Give the path where serve() is mounted",
    "redirect": "redirects to https://shop.example/login",
    "certificate": "is not trusted here",
    "plain": "Write http:// in the app's URL",
    "secure": "Try https://",
    "database": "does not speak HTTP",
    "vanished": "does not have function 'vanished-go'",
    "bad-gateway": "the app behind it is down, or takes longer than the proxy waits",
    "too-slow": "raise the proxy's timeout",
}
"""Of each app, by its id."""
USE_AN_ATTEMPT = {"bad-gateway", "too-slow", "vanished"}


async def test_each_trouble_of_calls_is_said_in_the_log_and_by_the_api(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    async with apps(tmp_path) as urls, Server(tmp_path / "data") as server, aiohttp.ClientSession() as http:
        assert urls.keys() == WORDS.keys()
        for app, url in urls.items():
            await server.register(spec(url, ["go"], app))
        with caplog.at_level("INFO", "millstream.endpoints"):
            await server.send("go")  # Starts a run of each.
            await until(lambda: len(server.of(DispatchParked)) == len(WORDS) - len(USE_AN_ATTEMPT))
            await until(lambda: len(server.of(RunFailed)) == len(USE_AN_ATTEMPT))
        failed = {fact.error_message for fact in server.of(RunFailed)}
        assert server.dev.served is not None
        async with http.get(f"{server.dev.served.url}/api/apps") as answer:
            rows = {row["id"]: row for row in (await answer.json())["data"]}
    lines = [record.__dict__["fields"] for record in caplog.records if record.message == "app in trouble"]
    for app, words in WORDS.items():
        why = rows[app]["why"]
        assert words in why and "\n" not in why, (app, rows[app])
        assert [words in line["why"] for line in lines if line["app"] == app] == [True], (app, lines)
        assert (app in USE_AN_ATTEMPT) == any(words in message for message in failed), (app, failed)
        assert rows[app]["reachable"] is (None if app == "vanished" else False), rows[app]


@asynccontextmanager
async def apps(folder: Path) -> AsyncIterator[dict[str, str]]:
    """The address of each app, by its id."""
    async with AsyncExitStack() as stack:
        put = stack.enter_async_context
        page, html = "<title>Welcome</title>", "text/html"
        plain = await put(web_server(answering(200, page, html)))
        secure = await put(web_server(answering(200), _certificate(folder)))
        database = await put(listening(lambda request: b"SSH-2.0-OpenSSH_9.2\r\n"))
        other_code = await put(sdk_app("http://127.0.0.1:1", id="vanished"))
        in_cloud_mode = await put(sdk_app("http://127.0.0.1:1", id="cloud", signing_key=KEY))
        yield {
            "nothing": f"http://127.0.0.1:{free_port()}/api/inngest",
            "cloud": in_cloud_mode.url,
            "html": await put(web_server(answering(200, "<html>My shop</html>", html))),
            "login": await put(web_server(answering(401, page, html))),
            "path": await put(web_server(answering(404, page, html))),
            "redirect": await put(web_server(answering(302, Location="https://shop.example/login"))),
            "certificate": secure,
            "plain": plain.replace("http://", "https://"),
            "secure": secure.replace("https://", "http://"),
            "database": database.url,
            "vanished": other_code.url,
            "bad-gateway": await put(web_server(answering(502, page, html))),
            "too-slow": await put(web_server(answering(504))),
        }


def _certificate(folder: Path) -> ssl.SSLContext:
    """One that nobody trusts."""
    files = [str(folder / name) for name in ("key.pem", "cert.pem")]
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*making, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files[1], files[0])
    return tls
