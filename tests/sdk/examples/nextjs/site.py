"""The site of examples/nextjs, built and run as its README says, with a server behind it and feeds and mail beside it.

with opened(folder) as site: site.get("/trending"), site.invoke("refresh-downloads"), site.restart()
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

from tests.sdk.examples.mailbox import Mailbox
from tests.sdk.examples.nextjs.build import NEXT, QUIET, run_in
from tests.sdk.examples.shops import Shop, registered
from tests.sdk.rig.processes import PATIENCE_S, App, free_port, listening
from tests.sdk.rig.stage import FAST_RETRIES, Server

APP: Final = "blog"
CMS_SECRET: Final = "a-secret-of-the-cms"
FUNCTIONS: Final = {
    "answer-message",
    "refresh-downloads",
    "watch-advisories",
    "publish-post",
    "count-views",
    "refresh-trending",
    "confirm-signup",
    "welcome",
    "create-profile",
    "subscribe-to-newsletter",
}


class Feeds:
    """A server of others: ``json`` by its path, and pages at /meet/… that answer once ``PARTIES`` of them are asked."""

    PARTIES: Final = 2

    def __init__(self) -> None:
        self.json: dict[str, Any] = {"/downloads": {"total": 1}, "/advisories": []}
        self._meeting = threading.Barrier(self.PARTIES)
        feeds = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, answer = feeds.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, path: str) -> tuple[int, Any]:
        """Status and JSON."""
        if path.startswith("/meet/"):
            try:
                self._meeting.wait(PATIENCE_S)
            except threading.BrokenBarrierError:
                return 504, "nobody else came"
            return 200, path
        return (200, self.json[path]) if path in self.json else (404, "nothing is here")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._meeting.abort()
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True)
class Site(Shop):
    """The web site, and what a test does with it beside visiting."""

    code: Path
    feeds: Feeds
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start it, and have it register as a deploy does."""
        port = int(self.url.rpartition(":")[2])
        command = ["node", NEXT, "start", "--hostname", "127.0.0.1", "--port", str(port)]
        given = {
            "INNGEST_DEV": self.server.url,
            "SITE_URL": self.url,
            "SITE_DATA": str(self.code.parent / "records"),
            "SMTP_PORT": str(self.mailbox.port),
            "DOWNLOADS_URL": f"{self.feeds.url}/downloads",
            "ADVISORIES_URL": f"{self.feeds.url}/advisories",
            "CMS_SECRET": CMS_SECRET,
        }
        self.processes.append(listening(command, self.app, port, given | QUIET, cwd=self.code))
        status, said = self.app.put()
        assert status == 200, (said, self.app.said)
        self.until("its registration", lambda: registered(self.server, APP) == FUNCTIONS)

    def kill(self) -> None:
        """As a power switch would end it."""
        while self.processes:
            process = self.processes.pop()
            process.kill()
            process.wait(30)

    def restart(self) -> None:
        """End the site and the server, as a power switch would, and start both again."""
        port = self.server.port
        self.kill()
        self.server.kill()
        self.server.start(port=port)
        self.start()

    def invoke(self, function: str) -> Any:
        """Run a function now, whatever its triggers are; its output, once it is over."""

        def begin() -> str:
            status, answer = self.server.ask("POST", f"/invoke/{APP}-{function}", {"data": {}})
            assert status in (200, 409), answer
            return str(answer["run_id"]) if status == 200 else ""  # A singleton, whose cron has just begun it.

        def over() -> Any:
            status, found = self.server.get(f"/v1/runs/{run}")
            return found["data"] if status == 200 and found["data"]["ended_at"] else None

        run = self.until(f"a run of {function}", begin)
        ended = self.until(f"the end of {function}", over)
        assert ended["status"] == "Completed", ended
        return ended["output"]

    def send(self, name: str, **data: Any) -> None:
        """Send an event as anybody with an event key may."""
        self.server.send(name, data)

    def deliver(self, delivery: Mapping[str, Any], secret: str = CMS_SECRET) -> int:
        """Hand in a delivery as the CMS does, signed; the status of the answer."""
        body = json.dumps(delivery).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return self.ask("POST", "/api/webhooks/cms", delivery, headers={"X-CMS-Signature": f"sha256={signature}"})[0]

    def header(self, path: str, name: str) -> str:
        """A header of a page."""
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE_S) as answer:
            return str(answer.headers[name])

    def events(self, name: str) -> list[dict[str, Any]]:
        """The data of all events of a name, the newest first."""
        path = f"/v1/events?limit=100&name={urllib.parse.quote(name, safe='')}"
        return [event["data"] for event in self.server.get(path)[1]["data"]]

    def outputs(self, function: str) -> list[Any]:
        """What the runs of a function have returned, the newest first, once all that are there are over."""

        def over() -> list[dict[str, Any]]:
            status, answer = self.server.get(f"/api/runs?limit=100&function={APP}-{function}")
            assert status == 200, answer
            runs = [self.server.run(run["run_id"]) for run in answer["data"]]
            return runs if all(run["ended_at"] for run in runs) else []

        return [run["output"] for run in self.until(f"the ends of all runs of {function}", over)]


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Site]:
    """The site, registered with a server of its own."""
    server = Server(folder / "server", *FAST_RETRIES)
    url = f"http://127.0.0.1:{free_port()}"
    code = run_in(folder / "nextjs")
    with Mailbox() as mailbox, Feeds() as feeds:
        site = Site(url, server, mailbox, App(APP, f"{url}/api/inngest", folder / "site.log"), code, feeds)
        try:
            server.start()
            site.start()
            yield site
        finally:
            site.kill()
            server.close()
