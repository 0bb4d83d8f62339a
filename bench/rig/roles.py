"""A group on Kafka and its roles as a user starts them: ``topics apply``, ``worker``, ``api``, each a process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Final

from bench.rig.engine import TARGET
from bench.rig.figures import ROOT

READY_WITHIN_S: Final = 120.0
SESSION_S: Final = 6
LOOK_S: Final = 0.01


class Role:
    """One process and the port that it serves on."""

    def __init__(self, line: list[str], environ: dict[str, str], output: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.output = output
        with output.open("ab") as told:
            self.process = subprocess.Popen(line, cwd=ROOT, env=environ, stdout=told, stderr=told)

    async def ready(self) -> None:
        """Return once it says that it is."""
        async with asyncio.timeout(READY_WITHIN_S):
            while not await asyncio.to_thread(self._answers):
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.process.args!r} ended:\n{self.output.read_text()[-3_000:]}")
                await asyncio.sleep(LOOK_S)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """Tell it to end in order; return at once."""
        self.process.send_signal(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(30)


class Group:
    """A fresh group on some brokers; ``close`` ends what was started of it."""

    def __init__(self, brokers: str, directory: Path, *, lanes: int, copies: int) -> None:
        """Makes its topics, with a session timeout of ``SESSION_S``."""
        self.name = f"bench-{os.urandom(4).hex()}"
        self.lanes = lanes
        self._directory = directory
        self._roles: list[Role] = []
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")} | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)]),
            "MILLSTREAM_BROKERS": brokers,
            "MILLSTREAM_GROUP": self.name,
            "MILLSTREAM_EVENTS_TOPIC": f"{self.name}-events",
            "MILLSTREAM_REPLICATION_FACTOR": str(copies),
            "MILLSTREAM_MIN_INSYNC": str(max(copies - 1, 1)),
            "MILLSTREAM_SESSION_TIMEOUT": f"{SESSION_S}s",
        }
        line = [*_millstream("topics", "apply", "--yes"), "--lanes", str(lanes)]
        made = subprocess.run(line, cwd=ROOT, env=self._environ, capture_output=True, text=True, check=False)
        if made.returncode:
            raise RuntimeError(made.stderr)

    async def worker(self, name: str) -> Role:
        """A worker that runs the functions of the benches; ready."""
        port = _free_port()
        line = [*_millstream("worker", TARGET), "--name", name, "--data", str(self._directory / name)]
        return await self._start(name, [*line, "--probes-port", str(port)], port)

    async def api(self) -> Role:
        """A door; ready."""
        port = _free_port()
        return await self._start("api", [*_millstream("api"), "--port", str(port)], port)

    async def server(self, app_url: str, *more: str) -> Role:
        """A server with a door that calls an app on this machine; ready."""
        port, probes = _free_port(), _free_port()
        line = [*_millstream("server"), "--port", str(port), "--probes-port", str(probes), "-u", app_url]
        line += ["--data", str(self._directory / "server"), "--endpoint-network", "127.0.0.0/8", *more]
        return await self._start("server", line, port)

    async def _start(self, name: str, line: list[str], port: int) -> Role:
        role = Role(line, self._environ, self._directory / f"{name}.log", port)
        self._roles.append(role)
        await role.ready()
        return role

    def close(self) -> None:
        """Kill what still runs."""
        for role in self._roles:
            role.kill()


def _millstream(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "millstream", *arguments]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
