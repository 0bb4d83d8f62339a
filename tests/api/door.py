"""A real door on a loopback port over a memory log, with a real worker behind it where functions are given.

    async with open_world(path) as world: ...                      # the door alone: who lives behind it says nothing
    async with open_world(path, apps=[make_shop()]) as world: ...  # a worker with its lane, a history that follows it

With ``follows=False`` the history folds when the test says so (``world.fold``): for what a door does when it is behind.
``most`` connections are taken at once; 0: as many as descriptors allow.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from millstream import App, Context
from millstream.api.door.door import DoorConfig
from millstream.api.server import build_app
from millstream.api.sockets.serving import Served, serve
from millstream.history.index import Index, prepare
from millstream.history.service import Follows, History
from millstream.log.group_topics import topics_of
from millstream.log.memory.log import MemoryLog
from millstream.log.port import Log
from millstream.model.event import Envelope
from millstream.model.facts import Fact
from millstream.state.memory import MemoryStore
from millstream.wire.messages import decode_envelope
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker

GROUP = "shop"
NOW_MS = 1_795_356_850_000
"""What the clock of a door says that has no worker behind it."""
SOON_S = 10.0
FULFIL = "shop-fulfil"


def make_shop() -> App:
    """One function; what it does is in the event."""
    shop = App("shop")
    tries = 0

    async def charge() -> dict[str, int]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("no <b>card</b>")
        return {"id": 7}

    @shop.function(on="shop/paid", retries=1)
    async def fulfil(ctx: Context) -> dict[str, bool]:
        """Its first step fails once."""
        match ctx.event.data.get("then"):
            case "ask":
                await ctx.step.invoke("child", fulfil, data={"then": "wait"})
            case "listen":
                await ctx.step.wait_for_event("news", event="<news>", match="data.then", timeout="1d")
            case "give up":
                await ctx.step.wait_for_signal("news", "news", timeout="1ms")
            case "wait":
                await ctx.step.sleep("wait", "1d")
            case "fail":
                raise ValueError("no")
            case _:
                await ctx.step.run("charge", charge)
        return {"ok": True}

    return shop


@dataclass
class World:
    """What a test of the door holds. ``facts`` are those that the lane has recorded."""

    log: Log
    served: Served
    http: aiohttp.ClientSession
    index: Path
    facts: list[Fact] = field(default_factory=list)

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        """Status, JSON body (None for none) and the answer itself."""
        async with self.http.request(method, self.served.url + path, allow_redirects=False, **more) as response:
            text = await response.text()
            body = await response.json(content_type=None) if text[:1] in ("{", "[") else text
            return response.status, body, response

    async def send(self, **data: Any) -> str:
        """Post an event that starts a run; its id."""
        return str((await self.call("POST", "/e/K", json={"name": "shop/paid", "data": data}))[1]["ids"][0])

    async def started(self, **data: Any) -> tuple[str, str]:
        """Post an event; (event id, id of the run that the lane has started on it)."""
        event = await self.send(**data)
        return event, (await self.fact(lambda fact: event in getattr(fact, "events", ()))).run

    async def shown(self, run: str, status: str) -> Any:
        """The run, once the door shows it with this status or state."""
        async with asyncio.timeout(SOON_S):
            while True:
                answer = (await self.call("GET", f"/v1/runs/{run}"))[1]
                if status in (answer.get("data", {}).get("status"), answer.get("data", {}).get("state")):
                    return answer["data"]
                await asyncio.sleep(0.01)

    async def fact(self, fits: Callable[[Fact], bool]) -> Any:
        """The first fact of a kind, once it is recorded."""
        async with asyncio.timeout(SOON_S):
            while True:
                for fact in self.facts:
                    if fits(fact):
                        return fact
                await asyncio.sleep(0.005)

    async def stored(self, partitions: int = 1) -> list[Envelope]:
        """The events in the events topic."""
        events = []
        for partition in range(partitions):
            end = await self.log.end_offset("events", partition)
            reader = self.log.reader("events", partition, 0)
            while reader.position < end:
                for record in await reader.read(max_records=10_000, max_bytes=1 << 30, wait_s=0):
                    events.append(decode_envelope(record.value or b""))
            await reader.close()
        return events

    async def fold(self) -> None:
        """Bring the history up to the log's end."""
        index = Index(self.index)
        await History(self.log, index, FOLLOWS).catch_up()
        index.close()


FOLLOWS = Follows(group=GROUP, lanes=1, events=("events",))


@contextlib.asynccontextmanager
async def open_world(
    path: Path, log: Log | None = None, *, apps: Sequence[App] = (), follows: bool = True, most: int = 0, **config: Any
) -> AsyncIterator[World]:
    """A door that runs, with everything ended afterwards."""
    log = log or MemoryLog()
    index = path / "history.db"
    path.mkdir(exist_ok=True)
    prepare(index)
    facts: list[Fact] = []
    async with contextlib.AsyncExitStack() as ending:
        ending.push_async_callback(log.close)
        if apps:
            await ending.enter_async_context(_worker(log, apps, facts))
        else:
            await log.create_topics(topics_of(_parts(log, lanes=config.get("event_partitions", 1)).shape))
            config = {"now_ms": lambda: NOW_MS} | config
        if apps and follows:
            await ending.enter_async_context(following(log, index))
        door = DoorConfig(**{"log": log, "group": GROUP, "lanes": 1, "index": index, **config})
        served = await serve(build_app(door), port=0, most=most)
        ending.push_async_callback(served.close)
        http = await ending.enter_async_context(aiohttp.ClientSession())
        yield World(log, served, http, index, facts)


def _parts(log: Log, **more: Any) -> WorkerParts:
    given = {"lanes": 1, "apps": (), "retry_interval_ms": 1, "public_url": "https://hooks.example"} | more
    return WorkerParts(log=log, group=GROUP, make_store=lambda lane: MemoryStore(), **given)


@contextlib.asynccontextmanager
async def _worker(log: Log, apps: Sequence[App], facts: list[Fact]) -> AsyncIterator[Worker]:
    worker = Worker(_parts(log, apps=apps, on_facts=lambda recorded, at_ms: facts.extend(recorded)))
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop(0)


@contextlib.asynccontextmanager
async def following(log: Log, path: Path) -> AsyncIterator[None]:
    """A history that follows the log."""
    index = Index(path)
    task = asyncio.get_running_loop().create_task(History(log, index, FOLLOWS).run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        index.close()
