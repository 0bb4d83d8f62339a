"""A stage for the executor suite: a lane in memory in real time, around an executor of the kind that is asked for."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from millstream.execute.endpoint.carrying import Carrier
from millstream.execute.endpoint.endpoints import Endpoints
from millstream.execute.endpoint.executor import EndpointExecutor
from millstream.execute.local.executor import LocalExecutor, LocalSettings
from millstream.execute.port import Executor, RunSource
from millstream.execute.processes.calls import carrier_of
from millstream.execute.processes.children import ChildrenExecutor
from millstream.execute.processes.pool import Pool, PoolSettings
from millstream.model.facts import Fact, RunCancelled, RunCompleted, RunFailed
from millstream.model.function import AppSpec
from tests.contract.executor_app import app
from tests.execute.harness import World

R = TypeVar("R")
TARGET = "tests.contract.executor_app:app"
LOCAL = LocalSettings(park_after_s=0.5)
ENDS_WITHIN_S = 180.0
APP_MODULE = "tests.contract.executor_endpoint_app"


class Stage:
    """One loop for all tests of a kind, so that child processes are started once."""

    def __init__(self, kind: str, executors: int = 2) -> None:
        self.kind = kind
        self.runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        self.pool: Pool | None = None
        self.endpoints: Endpoints | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.carrier: Carrier | None = None
        if kind.startswith("endpoint"):
            self._serve()
        if kind == "children":
            self.runner.run(self._open(executors, (TARGET,)))
        if kind == "endpoint-children":
            self.runner.run(self._open(executors, ()))

    async def _open(self, executors: int, targets: tuple[str, ...]) -> None:
        self.pool = Pool(PoolSettings(executors=executors, targets=targets, local=LOCAL))
        await self.pool.start()
        if self.endpoints is not None:
            self.carrier = carrier_of(self.pool, self.endpoints)

    def _serve(self) -> None:
        """The functions as an app over HTTP, in a process of its own."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        self._process = subprocess.Popen([sys.executable, "-m", APP_MODULE, str(port)])
        ends = time.monotonic() + ENDS_WITHIN_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert self._process.poll() is None and time.monotonic() < ends, "the app did not start"
                time.sleep(0.05)
        self.runner.run(self._register(f"http://127.0.0.1:{port}/api/inngest"))

    async def _register(self, url: str) -> None:
        self.endpoints = Endpoints()
        self.endpoints.see(AppSpec(app.id, app.spec().functions, url))

    def close(self) -> None:
        if self.endpoints is not None:
            self.runner.run(self.endpoints.close())
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self.pool is not None:
            self.runner.run(self.pool.close())
        self.runner.close()

    def play(self, notes: Path, scenario: Callable[[Scene], Awaitable[R]]) -> R:
        """Run a scenario to its end on a fresh lane."""

        async def run() -> R:
            scene = Scene(notes, self._make)
            try:
                async with asyncio.timeout(ENDS_WITHIN_S):
                    return await scenario(scene)
            finally:
                for run in scene.world.runs():
                    scene.world.executor.abandon(run)
                await scene.world.executor.close(0)

        return self.runner.run(run())

    def _make(self, source: RunSource) -> Executor:
        if self.endpoints is not None:
            return EndpointExecutor(source, self.endpoints, self.carrier)
        if self.pool is None:
            return LocalExecutor([app], source, LOCAL)
        return ChildrenExecutor(self.pool, source)


class Scene:
    """A lane, and the notes of what user code did for it."""

    def __init__(self, notes: Path, make: Callable[[RunSource], Executor]) -> None:
        self.path = notes
        self.world = World(app, retry_interval_ms=50, make_executor=make)

    async def send(self, name: str, **data: object) -> str:
        return await self.world.send({"notes": str(self.path), **data}, name)

    async def end(self, name: str, **data: object) -> RunCompleted | RunFailed | RunCancelled:
        return await self.world.end(await self.send(name, **data))

    @property
    def notes(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def facts(self, kind: type[Fact]) -> list[Any]:
        return [fact for fact in self.world.facts if isinstance(fact, kind)]

    async def until(self, what: Callable[[], object]) -> None:
        while not what():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)
