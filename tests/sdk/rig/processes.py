"""Apps with the unmodified SDKs as processes of their own, by the name of their host (`hosts/`).

with app_process("v4", folder, id="shop", INNGEST_DEV=server.url) as app: app.url, app.put()
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.sdk.rig.npm import installed

ROOT: Final = Path(__file__).resolve().parents[3]
HERE: Final = Path(__file__).parents[1]
PYTHON: Final = ("fastapi", "flask", "django")
NODE: Final = ("v4", "v3")
HOSTS: Final = (*PYTHON, *NODE)
PLAIN: Final = "v4-plain"
"""Version 4 with ``checkpointing: false``; `v4` is version 4 as it comes."""
PATIENCE_S: Final = 120.0


@dataclass(frozen=True)
class App:
    """An app that serves at ``url``."""

    id: str
    url: str
    log: Path

    @property
    def said(self) -> str:
        """The end of what it has printed."""
        return self.log.read_text(errors="replace")[-3_000:]

    def put(self) -> tuple[int, Any]:
        """Have it register, as users do; the status and body of its answer."""
        request = urllib.request.Request(self.url, method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read())


@contextlib.contextmanager
def app_process(host: str, folder: Path, *, id: str = "sdk", port: int = 0, **variables: str) -> Iterator[App]:
    """An app with the function `hello` and these variables; ended with SIGKILL."""
    port = port or free_port()
    app = App(id, f"http://127.0.0.1:{port}/api/inngest", folder / f"{host}-{id}.log")
    process = started(host, app, port, variables | {"FUNCTIONS": "hello", "LEDGER": str(folder / "ledger")})
    try:
        yield app
    finally:
        process.kill()
        process.wait()


def started(host: str, app: App, port: int, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process of a host that listens, with these variables."""
    command, given = _command(host)
    paths = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
    return listening(command, app, port, {"PYTHONPATH": paths, "APP": app.id} | given | dict(variables))


def listening(
    command: list[str], app: App, port: int, variables: Mapping[str, str], *, cwd: Path = ROOT
) -> subprocess.Popen[bytes]:
    """A process that listens, with these variables and none of ours or the SDK's kind beside them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INNGEST_", "MILLSTREAM_"))}
    environment = kept | {"PORT": str(port)} | dict(variables)
    with app.log.open("ab") as out:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=out, stderr=out)
    ends_s = time.monotonic() + PATIENCE_S
    while not _listens(port):
        assert process.poll() is None, f"the app ended: {app.said}"
        assert time.monotonic() < ends_s, f"the app does not listen after {PATIENCE_S} s: {app.said}"
        time.sleep(0.05)
    return process


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _command(host: str) -> tuple[list[str], dict[str, str]]:
    """What starts a host, and its own variables."""
    if host in PYTHON:
        return [sys.executable, "-m", "tests.sdk.hosts.python.app", host], {}
    sdk, _, mode = host.partition("-")
    given = {"SDK": sdk, "SDK_MODULES": str(installed(HERE / "node"))}
    return ["node", str(HERE / "hosts/node/app.cjs")], given | ({"CHECKPOINTING": "no"} if mode == "plain" else {})


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
