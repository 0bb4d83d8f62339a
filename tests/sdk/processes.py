"""Apps with the unmodified SDKs as processes of their own: PyPI's, and npm's versions 3 and 4.

    with app_process("js-v4", id="shop", INNGEST_DEV=server.url) as app: app.url, app.put()

npm's are installed once into ``node/node_modules``. Where there is no node, or they cannot be had, the test is skipped;
in CI that is a failure.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
NODE: Final = Path(__file__).with_name("node")
SDKS: Final = ("py", "js-v3", "js-v4")
PATIENCE_S: Final = 120.0
INSTALL_S: Final = 900.0


@dataclass(frozen=True)
class App:
    """An app that serves at ``url``."""

    id: str
    url: str
    log: Path

    def put(self) -> tuple[int, Any]:
        """Have it register, as users do; the status and body of its answer."""
        request = urllib.request.Request(self.url, method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read())


@contextlib.contextmanager
def app_process(sdk: str, folder: Path, *, id: str = "sdk", port: int = 0, **variables: str) -> Iterator[App]:
    """An app of this SDK, with these variables and none of its own kind beside them; ended with SIGKILL."""
    port = port or free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INNGEST_", "MILLSTREAM_"))}
    environment = kept | variables | {"APP": id, "PORT": str(port), "SDK": sdk.removeprefix("js-")}
    log = folder / f"{sdk}-{id}.log"
    with log.open("w") as out:
        process = subprocess.Popen(_command(sdk, port), cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        _wait_until_it_listens(process, port, log)
        yield App(id, f"http://127.0.0.1:{port}/api/inngest", log)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _command(sdk: str, port: int) -> list[str]:
    if sdk == "py":
        serving = ["-m", "uvicorn", "tests.sdk.app_py:app", "--port", str(port), "--log-level", "warning"]
        return [sys.executable, *serving]
    install_node_modules()
    return ["node", str(NODE / "app.mjs")]


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ends_s = time.monotonic() + PATIENCE_S
    while True:
        assert process.poll() is None, f"the app ended: {log.read_text()[-2_000:]}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < ends_s, f"the app does not listen after {PATIENCE_S} s: {log.read_text()[-2_000:]}"
        time.sleep(0.05)


def install_node_modules() -> None:
    """Have what ``node/package.json`` names, once for all processes of the tests."""
    wanted = (NODE / "package.json").read_text()
    stamp = NODE / "node_modules" / ".installed"
    if shutil.which("npm") is None:
        _cannot("there is no npm here")
    with (NODE / ".installing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        installing = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        try:
            done = subprocess.run(installing, cwd=NODE, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        except subprocess.TimeoutExpired:
            _cannot(f"npm was not done after {INSTALL_S:.0f} s")
        if done.returncode:
            _cannot(f"npm failed: {done.stderr[-500:]}")
        stamp.write_text(wanted)


def _cannot(why: str) -> NoReturn:
    text = f"the SDKs for JavaScript cannot be had: {why}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)
