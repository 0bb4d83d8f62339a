"""A real ``millstream dev`` for cases: its own process, its own data directory, spoken to over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENDED = {"Completed", "Failed", "Cancelled"}
WAIT_S = 60.0

JSON = {"Content-Type": "application/json"}


class Server:
    """Start, speak, stop, kill. Also what a user does: look at a run until it ends."""

    starts_within_s = WAIT_S

    def __init__(self, data: Path, *targets: str, flags: tuple[str, ...] = ()) -> None:
        self.data = data
        self.targets = targets or ("tests.cases.app:app",)
        self.flags = flags
        self.notes = data.parent / f"{data.name}-notes"
        self.notes.touch()
        self.output = data.parent / f"{data.name}-output"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, cwd: Path = ROOT, port: int = 0) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = port or free.getsockname()[1]
        env = {key: value for key, value in os.environ.items() if not key.startswith("MILLSTREAM_")}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "platform"), str(ROOT), str(self.data.parent)])
        env["CASES_NOTES"] = str(self.notes)
        line = [sys.executable, "-m", "millstream", "dev", "--no-reload", *self.targets, "--port", str(self.port)]
        line += ["--data", str(self.data), *self.flags]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(line, cwd=cwd, env=env, stdout=output, stderr=output)
        ends = time.monotonic() + self.starts_within_s
        while True:
            try:
                if self.get("/health")[0] == 200:
                    return self
            except OSError:
                pass
            assert self.process.poll() is None, f"the server ended:\n{self.output.read_text()}"
            assert time.monotonic() < ends, f"the server did not start:\n{self.output.read_text()}"
            time.sleep(0.02)

    def stop(self) -> int:
        """In good order; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """As a power switch would end it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    # --- speaking -----------------------------------------------------------------------------

    def get(self, path: str) -> tuple[int, Any]:
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, JSON | (headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, raw = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, raw = error.code, error.read()
        try:
            return status, json.loads(raw)
        except ValueError:
            return status, raw.decode()

    def send(self, name: str, data: dict[str, Any] | None = None, **fields: Any) -> str:
        """Send one event; its id."""
        status, answer = self.ask("POST", "/e/test", {"name": name, "data": data or {}, **fields})
        assert status == 200, answer
        return str(answer["ids"][0])

    def metrics(self) -> str:
        """What is measured, of every process."""
        return str(self.get("/metrics")[1])

    def runs_of(self, event: str) -> list[dict[str, Any]]:
        status, answer = self.get(f"/v1/events/{event}/runs")
        return list(answer["data"]) if status == 200 else []

    def run(self, run: str) -> dict[str, Any]:
        status, answer = self.get(f"/v1/runs/{run}")
        assert status == 200, answer
        return dict(answer["data"])

    def until(self, what: str, look: Any, within_s: float = WAIT_S) -> Any:
        """Look until there is something to see; it."""
        ends = time.monotonic() + within_s
        while not (seen := look()):
            assert self.process is not None and self.process.poll() is None, self.output.read_text()[-4000:]
            assert time.monotonic() < ends, f"{what}: not within {within_s} s\n{self.output.read_text()[-4000:]}"
            time.sleep(0.03)
        return seen

    def run_of(self, event: str) -> dict[str, Any]:
        """The one run of an event."""
        found = self.until(f"a run of event {event}", lambda: self.runs_of(event))
        assert len(found) == 1, found
        return dict(found[0])

    def ended(self, event: str) -> dict[str, Any]:
        """The one run of an event, in full, once it is over."""
        run = self.run_of(event)["run_id"]
        return dict(self.until(f"the end of run {run}", lambda: (r := self.run(run))["status"] in ENDED and r))

    def does(self, name: str, data: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Send an event and wait for its run's end."""
        return self.ended(self.send(name, data, **fields))
