"""The shops of examples/fastapi_inngest and examples/express_v3, each a process that is run as its README says.

with opened("express_v3", server, folder) as shop: shop.accepts("/orders", {"item": "lamp"})
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.sdk.examples.mailbox import Mailbox
from tests.sdk.rig.npm import installed
from tests.sdk.rig.processes import PATIENCE_S, ROOT, App, free_port, listening
from tests.sdk.rig.stage import Server, until

EXAMPLES: Final = ROOT / "examples"
FUNCTIONS: Final = {
    "answer-message",
    "fulfil-order",
    "welcome",
    "start-trial",
    "subscribe-to-newsletter",
    "refresh-figures",
}


@dataclass(frozen=True)
class Shop:
    """The web site of one example, the server behind it, and the mail that it sends."""

    url: str
    server: Server
    mailbox: Mailbox
    app: App

    def ask(
        self, method: str, path: str, body: Any = None, *, form: bool = False, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """The status and text of an answer to JSON, or to a form's fields."""
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        data = None if body is None else (urllib.parse.urlencode(body) if form else json.dumps(body)).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": kind, **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def accepts(self, path: str, body: Any = None) -> dict[str, Any]:
        """The answer to a request that is accepted."""
        status, text = self.ask("POST", path, body)
        assert status == 202, (text, self.app.said)
        return dict(json.loads(text))

    def reads(self, path: str) -> dict[str, Any]:
        """The JSON at a path."""
        status, text = self.ask("GET", path)
        assert status == 200, (text, self.app.said)
        return dict(json.loads(text))

    def ended(self, name: str, **data: Any) -> list[dict[str, Any]]:
        """The runs, in full and over, that the event of this name and these data has started."""
        event = self.until(f"the event {name}", lambda: self._event(name, data))
        self.until(f"a run of {name}", lambda: self.server.runs_of(event))
        runs: list[dict[str, Any]] = self.until(f"the ends of the runs of {name}", lambda: self._over(event))
        return runs

    def until(self, what: str, look: Any) -> Any:
        """Look until there is something to see; it. What went wrong is in the error."""
        return until(what, look, lambda: f"{self.app.said}\n{self.server.output.read_text()[-3_000:]}")

    def _event(self, name: str, data: dict[str, Any]) -> str:
        events = self.server.get(f"/v1/events?name={urllib.parse.quote(name, safe='')}")[1]["data"]
        found = [event for event in events if data.items() <= event["data"].items()]
        assert len(found) <= 1, found
        return str(found[0]["internal_id"]) if found else ""

    def _over(self, event: str) -> list[dict[str, Any]]:
        """Its runs once all are over."""
        runs = [self.server.run(run["run_id"]) for run in self.server.runs_of(event)]
        return runs if all(run["ended_at"] for run in runs) else []


@contextlib.contextmanager
def opened(example: str, server: Server, folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[Shop]:
    """A shop that has registered with a server that runs. ``variables`` say where that is; default: in dev mode."""
    port = free_port()
    app = App("shop", f"http://127.0.0.1:{port}/api/inngest", folder / f"{example}.log")
    with Mailbox() as mailbox:
        given = {"SMTP_PORT": str(mailbox.port), "SHOP_DATA": str(folder / "records")}
        given |= variables or {"INNGEST_DEV": server.url}
        process = listening(_command(example, port), app, port, given, cwd=_code(example, folder))
        try:
            status, said = app.put()  # As a deploy does; `-u` is in test_registering.py.
            assert status == 200, (said, app.said)
            shop = Shop(f"http://127.0.0.1:{port}", server, mailbox, app)
            shop.until("the registration of the shop", lambda: registered(server, "shop") == FUNCTIONS)
            yield shop
        finally:
            process.kill()
            process.wait(30)


def _code(name: str, folder: Path) -> Path:
    """Where the example is run: a copy, with the packages of its lock file beside it where it is one in JavaScript."""
    copy = folder / name
    shutil.copytree(EXAMPLES / name, copy, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    if (copy / "package.json").exists():
        (copy / "node_modules").symlink_to(installed(EXAMPLES / name) / "node_modules")
    return copy


def _command(name: str, port: int) -> list[str]:
    """What its README says."""
    if name == "express_v3":
        return ["node", "shop/server.js"]
    return [sys.executable, "-m", "uvicorn", "shop.web:app", "--port", str(port)]


def registered(server: Server, app: str) -> set[str]:
    """The ids of an app's functions that the server knows."""
    status, answer = server.get(f"/v1/apps/{app}/functions")
    return {str(one["id"]).removeprefix(f"{app}-") for one in answer} if status == 200 else set()
