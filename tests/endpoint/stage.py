"""A real server in this process, real apps of unmodified SDKs in processes of their own, and what tests ask of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from millstream import App, Client, Event
from millstream.dev import DevServer, DevSettings
from millstream.model.facts import Fact, RunCancelled, RunCompleted, RunFailed, RunStarted
from millstream.model.function import AppSpec, Backoff, EventTrigger, FunctionSpec
from millstream.worker.registration import register

HERE = Path(__file__).parent
APP_ID = "shop app"
STARTS_WITHIN_S = 60.0
ENDS_WITHIN_S = 90.0
RETRIES = {"flaky": 2, "body": 1}
AGAIN_SOON = Backoff(delays_ms=(50,))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def spec(url: str, names: Sequence[str], app_id: str = APP_ID) -> AppSpec:
    """The app as its SDK would register it; each function starts on the event of its name."""
    functions = [
        FunctionSpec(
            slug=f"{app_id}-{name}",
            name=name,
            triggers=(EventTrigger(name),),
            retries=RETRIES.get(name, 0),
            backoff=AGAIN_SOON,
        )
        for name in names
    ]
    return AppSpec(app_id, tuple(functions), url, "1")


class PythonApp:
    """``app_python.py`` in a process of its own."""

    def __init__(self, notes: Path, port: int = 0, env: Mapping[str, str] | None = None) -> None:
        self.notes_path = notes
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/inngest"
        self._env = {**os.environ, "INNGEST_DEV": "1", **(env or {})}
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start it; return when it answers."""
        script = str(HERE / "app_python.py")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", script, str(self.port), str(self.notes_path), env=self._env
        )
        async with asyncio.timeout(STARTS_WITHIN_S), aiohttp.ClientSession() as session:
            while True:
                assert self.process.returncode is None, "the app could not start"
                try:
                    async with session.get(self.url) as answer:
                        if answer.status in (200, 401):
                            return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """``kill -9``."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    @property
    def notes(self) -> list[str]:
        """What user code did."""
        return self.notes_path.read_text().splitlines() if self.notes_path.exists() else []


class Server:
    """``millstream dev``, as a rule without apps of its own."""

    def __init__(self, data: Path, settings: DevSettings | None = None, apps: Sequence[App] = ()) -> None:
        made = settings or DevSettings()
        self.facts: list[Fact] = []
        self._settings = DevSettings(
            data=data, port=0, durability="os", retry_interval_ms=50, endpoints=made.endpoints, lane=made.lane
        )
        self.dev = DevServer(apps, self._settings, on_facts=lambda facts, at_ms: self.facts.extend(facts))
        self.client: Any = None

    async def __aenter__(self) -> Self:
        await self.dev.start()
        assert self.dev.served is not None
        self.client = Client(self.dev.served.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self.dev.stop(grace_s=1.0)

    async def register(self, app: AppSpec) -> None:
        """Put an app into the functions topic; return when the lanes know it."""
        worker, log = self.dev.worker, self.dev.log
        assert worker is not None and log is not None
        seen = await register(log, worker.parts.group, [app])
        await until(lambda: all(lane.catalogue_seen >= seen for lane in worker.lanes.values()))

    async def send(self, name: str, **data: object) -> str:
        """Send an event; the run that it starts."""
        (event,) = await self.client.send(Event(name, data))
        started: list[str] = []

        def found() -> bool:
            started[:] = [f.run for f in self.facts if isinstance(f, RunStarted) and event in _events(f)]
            return bool(started)

        await until(found)
        return started[0]

    async def end(self, run: str) -> RunCompleted | RunFailed | RunCancelled:
        """How a run ended."""
        ends: list[Any] = []

        def found() -> bool:
            kinds = RunCompleted | RunFailed | RunCancelled
            ends[:] = [fact for fact in self.facts if isinstance(fact, kinds) and fact.run == run]
            return bool(ends)

        await until(found)
        end: RunCompleted | RunFailed | RunCancelled = ends[0]
        return end

    async def result(self, name: str, **data: object) -> Any:
        """Send an event, and the result of the run that it starts."""
        end = await self.end(await self.send(name, **data))
        assert isinstance(end, RunCompleted), end
        return msgspec.json.decode(end.result)

    async def failure(self, name: str, **data: object) -> RunFailed:
        """Send an event, and the failure of the run that it starts."""
        end = await self.end(await self.send(name, **data))
        assert isinstance(end, RunFailed), end
        return end

    def of(self, kind: type[Any]) -> list[Any]:
        """The facts of a kind so far."""
        return [fact for fact in self.facts if isinstance(fact, kind)]


def _events(fact: RunStarted) -> tuple[str, ...]:
    return tuple(fact.events)


async def until(what: Callable[[], object]) -> None:
    """Return once this is so."""
    async with asyncio.timeout(ENDS_WITHIN_S):
        while not what():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.01)
