"""A fleet: three real brokers, workers, two apis and a history, each a process of its own that may be hurt.

Everything is started as a user starts it: ``millstream topics apply``, ``millstream worker``, ``millstream api``,
``millstream history``. Ports and folders are the fleet's own; nothing but its own processes is ever signalled.
"""

from __future__ import annotations

import asyncio
import json
import os
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

from tests.chaos.functions import LEDGER_VARIABLE
from tests.chaos.limited import write_gone
from tests.chaos.on_kafka.volume import VOLUME_VARIABLE
from tests.kafka.broker import Broker

ROOT = Path(__file__).resolve().parents[3]
GROUP = "chaos"
LANES = 8
SESSION_S = 6.0
READY_WITHIN_S = 90.0
STOPPED_WITHIN_S = 45.0


@dataclass
class Member:
    """One process of the fleet. ``stopped_ns``: when it was last halted by SIGSTOP, and when it went on."""

    name: str
    command: list[str]
    data: Path
    port: int
    log: Path
    ledger: Path
    process: subprocess.Popen[bytes] | None = None
    halts: list[tuple[int, int]] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)

    @property
    def up(self) -> bool:
        """Whether the process lives (a halted one does)."""
        return self.process is not None and self.process.poll() is None

    @property
    def url(self) -> str:
        """Where its http listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, environment: dict[str, str]) -> None:
        """Start it; does not wait for anything."""
        assert not self.up, f"{self.name} is up already"
        with self.log.open("ab") as log:
            log.write(f"--- start {len(self.pids) + 1}\n".encode())
            log.flush()
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.pids.append(self.process.pid)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            write_gone(self.ledger, self.process.pid)

    async def leave(self) -> str:
        """SIGTERM; what was wrong with its end, empty: nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(self.process.wait, STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"{self.name} did not stop within {STOPPED_WITHIN_S:.0f} s of SIGTERM"
        return f"{self.name} stopped with exit code {code} after SIGTERM: see {self.log}" if code else ""

    async def halt(self, for_s: float) -> None:
        """SIGSTOP for a while, then SIGCONT."""
        assert self.process is not None
        process = self.process
        began = time.monotonic_ns()
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(for_s)
        finally:
            process.send_signal(signal.SIGCONT)
            self.halts.append((began, time.monotonic_ns()))

    async def ready(self, session: aiohttp.ClientSession, path: str = "/health") -> None:
        """Return when it answers. Raises AssertionError when it ends or takes too long."""
        begun = time.monotonic()
        while True:
            assert self.process is not None
            code = self.process.poll()
            assert code is None, f"{self.name} ended by itself with exit code {code}: see {self.log}"
            try:
                async with session.get(self.url + path) as answer:
                    if answer.status == 200:
                        return
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            waited = time.monotonic() - begun
            assert waited < READY_WITHIN_S, f"{self.name} was not ready after {waited:.0f} s: see {self.log}"
            await asyncio.sleep(0.1)


class Fleet:
    """See the module. ``directory`` holds everything: brokers, data, logs, ledgers."""

    def __init__(
        self, directory: Path, broker: Broker, *, workers: int = 3, copies: int = 3, group: str = GROUP
    ) -> None:
        """``copies`` of each record, all but one of three in sync; ``group``: another one has its own events topic."""
        self.directory = directory
        self.broker = broker
        self.group = group
        self.ledger = directory / "ledger.jsonl"
        self.volume = directory / "volume.txt"
        ports = free_ports(workers + 3)
        path = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
        self.environment = kept | {
            LEDGER_VARIABLE: str(self.ledger),
            VOLUME_VARIABLE: str(self.volume),
            "PYTHONPATH": path,
            "MILLSTREAM_BROKERS": broker.bootstrap,
            "MILLSTREAM_GROUP": group,
            "MILLSTREAM_EVENTS_TOPIC": "events" if group == GROUP else f"{group}-events",
            "MILLSTREAM_LANES": str(LANES),
            "MILLSTREAM_REPLICATION_FACTOR": str(copies),
            "MILLSTREAM_MIN_INSYNC": "2" if copies > 2 else "1",
        }
        self.history = self._member("history", ports[0], ["history"])
        self.apis = [
            self._member(f"api{n}", ports[1 + n], ["api", "--history-url", self.history.url]) for n in range(2)
        ]
        self.workers = [
            self._member(f"worker{n}", ports[3 + n], ["worker", "tests.chaos.on_kafka.app:app", "--name", f"worker{n}"])
            for n in range(workers)
        ]

    @property
    def members(self) -> list[Member]:
        """All processes but the brokers."""
        return [*self.workers, *self.apis, self.history]

    def apply_topics(self) -> None:
        """``millstream topics apply``, twice: the second time it must find nothing to do."""
        for _ in range(2):
            ran = self.command("topics", "apply", "--yes", "--apis", "2")
            assert ran.returncode == 0, f"topics apply failed with {ran.returncode}: {ran.stdout[-3_000:]} {ran.stderr}"

    async def start(self) -> None:
        """Start everything; return when all of it is ready."""
        for member in self.members:
            member.start(self.environment)
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(one.ready(session) for one in (*self.apis, self.history)))
            await asyncio.gather(*(one.ready(session, "/readyz") for one in self.workers))

    def kill(self) -> None:
        """Whatever happens, leave no process behind."""
        for member in self.members:
            if member.up and member.process is not None:
                member.process.send_signal(signal.SIGCONT)
            member.kill()

    def _member(self, name: str, port: int, arguments: list[str]) -> Member:
        data = self.directory / name
        listens = "--probes-port" if arguments[0] == "worker" else "--port"
        line = [sys.executable, "-m", "millstream", *arguments, listens, str(port)]
        if arguments[0] != "api":
            line += ["--data", str(data)]
        return Member(name, line, data, port, self.directory / f"{name}.log", self.ledger)

    def forget_disk(self, member: Member) -> None:
        """The disk of a process that is down is lost: all of it is a cache."""
        assert not member.up
        shutil.rmtree(member.data, ignore_errors=True)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``millstream`` with these arguments, on the fleet's group."""
        return subprocess.run(
            [sys.executable, "-m", "millstream", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    async def wrong_lanes(self) -> list[str]:
        """What is wrong where every lane should have an owner that lives, and every journal be as it should be."""
        wrong = []
        listed = await asyncio.to_thread(self.command, "lanes", "list", "-o", "json")
        if listed.returncode:
            wrong.append(f"lanes list failed: {listed.stderr.strip()}")
        else:
            lanes = json.loads(listed.stdout)
            names = {worker.name for worker in self.workers}
            wrong += [f"lane {lane} has no live owner: {lane}" for lane in lanes if lane.get("owner") not in names]
            if len(lanes) != LANES:
                wrong.append(f"expected {LANES} lanes of group {self.group}, got {len(lanes)}")
        verified = await asyncio.to_thread(self.command, "lanes", "verify", "-o", "json")
        if verified.returncode:
            wrong.append(f"lanes verify found: {verified.stdout[-2_000:]} {verified.stderr[-500:]}")
        return wrong

    async def read(self, session: aiohttp.ClientSession, path: str, **query: Any) -> Any:
        """The ``data`` of a read, from the history; None for a 404."""
        async with session.get(self.history.url + path, params=query) as answer:
            if answer.status == 404:
                return None
            assert answer.status == 200, f"GET {path} answered {answer.status}: {(await answer.read())[:300]!r}"
            return msgspec.json.decode(await answer.read())["data"]


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at this moment."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
