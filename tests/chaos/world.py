"""A world: one data directory, the server on it that is killed and started again, and its end in peace.

A kill is SIGKILL to the server's process alone; its history child has to notice by itself. Starting again is at once,
on the same directory, sometimes with the local store or the history's index deleted: both are caches.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tests.chaos.functions import LEDGER_VARIABLE, Line
from tests.chaos.limited import write_gone

ROOT = Path(__file__).resolve().parents[2]
SERVING_WITHIN_S = 60.0
STOPPED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a world is like. ``history_ms``: short enough and journals get trimmed.

    ``cli``: the server is ``millstream dev`` as users start it, which flushes and checkpoints once in seconds.
    """

    name: str
    lanes: int
    durability: str
    history_ms: int
    cli: bool = False

    def __str__(self) -> str:
        trims = "trims" if self.history_ms < 3_600_000 else "keeps all"
        server = "millstream dev" if self.cli else "busy upkeep"
        return f"{self.name}: {server}, {self.lanes} lane{'s' * (self.lanes > 1)}, {self.durability}, {trims}"


@dataclass(frozen=True, slots=True)
class Killed:
    """A kill: how long after the start, whether it served by then, and what was deleted before the next start."""

    after_s: float
    served: bool
    wiped: tuple[str, ...]


@dataclass
class World:
    """A directory and the process on it. ``dice`` decides everything that chance decides."""

    directory: Path
    shape: Shape
    dice: random.Random
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    kills: list[Killed] = field(default_factory=list)
    started: float = 0.0
    served_after_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]

    @property
    def url(self) -> str:
        """Where the server listens while it lives."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.directory / "data"

    @property
    def ledger(self) -> Path:
        """What the step functions wrote."""
        return self.directory / "ledger.jsonl"

    def start(self) -> None:
        """Start the server; does not wait for it to serve."""
        path = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
        environment = os.environ | {LEDGER_VARIABLE: str(self.ledger), "PYTHONPATH": path}
        shape = self.shape
        line = [sys.executable, "-m", "tests.chaos.server", "--history-ms", str(shape.history_ms)]
        if shape.cli:
            line = [sys.executable, "-m", "millstream", "dev", "--no-reload", "tests.chaos.app:app"]
        line += ["--data", str(self.data), "--port", str(self.port)]
        line += ["--lanes", str(shape.lanes), "--durability", shape.durability]
        with (self.directory / "server.log").open("ab") as log:
            log.write(f"--- start {len(self.kills) + 1}\n".encode())
            log.flush()
            self.process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.started = time.monotonic()

    async def live_and_die(self, between_s: tuple[float, float]) -> Killed:
        """Let it live for a random while, kill it, delete what may be deleted. Raises AssertionError if it died."""
        dice = self.dice
        early = dice.random() < 0.3  # Into the start: imports, opening, restoring, taking over.
        if early:
            await asyncio.sleep(dice.uniform(0.2, 1.5))
        else:
            await self.serving()
            await asyncio.sleep(dice.uniform(*between_s))
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"the server ended by itself with exit code {code}: see {self.directory}/server.log"
        served = not early or await self._answers()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        write_gone(self.ledger, self.process.pid)
        wiped = []
        if dice.random() < 0.2:
            shutil.rmtree(self.data / "state", ignore_errors=True)
            wiped.append("state")
        if dice.random() < 0.15:
            for file in self.data.glob("history.db*"):
                file.unlink()
            wiped.append("history")
        killed = Killed(time.monotonic() - self.started, served, tuple(wiped))
        self.kills.append(killed)
        return killed

    async def serving(self) -> None:
        """Return when it answers. Raises AssertionError when it ends or takes too long."""
        assert self.process is not None
        while not await self._answers():
            code = self.process.poll()
            assert code is None, f"the server ended by itself with exit code {code}: see {self.directory}/server.log"
            waited = time.monotonic() - self.started
            assert waited < SERVING_WITHIN_S, f"not serving after {waited:.0f} s: see {self.directory}/server.log"
            await asyncio.sleep(0.02)
        self.served_after_s.append(time.monotonic() - self.started)

    async def _answers(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/health") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    async def stop(self) -> str:
        """End it in order; what was wrong with that, empty: nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(self.process.wait, STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"the server did not stop within {STOPPED_WITHIN_S:.0f} s of SIGTERM"
        return f"the server stopped with exit code {code} after SIGTERM" if code else ""

    def kill(self) -> None:
        """Whatever happens, leave no process behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def read_ledger(self) -> list[Line]:
        """Every line so far, in the order in which they were written."""
        if not self.ledger.exists():
            return []
        decode = msgspec.json.Decoder(Line).decode
        return [decode(line) for line in self.ledger.read_bytes().splitlines()]

    async def get(self, session: aiohttp.ClientSession, path: str, **query: Any) -> Any:
        """The ``data`` of a read; None for a 404."""
        async with session.get(self.url + path, params=query) as answer:
            if answer.status == 404:
                return None
            assert answer.status == 200, f"GET {path} answered {answer.status}: {(await answer.read())[:300]!r}"
            return msgspec.json.decode(await answer.read())["data"]
