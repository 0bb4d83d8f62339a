"""An app in node around ``endpoint_app.cjs``: started, registered, asked for its times, ended."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.rig.figures import ROOT
from tests.sdk.rig.npm import installed
from tests.sdk.rig.processes import free_port

APP: Final = "endpoint"
EVENT: Final = "endpoint/three"
KINDS: Final = ("bare", "sdk")
STARTS_WITHIN_S: Final = 60.0
READ_BYTES: Final = 1 << 16


class EndpointApp:
    """The app of a kind, which listens at ``url`` from its making on."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/inngest"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    async def start(self, server: str) -> None:
        """Start it, for a server at this URL, and have it register."""
        environ = os.environ | {"PORT": str(self.port), "INNGEST_DEV": server}
        if self.kind == "sdk":
            environ["SDK_MODULES"] = str(installed(ROOT / "tests" / "sdk" / "node"))
        await asyncio.to_thread(self._start, environ)

    def _start(self, environ: dict[str, str]) -> None:
        script = Path(__file__).with_suffix(".cjs")
        self._process = subprocess.Popen(["node", str(script), self.kind], env=environ, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        ends_s = time.monotonic() + STARTS_WITHIN_S
        while True:
            try:
                with urllib.request.urlopen(urllib.request.Request(self.url, method="PUT"), timeout=30):
                    return
            except OSError:
                if time.monotonic() > ends_s:
                    raise
                time.sleep(0.1)

    def watch_ends(self, on_ends: Callable[[int, float], None]) -> None:
        """Call back with (runs whose last call was answered, the time it is told on perf_counter's clock)."""
        assert self._process is not None and self._process.stdout is not None
        out = self._process.stdout.fileno()

        def readable() -> None:
            told = os.read(out, READ_BYTES)
            if told:
                on_ends(len(told), time.perf_counter())
            else:
                asyncio.get_running_loop().remove_reader(out)

        asyncio.get_running_loop().add_reader(out, readable)

    def drain_ends(self) -> None:
        """Where nobody watches, so that its pipe never fills."""
        self.watch_ends(lambda count, at_s: None)

    def times(self) -> dict[str, list[tuple[float, float]]]:
        """When each run since the last question was called and answered, in order, in seconds of perf_counter."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/times", timeout=30) as answer:
            told = json.loads(answer.read())
        times: dict[str, list[tuple[float, float]]] = {}
        for run, called_s, answered_s in told:
            times.setdefault(run, []).append((called_s, answered_s))
        return times

    def close(self) -> None:
        """Kill it."""
        if self._process is not None:
            if self._process.stdout is not None:
                asyncio.get_running_loop().remove_reader(self._process.stdout.fileno())
            self._process.kill()
            self._process.wait()
