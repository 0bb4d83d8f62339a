"""The worker: a process that owns lanes and runs functions. The composition root of everything behind the door.

    Worker(parts) ─ topics ─ registers its apps ─ joins the group ─┬─ lane 0: store, executor, restore, take-over, live
                                                                   └─ lane 1 …

What a worker is made of comes in from outside (``WorkerParts``): which log, which stores, which clock. ``millstream
dev`` brings the embedded log and RocksDB; the test kit and the simulation bring memory and their own time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from millstream.core.tables import Tables
from millstream.errors import (
    ConfigError,
    InternalError,
    LogUnavailable,
    OffsetOutOfRange,
    StoreDamaged,
    StoreUnavailable,
)
from millstream.execute.endpoint.executor import EndpointExecutor
from millstream.execute.local.executor import LocalExecutor
from millstream.execute.port import Executor
from millstream.execute.routed import RoutedExecutor
from millstream.lane.lane import Lane
from millstream.lane.maintenance.trouble import OPENS, Trouble
from millstream.lane.metrics import Progress
from millstream.lane.ownership.draining import DrainingLane, Released
from millstream.lane.ownership.restore import restore
from millstream.lane.parts import LaneParts
from millstream.log.group_topics import topics_of
from millstream.log.port import Membership, TopicSpec
from millstream.model.backoff import doubling_s
from millstream.model.commands import Command
from millstream.model.place import Place
from millstream.state.store import Store, StoreBusy
from millstream.telemetry import say
from millstream.worker.callback_key import callback_key
from millstream.worker.parts import WorkerParts
from millstream.worker.registration import register
from millstream.worker.remote_apps import RemoteApps
from millstream.worker.run_source import LaneRunSource

LOG: Final = logging.getLogger("millstream.worker")
LIVE_LOOK_S: Final = 0.005
REVOKE_S: Final = 1.5
"""How long releasing lanes may take: the group waits for it, and so do their next owners."""
LAST_REPORTS_S: Final = 5.0
AGAIN_S: Final = 0.2
AGAIN_S_MAX: Final = 5.0
DAMAGES_MAX: Final = 5
"""Stores in a row that were damaged before they were a minute old: it is the disk, and the operator must hear of it."""
STEADY_MS: Final = 60_000
"""A lane that has lived for so long is opened again soon, whatever befell it before."""


class Worker:
    """Owns lanes from ``start`` to ``stop``. ``wait`` raises what stopped a lane."""

    def __init__(self, parts: WorkerParts) -> None:
        self.parts = parts
        self.lanes: dict[int, Lane] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._last_lives: dict[int, asyncio.Task[None]] = {}  # The last life of each lane here, ended or not.
        self._assigned_lanes: set[int] = set()  # By the group.
        self._draining: dict[asyncio.Task[None], DrainingLane] = {}
        self._stores: dict[int, Store] = {}
        self._executors: dict[int, Executor] = {}
        self._sources: dict[int, LaneRunSource] = {}
        self._troubles: dict[int, Trouble] = {}
        self._catalogue_needed = 0  # How much of the functions topic our own apps need.
        self._callback_key = b""
        self._remote_apps: RemoteApps | None = None
        self._membership: Membership | None = None
        self._joined = False
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def joined(self) -> bool:
        """Whether it is a member of its group; it may own no lane, where there are more workers than lanes."""
        return self._joined and self._membership is not None and self._membership.live

    @property
    def assigned_lanes(self) -> frozenset[int]:
        """The lanes that the group has assigned to this worker, live or not yet."""
        return frozenset(self._assigned_lanes)

    @property
    def ready(self) -> bool:
        """Whether it is a member, and every lane that the group has given is live and knows this worker's apps."""
        return self.joined and self._lanes_ready

    @property
    def refuses(self) -> str:
        """Why a lane takes nothing in now, and so nothing should be sent; "" where all do."""
        return next((trouble.why for trouble in self._troubles.values() if trouble.why), "")

    def _trouble(self, number: int) -> Trouble:
        if number not in self._troubles:
            self._troubles[number] = Trouble(number, self.parts.telemetry)
        return self._troubles[number]

    @property
    def _lanes_ready(self) -> bool:
        return all(
            lane in self.lanes and self.lanes[lane].catalogue_seen >= self._catalogue_needed
            for lane in self._assigned_lanes
        )

    async def start(self) -> None:
        """Create what topics are missing, register the apps, join the group; return when its lanes are ready.

        Lanes that the group gives later are not waited for.
        """
        parts = self.parts
        if parts.make_topics is not None:
            await parts.make_topics(parts.shape)
        else:
            await parts.log.create_topics(topics_of(parts.shape))
        self._callback_key = await callback_key(parts.log, parts.group, parts.surroundings.entropy)
        self._catalogue_needed = await register(
            parts.log, parts.group, [app.spec() for app in parts.apps], parts.register
        )
        if parts.endpoints is not None:
            self._remote_apps = RemoteApps(parts.log, parts.group, parts.endpoints)
            await self._remote_apps.start()
        membership = parts.log.membership(parts.group, parts.lanes)
        self._membership = membership
        await membership.join(on_assigned=self._on_assigned, on_revoked=self._on_revoked)
        self._joined = True
        # A membership that ends meanwhile is no reason to wait here: it comes back, and ``ready`` says when.
        while not self._failed.done() and not self._lanes_ready:  # noqa: ASYNC110 - once, when a worker starts
            await asyncio.sleep(LIVE_LOOK_S)
        if self._failed.done():
            self._failed.result()

    async def wait(self) -> None:
        """Return when the worker was stopped; raise what stopped a lane."""
        await asyncio.shield(self._failed)

    async def finish(self, grace_s: float) -> None:
        """Stop the intake; let running steps end within ``grace_s`` and be recorded. For a worker without successor."""
        lanes = tuple(self.lanes.values())
        for lane in lanes:
            lane.stop_intake()
        await asyncio.gather(*(executor.close(grace_s) for executor in self._executors.values()))
        with suppress(TimeoutError):  # A log that takes nothing now: what was reported is executed again.
            async with asyncio.timeout(grace_s):
                await asyncio.gather(*(lane.wait_recorded() for lane in lanes))

    async def stop(self, grace_s: float = 10.0) -> None:
        """Leave the group at once, so that others have the lanes; live on until running steps are reported.

        Steps that have not ended after ``grace_s`` are given back (lanes.md rule 25).
        """
        if self._membership is not None:
            await self._membership.leave()
        await self._on_revoked(frozenset(self._tasks))
        if self._draining:
            await asyncio.wait(tuple(self._draining), timeout=grace_s)
        for draining in self._draining.values():
            draining.give_back()
        if self._draining:
            _, stuck = await asyncio.wait(tuple(self._draining), timeout=LAST_REPORTS_S)
            for task in stuck:  # A log that takes nothing now: the new owner gets no report, and hands out again.
                task.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)
        if self._remote_apps is not None:
            await self._remote_apps.close()
        if self.parts.endpoints is not None:
            await self.parts.endpoints.close()
        if not self._failed.done():
            self._failed.set_result(None)

    async def _on_assigned(self, lanes: frozenset[int]) -> None:
        loop = asyncio.get_running_loop()
        self._assigned_lanes |= lanes
        for lane in sorted(lanes):
            held = self._tasks.get(lane)
            if held is not None and not held.done():
                continue  # Assigned twice: nothing would ever revoke a second life of it.
            owning = self._own_lane(lane, self._last_lives.get(lane))
            task = self._tasks[lane] = self._last_lives[lane] = loop.create_task(owning, name=f"lane {lane}")
            task.add_done_callback(partial(self._on_lane_ended, lane))

    async def _on_revoked(self, lanes: frozenset[int]) -> None:
        """Release lanes: in good order where the log takes their last record in time, else at once.

        The log decides whether the lane was still ours: the record counts only if no fence lies before it.
        """
        self._assigned_lanes -= lanes
        # The answer to a lane's own question "still owned?" may arrive here: that lane ends by itself, or goes on.
        asking = asyncio.current_task()
        ending = [lane for lane in sorted(lanes) if lane in self._tasks and self._tasks[lane] is not asking]
        tasks = []
        for number in ending:
            task, lane = self._tasks.pop(number), self.lanes.get(number)
            if lane is None or not lane.begin_release():
                task.cancel()
            tasks.append(task)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=REVOKE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _own_lane(self, number: int, before: asyncio.Task[None] | None) -> None:
        """One lane, from when the group gave it until it takes it; begins when the time before has ended.

        Every way in which a life of the lane ends, and what comes next:
            released in good order, or the group has taken it ──> the end
            not owned, says the group's coordinator, but not to us ──> wait a little, live again (lanes.md rule 4)
            the log or its store gave out ──> wait a little longer each time, live again
            its store is damaged ──> it was moved aside: live again on an empty one, DAMAGES_MAX times in a row
            anything else ──> the worker stops with it (``_on_lane_ended``)
        """
        if before is not None:
            await asyncio.wait([before])
        failures = 0
        now_ms = self.parts.surroundings.now_ms
        while number in self._assigned_lanes and self._tasks.get(number) is asyncio.current_task():
            began_ms = now_ms()
            try:
                if await self._live_once(number):
                    return
                failures = 0
            except (LogUnavailable, OffsetOutOfRange, StoreBusy) as error:
                failures = 1 if now_ms() - began_ms >= STEADY_MS else failures + 1
                say(LOG, "lane interrupted", level=logging.WARNING, lane=number, why=str(error), failures=failures)
            except StoreUnavailable as error:
                failures += 1
                self._trouble(number).begin(OPENS, str(error))
            except StoreDamaged as error:
                failures = 1 if now_ms() - began_ms >= STEADY_MS else failures + 1
                if failures > DAMAGES_MAX:
                    self._on_lane_failed(number, error)
                    return
                say(LOG, "lane interrupted", level=logging.WARNING, lane=number, why=str(error), failures=failures)
            except asyncio.CancelledError:
                raise
            except BaseException as raised:
                self._on_lane_failed(number, _only_error(raised))
                return
            await self.parts.surroundings.sleep(doubling_s(AGAIN_S, failures, AGAIN_S_MAX))

    def _on_lane_ended(self, number: int, task: asyncio.Task[None]) -> None:
        """A lane's task has ended. One that ends otherwise than above ends the worker too: the group would go on
        believing that the lane is served here."""
        if (trouble := self._troubles.pop(number, None)) is not None:
            trouble.forget()
        if task.cancelled():
            if not task.cancelling():  # Else by us.
                wrong = "was cancelled by nobody: expected it to live until the group takes the lane"
                self._on_lane_failed(number, InternalError(f"lane {number} {wrong}. Please report it with the log."))
        elif (error := task.exception()) is not None:
            self._on_lane_failed(number, _only_error(error))

    def _on_lane_failed(self, number: int, error: BaseException) -> None:
        say(LOG, "lane stopped", level=logging.ERROR, lane=number, why=repr(error))
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _live_once(self, number: int) -> bool:
        """One life of a lane. Whether it was released in good order."""
        lane: Lane | None = None
        try:
            lane = self.lanes[number] = await self._restore_lane(number)
            await lane.run()
        finally:
            self.lanes.pop(number, None)
            self.parts.telemetry.forget_lane(number)
            executor = self._executors.pop(number, None)
            try:
                if executor is not None:
                    if lane is not None and lane.release_under_way is not None:
                        self._drain(lane, lane.release_under_way, executor)
                    else:
                        await executor.close(0)
            finally:  # Also where that is cancelled, for having taken too long: the lane may come back any moment.
                store = self._stores.pop(number, None)
                if store is not None:
                    store.close()
        return lane.released is not None

    def _drain(self, lane: Lane, released: Released, executor: Executor) -> None:
        loop = asyncio.get_running_loop()  # First: raises where we are thrown away with our loop, and nothing is begun.
        parts, place = self.parts, lane.place
        draining = DrainingLane(parts.log, place, released, executor, parts.surroundings)
        if lane.released is None:  # It is unknown whether the new owner waits for us: it need not.
            draining.give_back()
        for command in lane.unrecorded_commands():
            draining.submit(command)
        self._sources[place.lane].leave(draining.submit)
        work = draining.run(parts.settings.heartbeat_ms) if released.out else executor.close(0)
        task = loop.create_task(work, name=f"former lane {place.lane}")
        self._draining[task] = draining
        task.add_done_callback(self._on_drained)

    def _on_drained(self, task: asyncio.Task[None]) -> None:
        del self._draining[task]
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _restore_lane(self, number: int) -> Lane:
        """A lane with its tables as its journal says they are."""
        parts = self.parts
        own = (parts.group, number, parts.lanes, parts.events_topic, parts.retry_interval_ms)
        place = Place(*own, parts.public_url, self._callback_key)
        store = self._stores[number] = parts.make_store(number)
        progress = Progress(parts.telemetry, number)
        tables, reached = await restore(parts.log, place, store, progress.at, parts.losses)
        progress.done(reached.facts)
        assert self._membership is not None
        return Lane(
            LaneParts(
                place=place,
                log=parts.log,
                store=store,
                make_executor=lambda durable, submit: self._executor(number, durable, submit),
                surroundings=parts.surroundings,
                membership=self._membership,
                telemetry=parts.telemetry,
                worker=parts.name,
                on_topic_wanted=self._create_topic,
                schemas=parts.schemas,
                event_schemas=parts.event_schemas,
                settings=parts.settings,
                on_facts=parts.on_facts,
                on_unheard=parts.on_unheard,
                trouble=self._trouble(number),
            ),
            tables,
            reached,
        )

    def _executor(self, number: int, durable: Tables, submit: Callable[[Command], None]) -> Executor:
        source = self._sources[number] = LaneRunSource(durable, submit, self.parts.surroundings.now_ms)
        make = self.parts.make_executor
        executor: Executor = make(source) if make is not None else LocalExecutor(self.parts.apps, source)
        endpoints = self.parts.endpoints
        if endpoints is not None:
            own = [slug for app in self.parts.apps for slug in app.functions]
            remote = EndpointExecutor(source, endpoints, self.parts.carrier)
            executor = RoutedExecutor(executor, remote, own, lambda function: endpoints.of(function) is not None)
        self._executors[number] = executor
        return executor

    async def _create_topic(self, topic: str) -> None:
        """A step publishes to a topic that is not there: make it, as a dev server may. Raises ConfigError elsewhere."""
        if self.parts.make_topics is not None:
            raise ConfigError(
                f"topic {topic} is not there: expected it, since a step publishes to it, and a worker makes no topics. "
                "Make it; the record waits and is sent then."
            )
        await self.parts.log.create_topics([TopicSpec(topic, 1, retention_ms=self.parts.events_retention_ms)])
        say(LOG, "topic created", topic=topic)


def _only_error(error: BaseException) -> BaseException:
    """The one error inside a TaskGroup's error, or the group where there are several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
