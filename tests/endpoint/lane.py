"""A lane in memory in real time around an ``EndpointExecutor``, for one app at a URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from millstream.execute.endpoint.endpoints import Endpoints, EndpointSettings
from millstream.execute.endpoint.executor import EndpointExecutor
from millstream.model.facts import RunCompleted, RunFailed
from millstream.model.function import AppSpec, EventTrigger, FunctionSpec
from tests.execute.harness import World

ENDS_WITHIN_S = 60.0


class RemoteApp:
    """An app as the catalogue has it."""

    def __init__(self, url: str, retries: int = 2, step_timeout_ms: int = 60_000) -> None:
        self.id = "shop"
        trigger = EventTrigger("go")
        function = FunctionSpec("shop-go", "go", (trigger,), retries=retries, step_timeout_ms=step_timeout_ms)
        self._spec = AppSpec(self.id, (function,), url)

    def spec(self) -> AppSpec:
        """What the lane knows."""
        return self._spec


class Lane(World):
    """``World`` with its endpoints."""

    endpoints: Endpoints

    @property
    def trouble(self) -> str:
        """What is wrong with the app."""
        (endpoint,) = self.endpoints
        return endpoint.trouble

    async def failed(self) -> RunFailed:
        """The failure of a run."""
        end = await self.end(await self.send())
        assert isinstance(end, RunFailed), end
        return end

    async def done(self, run: str) -> Any:
        """The result of a run."""
        end = await self.end(run)
        assert isinstance(end, RunCompleted), end
        return msgspec.json.decode(end.result)

    def of(self, kind: type[Any]) -> list[Any]:
        """The facts of a kind so far."""
        return [fact for fact in self.facts if isinstance(fact, kind)]


@asynccontextmanager
async def lane_for(
    url: str, settings: EndpointSettings | None = None, *, retries: int = 2, step_timeout_ms: int = 60_000
) -> AsyncIterator[Lane]:
    """A lane that calls the app at this URL."""
    app = RemoteApp(url, retries, step_timeout_ms)
    endpoints = Endpoints(settings)
    endpoints.see(app.spec())
    lane = Lane(app, retry_interval_ms=20, make_executor=lambda source: EndpointExecutor(source, endpoints))  # type: ignore[arg-type]
    lane.endpoints = endpoints
    try:
        async with asyncio.timeout(ENDS_WITHIN_S):
            yield lane
    finally:
        for run in lane.runs():
            lane.executor.abandon(run)
        await lane.executor.close(0)
        await endpoints.close()


async def until(what: Callable[[], object]) -> None:
    """Return once this is so."""
    while not what():  # noqa: ASYNC110 - what is waited for happens on sockets
        await asyncio.sleep(0.005)


Scenario = Callable[[], Awaitable[None]]
