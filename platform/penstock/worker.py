"""The worker: a process that owns lanes and runs functions. The composition root of everything behind the door.

    Worker(parts) ─ topics ─ registers its apps ─ joins the group ─┬─ lane 0: store, executor, restore, take-over, live
                                                                   └─ lane 1 …

What a worker is made of comes in from outside (``WorkerParts``): which log, which stores, which clock. ``penstock dev``
brings the embedded log and RocksDB; the test kit and the simulation bring memory and their own time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from penstock.core.tables import Tables
from penstock.errors import ConfigError, Corruption
from penstock.execute.local import LocalExecutor
from penstock.execute.port import Executor, RunSource, RunView
from penstock.lane.lane import Lane
from penstock.lane.parts import LaneParts, OnFacts, Source
from penstock.lane.port import Surroundings
from penstock.lane.restore import restore
from penstock.lane.settings import LaneSettings
from penstock.log.port import Log, Membership, Produced, TopicKind, TopicSpec
from penstock.model.commands import Command, LoseDispatch, ParkDispatch, Report, Unpark
from penstock.model.function import AppSpec
from penstock.model.ids import lane_of_source
from penstock.model.limits import HOUR_MS
from penstock.model.messages import group_topic
from penstock.model.place import Place
from penstock.model.rows import StepRow
from penstock.sdk.app import App
from penstock.state.store import Store
from penstock.telemetry import Telemetry, say
from penstock.wire.messages import decode_app, encode_app

LOG: Final = logging.getLogger("penstock.worker")
REPLIES_KEPT_MS: Final = HOUR_MS
LIVE_LOOK_S: Final = 0.005
CATALOGUE_BYTES_MAX: Final = 64 * 1024 * 1024


class OsSurroundings:
    """The machine's clock and chance."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back in so many seconds."""
        return asyncio.get_running_loop().call_later(delay_s, callback)

    async def sleep(self, delay_s: float) -> None:
        """Wait so many seconds."""
        await asyncio.sleep(delay_s)

    def entropy(self, size: int) -> bytes:
        """Random bytes of the operating system."""
        return os.urandom(size)

    def chance(self) -> float:
        """A number in [0, 1)."""
        return random.random()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What a worker is made of.

    ``make_store``          a lane's local store, by lane.
    ``events_retention_ms`` of the events topic, where this worker creates it.
    ``make_executor``       runs the functions of a lane, given what the lane shows of its runs; None: in this process.
    ``on_facts``            is told the facts of every durable record of every lane, with the record's time.
    """

    log: Log
    group: str
    lanes: int
    apps: Sequence[App]
    make_store: Callable[[int], Store]
    name: str = "worker"
    events_topic: str = "events"
    events_retention_ms: int = -1
    retry_interval_ms: int = -1
    surroundings: Surroundings = field(default_factory=OsSurroundings)
    settings: LaneSettings = field(default_factory=LaneSettings)
    telemetry: Telemetry = field(default_factory=Telemetry)
    make_executor: Callable[[RunSource], Executor] | None = None
    on_facts: OnFacts | None = None


class LaneRunSource:
    """What a lane shows its executors: durable rows only (``execute.port.RunSource``)."""

    def __init__(self, tables: Tables, submit: Callable[[Command], None], now_ms: Callable[[], int]) -> None:
        self._tables = tables
        self.now_ms = now_ms
        self.report: Callable[[Report], None] = submit
        """Queue a report."""
        self.park: Callable[[ParkDispatch], None] = submit
        """Queue that there is no code for a dispatch."""
        self.lose: Callable[[LoseDispatch], None] = submit
        """Queue that what ran a dispatch has died."""
        self.unpark: Callable[[Unpark], None] = submit
        """Queue that there is code again."""

    def view(self, run: str) -> RunView | None:
        """The run as recorded; None when it is over."""
        row = self._tables.runs.get(run)
        if row is None:
            return None
        held = [self._tables.events.get(event) for event in row.events]
        events = tuple([e.event for e in held if e is not None])
        if not row.steps:
            return RunView(row, events, ())
        steps = [self._tables.steps.get((run, step)) for step in row.steps]
        return RunView(row, events, tuple([s for s in steps if s is not None]))

    def step(self, run: str, step: str) -> StepRow | None:
        """One step as recorded."""
        return self._tables.steps.get((run, step))


class Worker:
    """Owns lanes from ``start`` to ``stop``. ``wait`` raises what stopped a lane."""

    def __init__(self, parts: WorkerParts) -> None:
        self.parts = parts
        self.lanes: dict[int, Lane] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._lives: dict[int, asyncio.Task[None]] = {}  # The last life of each lane here, ended or not.
        self._stores: dict[int, Store] = {}
        self._executors: dict[int, Executor] = {}
        self._membership: Membership | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Create what topics are missing, register the apps, join the group; return when every lane is live."""
        parts = self.parts
        await parts.log.create_topics(topics_of(parts))
        catalogue = await register(parts.log, parts.group, [app.spec() for app in parts.apps])
        self._membership = parts.log.membership(parts.group, parts.lanes)
        await self._membership.join(on_assigned=self._assigned, on_revoked=self._revoked)
        while not self._failed.done() and not all(  # noqa: ASYNC110 - once, when a worker starts
            lane in self.lanes and self.lanes[lane].catalogue_seen >= catalogue for lane in self._tasks
        ):
            await asyncio.sleep(LIVE_LOOK_S)
        if self._failed.done():
            self._failed.result()

    async def wait(self) -> None:
        """Return when the worker was stopped; raise what stopped a lane."""
        await asyncio.shield(self._failed)

    async def stop(self, grace_s: float = 10.0) -> None:
        """Take nothing new, let running steps end for so long and be recorded, let go of every lane."""
        lanes = tuple(self.lanes.values())
        for lane in lanes:
            lane.take_nothing_new()
        await asyncio.gather(*(executor.close(grace_s) for executor in self._executors.values()))
        with suppress(TimeoutError):  # A log that takes nothing now: what was reported is executed again.
            async with asyncio.timeout(grace_s):
                await asyncio.gather(*(lane.recorded() for lane in lanes))
        await self._revoked(frozenset(self._tasks))
        if self._membership is not None:
            await self._membership.leave()
        if not self._failed.done():
            self._failed.set_result(None)

    async def _assigned(self, lanes: frozenset[int]) -> None:
        loop = asyncio.get_running_loop()
        for lane in sorted(lanes):
            held = self._tasks.get(lane)
            if held is not None and not held.done():
                continue  # Told twice: a second life of it would never be told of the end.
            owning = self._own(lane, self._lives.get(lane))
            self._tasks[lane] = self._lives[lane] = loop.create_task(owning, name=f"lane {lane}")

    async def _revoked(self, lanes: frozenset[int]) -> None:
        # A lane that asks the group whether it is still owned may be told here: it ends by itself, or goes on.
        asking = asyncio.current_task()
        ending = [lane for lane in sorted(lanes) if lane in self._tasks and self._tasks[lane] is not asking]
        tasks = [self._tasks.pop(lane) for lane in ending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _own(self, number: int, before: asyncio.Task[None] | None) -> None:
        """One lane's life in this worker; it begins when the one before has let go of store and executor."""
        if before is not None:
            await asyncio.wait([before])
        try:
            await self._live(number)
        except asyncio.CancelledError:
            raise
        except BaseException as raised:
            error = _alone(raised)
            say(LOG, "lane stopped", level=logging.ERROR, lane=number, why=repr(error))
            if not self._failed.done():
                self._failed.set_exception(error)
        finally:
            self.lanes.pop(number, None)
            executor = self._executors.pop(number, None)
            if executor is not None:
                await executor.close(0)
            store = self._stores.pop(number, None)
            if store is not None:
                store.close()

    async def _live(self, number: int) -> None:
        parts = self.parts
        place = Place(parts.group, number, parts.lanes, parts.events_topic, parts.retry_interval_ms)
        store = self._stores[number] = parts.make_store(number)
        began_ms = parts.surroundings.now_ms()
        tables, reached = await restore(parts.log, place, store, lambda facts, left: None)
        took_ms = parts.surroundings.now_ms() - began_ms
        parts.telemetry.observe("penstock_restore_seconds", took_ms / 1000)
        say(LOG, "lane restored", lane=number, facts=reached.facts, took_ms=took_ms)
        assert self._membership is not None
        lane = Lane(
            LaneParts(
                place=place,
                log=parts.log,
                store=store,
                make_executor=lambda durable, submit: self._executor(number, durable, submit),
                surroundings=parts.surroundings,
                membership=self._membership,
                telemetry=parts.telemetry,
                worker=parts.name,
                sources=sources_of(parts, number),
                on_topic_wanted=self._create_topic,
                settings=parts.settings,
                on_facts=parts.on_facts,
            ),
            tables,
            reached,
        )
        self.lanes[number] = lane
        await lane.run()

    def _executor(self, number: int, durable: Tables, submit: Callable[[Command], None]) -> Executor:
        source = LaneRunSource(durable, submit, self.parts.surroundings.now_ms)
        make = self.parts.make_executor
        executor = make(source) if make is not None else LocalExecutor(self.parts.apps, source)
        self._executors[number] = executor
        return executor

    async def _create_topic(self, topic: str) -> None:
        """A step publishes to a topic that is not there: make it, as a dev server may."""
        await self.parts.log.create_topics([TopicSpec(topic, 1, retention_ms=self.parts.events_retention_ms)])
        say(LOG, "topic created", topic=topic)


def _alone(error: BaseException) -> BaseException:
    """What a TaskGroup's error is about, where it is about one thing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def topics_of(parts: WorkerParts) -> list[TopicSpec]:
    """The topics of a group, and its events topic."""
    lanes, kept_ms = parts.lanes, parts.events_retention_ms

    def own(which: str) -> str:
        return group_topic(parts.group, which)

    return [
        TopicSpec(parts.events_topic, lanes, retention_ms=kept_ms),
        TopicSpec(own("journal"), lanes),
        TopicSpec(own("inbox"), lanes),
        TopicSpec(own("steps"), lanes, TopicKind.COMPACTED),
        TopicSpec(own("timers"), lanes, TopicKind.COMPACTED),
        TopicSpec(own("keys"), lanes, TopicKind.COMPACTED),
        TopicSpec(own("functions"), 1, TopicKind.COMPACTED),
        TopicSpec(own("replies"), 1, retention_ms=REPLIES_KEPT_MS),
        TopicSpec(own("dead-letters"), 1, retention_ms=kept_ms),
    ]


def sources_of(parts: WorkerParts, lane: int) -> tuple[Source, ...]:
    """The source partitions that a lane reads."""
    topic = parts.events_topic
    return tuple((topic, p) for p in range(parts.lanes) if lane_of_source(topic, p, parts.lanes) == lane)


async def register(log: Log, group: str, specs: Sequence[AppSpec]) -> int:
    """Put apps that are new or changed into the functions topic; the offset behind it that lanes must have seen.

    Raises ConfigError when two apps have one id.
    """
    ids = [spec.id for spec in specs]
    if len(set(ids)) != len(ids):
        raise ConfigError(f"two apps have the same id: got {sorted(ids)}. Give each App its own id.")
    topic = group_topic(group, "functions")
    known: dict[str, AppSpec] = {}
    end = await log.end_offset(topic, 0)
    reader = log.reader(topic, 0, await log.start_offset(topic, 0))
    try:
        while reader.position < end:
            page = await reader.read(max_records=1_000, max_bytes=CATALOGUE_BYTES_MAX, wait_s=0.05)
            if not page:
                break
            for record in page:
                if record.value is not None:
                    with suppress(Corruption):  # The lanes say so, and keep the app as it was before.
                        app = decode_app(record.value)
                        known[app.id] = app
    finally:
        await reader.close()
    changed = [spec for spec in specs if known.get(spec.id) != spec]
    if changed:
        writer = log.writer(topic, 0)
        await writer.append([Produced(encode_app(spec), spec.id.encode()) for spec in changed])
        with suppress(Exception):
            await writer.close()
    return await log.end_offset(topic, 0)
