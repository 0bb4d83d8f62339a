"""Those who use the product: a door that appends events, an api that cancels and invokes; and what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from random import Random
from typing import TYPE_CHECKING

from millstream.errors import LogUnavailable
from millstream.log.port import Produced
from millstream.model.commands import BackfillFunction, InvokeFunction
from millstream.model.event import FUNCTION_INVOKED, Envelope
from millstream.model.ids import lane_of, ulid
from millstream.model.messages import InboxRecord, group_topic
from millstream.model.run_requests import CancelRun, FailRun, ResumeRun
from millstream.wire.messages import encode_envelope, encode_inbox
from millstream.wire.partition import partition_of

if TYPE_CHECKING:
    from tests.sim.world import World

POISON = b"\xff not an event"


class Clients:
    """One door and one api; ``acknowledged`` and ``asked`` are what they may hold the product to."""

    def __init__(self, world: World, rng: Random) -> None:
        self._world = world
        self._rng = rng
        self._number = 0
        self.sent: set[str] = set()
        self.acknowledged: dict[str, int] = {}
        """Internal ids of events that were answered with 200, and their partition."""
        self.asked: dict[str, CancelRun | InvokeFunction | BackfillFunction | ResumeRun | FailRun] = {}
        """Requests that are surely in an inbox, by request id."""

    async def run(self, length_s: float) -> None:
        """Use the product for so long."""
        rng, world = self._rng, self._world
        ends_s = world.loop.now_s + length_s
        events = rng.randint(4, 16)
        while world.loop.now_s < ends_s:
            await asyncio.sleep(rng.expovariate(events / length_s))
            roll = rng.random()
            if roll < 0.75:
                await self._send()
            elif roll < 0.88:
                await self._cancel()
            elif roll < 0.95:
                await self._invoke()
            else:
                await self._poison()

    async def finish(self) -> None:
        """One event more for every function, when all is well: nothing may be stuck behind the storm."""
        for planned in self._world.planned.values():
            if planned.event and self._known(planned.slug):
                await self._append_event(planned.event, own_id=None, later_ms=0)

    async def greet(self, apps: list[bytes]) -> None:
        """One event for each function of apps that were registered this moment."""
        for planned in self._world.planned.values():
            if planned.event and planned.slug.split("-")[0].encode() in apps:
                for _ in range(self._world.lanes):
                    await self._append_event(planned.event, own_id=None, later_ms=0)

    def _known(self, slug: str) -> bool:
        """Whether somebody has registered it, and was told so."""
        records, _ = self._world.cluster.partitions[group_topic("sim", "functions"), 0].read(0, 100, 1 << 30)
        registered = {record.key for record in records}
        return any(slug in app.functions and app.id.encode() in registered for app in self._world.apps_deployed)

    def new_id(self) -> str:
        """A ULID of now."""
        return ulid(self._world.true_ms(), self._rng.randbytes(10))

    async def _send(self) -> None:
        rng = self._rng
        names = [one.event for one in self._world.planned.values() if one.event and self._known(one.slug)]
        own = None
        if rng.random() < 0.3:
            own = f"client-{rng.randint(0, 3)}" if rng.random() < 0.5 else f"client-{self.new_id()}"
        for _ in range(2 if rng.random() < 0.1 else 1):
            await self._append_event(rng.choice(names), own, later_ms=rng.choice([0, 0, 0, 0, 900, 3_000]))

    async def _append_event(self, name: str, own_id: str | None, later_ms: int) -> None:
        world = self._world
        now_ms = world.true_ms()
        internal = self.new_id()
        self.sent.add(internal)
        log = world.cluster.client("door")
        stamp = await log.end_offset(group_topic("sim", "functions"), 0)
        event = Envelope(
            internal_id=internal, id=own_id or internal, id_is_clients=own_id is not None, name=name,
            data=json.dumps({"n": len(self.acknowledged)}).encode(), ts_ms=now_ms + later_ms, received_at_ms=now_ms,
            catalogue=stamp,
        )  # fmt: skip
        partition = partition_of(event.id, world.lanes)
        writer = log.writer("events", partition)
        try:
            await writer.append([Produced(encode_envelope(event), event.id.encode())])
            self.acknowledged[internal] = partition
        except LogUnavailable:
            pass
        await writer.close()
        world.trace("door: %s %s id %s at %d, answered %s", name, internal[-6:], event.id[-8:], partition,
                    internal in self.acknowledged)  # fmt: skip

    async def _poison(self) -> None:
        world = self._world
        partition = self._rng.randrange(world.lanes)
        log = world.cluster.client("door")
        writer = log.writer("events", partition)
        with contextlib.suppress(LogUnavailable):
            await writer.append([Produced(POISON, b"key")])
        await writer.close()

    async def _cancel(self) -> None:
        rng, world = self._rng, self._world
        open_runs = [run for run in world.observer.starts if run not in world.observer.ends]
        known = open_runs if open_runs and rng.random() < 0.8 else list(world.observer.starts)
        run = rng.choice(known) if known else self.new_id()
        request = self.new_id()
        await self._ask(CancelRun(run, "the operator said so", request, 0), rng.randrange(world.lanes))

    async def _invoke(self) -> None:
        rng, world = self._rng, self._world
        slugs = [slug for slug in world.planned if self._known(slug)]
        internal, now_ms = self.new_id(), world.true_ms()
        event = Envelope(internal, internal, False, FUNCTION_INVOKED, b"{}", now_ms, now_ms)
        await self._ask(InvokeFunction(rng.choice(slugs), event, self.new_id(), 0), rng.randrange(world.lanes))

    async def _ask(self, message: CancelRun | InvokeFunction, lane: int) -> None:
        world = self._world
        if isinstance(message, CancelRun):
            world.observer.cancelled.add(message.run)
            if self._rng.random() < 0.5:
                lane = lane_of(message.run, world.lanes)
        record = Produced(encode_inbox(InboxRecord(-1, 0, message)))
        log = world.cluster.client("api")
        for _ in range(2 if self._rng.random() < 0.3 else 1):
            writer = log.writer(group_topic("sim", "inbox"), lane)
            try:
                await writer.append([record])
                self.asked[message.request] = message
            except LogUnavailable:
                pass
            await writer.close()
        world.trace("api: %s to lane %d", message, lane)
