"""A real worker on a log, with the history beside it: for what only lanes, checkpoints and trims together show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from millstream import App, Context, On
from millstream.history.index import Index
from millstream.history.queries import Queries
from millstream.history.seen import Page, RunInFull
from millstream.history.service import Follows, History
from millstream.lane.settings import LaneSettings
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.memory.log import MemoryLog
from millstream.log.port import Log, Produced
from millstream.model.event import Envelope
from millstream.model.ids import lane_of, ulid
from millstream.model.run_requests import CancelRun
from millstream.state.memory import MemoryStore
from millstream.wire.messages import encode_envelope
from millstream.worker.os_surroundings import OsSurroundings
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker

GROUP = "shop"
LANES = 2
PATIENCE_S = 60
AT_ONCE = LaneSettings(
    flush_after_ms=50,
    checkpoint_after_ms=200,
    checkpoint_gap_ms=100,
    trim_lag_ms=0,
    trim_every_ms=100,
    history_ms=0,
    housekeeping_ms=50,
)
shop = App("shop")


@shop.function(on="order/placed")
async def ship(ctx: Context) -> str:
    """Two steps, then a sleep of a day."""
    await ctx.step.run("pack", lambda: "packed")
    await ctx.step.run("label", lambda: "labelled")
    await ctx.step.sleep("wait", "1d")
    return "shipped"


@shop.function(on="order/quick", retries=0)
async def quick(ctx: Context) -> int:
    """Ends, as the event says."""
    n = int(ctx.event.data["n"])
    if n < 0:
        raise ValueError("no such order")
    return await ctx.step.run("count", lambda: n)


@shop.function(on="order/nap")
async def nap(ctx: Context) -> int:
    """Ends after half a second."""
    await ctx.step.sleep("nap", "500ms")
    return 1


@shop.function(on="order/held", retries=0, on_exhausted="hold")
async def hold(ctx: Context) -> None:
    """A step of it is held, and its body."""
    await ctx.step.run("label", lambda: "labelled")
    if ctx.event.data["n"]:
        await ctx.step.run("ship", lambda: 1 // 0)
    raise ValueError("no such order")


@shop.function(on="order/asked")
async def ask(ctx: Context) -> None:
    """Waits for two events, a signal, another run and a post, all at once."""
    made = await ctx.step.callback("approve", timeout="4d")
    await asyncio.gather(
        made.result(),
        ctx.step.wait_for_all("both", [On("order/paid", match="data.n"), On("order/sent")], timeout="1d"),
        ctx.step.wait_for_signal("say", f"say-{ctx.event.data['n']}", timeout="2d"),
        ctx.step.invoke("ship", ship, timeout="3d"),
    )


class World:
    """A log, a worker on it, and indexes that follow it."""

    def __init__(self, log: Log, folder: Path, apps: list[App], group: str = GROUP) -> None:
        self.log = log
        self.group = group
        self.events = "events" if group == GROUP else f"{group}-events"
        self.folder = folder
        self.apps = apps
        self.sent = 0
        self.worker: Worker | None = None

    async def start(self, settings: LaneSettings = AT_ONCE) -> None:
        parts = WorkerParts(
            log=self.log,
            group=self.group,
            events_topic=self.events,
            lanes=LANES,
            apps=self.apps,
            make_store=lambda lane: MemoryStore(),
            settings=settings,
            public_url="https://hooks.example",
        )
        self.worker = Worker(parts)
        await self.worker.start()

    async def stop(self) -> None:
        if self.worker is not None:
            await self.worker.stop(1.0)
            self.worker = None

    async def send(self, name: str, n: int = 0) -> str:
        """An event; its internal id."""
        self.sent += 1
        now_ms = OsSurroundings().now_ms()
        internal = ulid(now_ms, self.sent.to_bytes(10, "big"))
        event = Envelope(internal, internal, False, name, b'{"n":%d}' % n, now_ms, now_ms)
        writer = self.log.writer(self.events, self.sent % LANES)
        await writer.append([Produced(encode_envelope(event))])
        await writer.close()
        return internal

    async def fold(self, name: str) -> Queries:
        """Bring an index up to the log's end; questions to it."""
        index = Index(self.folder / name)
        try:
            await History(self.log, index, self.follows()).catch_up()
        finally:
            index.close()
        return Queries(self.folder / name)

    def follows(self) -> Follows:
        return Follows(group=self.group, lanes=LANES, events=(self.events,))

    async def run_of(self, name: str, event: str, fits: Callable[[RunInFull], bool]) -> str:
        """The run of an event, once it is as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                queries = await self.fold(name)
                try:
                    for run in queries.runs_of_event(event, Page(1_000))[0]:
                        full = queries.run(run.run)
                        if full is not None and fits(full):
                            return run.run
                finally:
                    queries.close()
                await asyncio.sleep(0.02)

    async def cancel(self, run: str) -> None:
        assert self.worker is not None
        self.worker.lanes[lane_of(run, LANES)].submit(CancelRun(run, "enough"))

    async def until_trimmed_past(self, at: dict[int, int]) -> None:
        """Send what ends at once until every journal begins behind the given offsets."""
        async with asyncio.timeout(PATIENCE_S):
            while any([await self.start_of(lane) <= offset for lane, offset in at.items()]):
                await self.send("order/quick", 1)
                await self.send("order/quick", 1)
                await asyncio.sleep(0.05)

    async def until_checkpointed(self, at: dict[int, int]) -> None:
        """Wait until every lane has a checkpoint of the record before the given offset, or of a later one."""
        assert self.worker is not None
        async with asyncio.timeout(PATIENCE_S):
            for lane, offset in at.items():
                upkeep = self.worker.lanes[lane].upkeep
                while upkeep.checkpointed_at < offset - 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    async def start_of(self, lane: int) -> int:
        return await self.log.start_offset(f"{self.group}.journal", lane)

    async def ends(self) -> dict[int, int]:
        return {lane: await self.log.end_offset(f"{self.group}.journal", lane) for lane in range(LANES)}


@asynccontextmanager
async def open_world(backend: str, folder: Path, apps: list[App] | None = None) -> AsyncIterator[World]:
    """A world with a worker that lives, on a log in memory or on the disk."""
    log: Log = MemoryLog() if backend == "memory" else await EmbeddedLog.open(folder / "log", durability="os")
    async with living(World(log, folder, apps or [shop])) as world:
        yield world


@asynccontextmanager
async def living(world: World) -> AsyncIterator[World]:
    """The world with its worker started; all of it ends in the end."""
    try:
        await world.start()
        yield world
    finally:
        await world.stop()
        await world.log.close()
