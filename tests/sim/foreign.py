"""A topic that knows nothing of the product: records of a producer, some of them poison; a function that reads it from
the start, one that subscribes in the middle of the storm and wants all of it, and backfills.

The promise: each record starts each subscribed function exactly once, and once more for each backfill of it. That a
run is not started twice the observer sees; here is what must have been started, in the end.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from millstream.errors import LogUnavailable
from millstream.log.port import Produced, Record, TopicSpec
from millstream.model.commands import BackfillFunction, ScanRange
from millstream.model.function import Reading
from millstream.model.ids import lane_of_source, run_id
from millstream.model.messages import InboxRecord, group_topic
from millstream.sdk.app import App
from millstream.sdk.context import Context
from millstream.sdk.topic import Topic
from millstream.wire.foreign import read_record
from millstream.wire.formats.content import ForeignRecord
from millstream.wire.formats.known import KnownSchemas
from millstream.wire.messages import encode_inbox
from tests.sim.clients import POISON

if TYPE_CHECKING:
    from tests.sim.world import World

TOPIC = "pay"
FIRST, LATE = "pay-first", "late-second"
PARTITIONS_MAX = 4
SHARE_OF_WORLDS = 0.3


class Foreign:
    """One for a world; ``there`` says whether it has such a topic."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = Random(f"{world.seed}/foreign")
        self.there = self._rng.random() < SHARE_OF_WORLDS

    def apps(self) -> list[App]:
        """What is deployed from the start."""
        return [_app("pay", "first")] if self.there else []

    async def make(self) -> None:
        """The topic, with something in it."""
        if not self.there:
            return
        log = self._world.cluster.client("admin")
        await log.create_topics([TopicSpec(TOPIC, self._rng.randint(1, 3))])
        for _ in range(self._rng.randint(0, 8)):
            self._produce()

    async def run(self, length_s: float) -> None:
        """Produce for so long; deploy the late function, ask for backfills, add partitions."""
        rng, world = self._rng, self._world
        if not self.there:
            return
        ends_s = world.loop.now_s + length_s
        late_s = world.loop.now_s + rng.random() * length_s * 1.5
        while world.loop.now_s < ends_s:
            await asyncio.sleep(rng.expovariate(12 / length_s))
            roll = rng.random()
            if roll < 0.75:
                for _ in range(rng.choice([1, 1, 5])):
                    self._produce()
            elif roll < 0.87:
                await self._backfill()
            elif self._partitions() < PARTITIONS_MAX:
                world.cluster.grow(TOPIC, self._partitions() + 1)
            if late_s and world.loop.now_s > late_s:
                late_s = 0
                world.trace("the late function is deployed")
                world.apps_deployed = [*world.apps_deployed, _app("late", "second")]
                rng.choice(world.machines).process.kill("restarted with the late function")

    def _partitions(self) -> int:
        return self._world.cluster.specs[TOPIC].partitions

    def _produce(self) -> None:
        rng, world = self._rng, self._world
        partition = world.cluster.partitions[TOPIC, rng.randrange(self._partitions())]
        value = POISON if rng.random() < 0.15 else b'{"n":%d}' % rng.randrange(100)
        partition.append([Produced(value, b"\xffkey", (("trace", b"\x00"),))], world.true_ms())

    async def _backfill(self) -> None:
        world, rng = self._world, self._rng
        by_lane: dict[int, list[ScanRange]] = {}
        for number in range(self._partitions()):
            upto = world.cluster.partitions[TOPIC, number].end
            lane = lane_of_source(TOPIC, number, world.lanes)
            by_lane.setdefault(lane, []).append(ScanRange(number, rng.randint(0, 2), upto))
        scan = world.clients.new_id()
        log = world.cluster.client("api")
        for lane, ranges in by_lane.items():
            request = world.clients.new_id()
            message = BackfillFunction(FIRST, TOPIC, tuple(ranges), scan, request, 0)
            for _ in range(rng.choice([1, 1, 2])):
                writer = log.writer(group_topic("sim", "inbox"), lane)
                try:
                    await writer.append([Produced(encode_inbox(InboxRecord(-1, 0, message)))])
                    world.clients.asked[request] = message
                except LogUnavailable:
                    pass
                await writer.close()

    def is_poison(self, topic: str, partition: int, offset: int) -> bool:
        """Whether this record is meant to be refused."""
        found = self._world.cluster.partitions[topic, partition].read(offset, 1, 1)[0] if topic == TOPIC else []
        return bool(found) and found[0].value == POISON

    # --- in the end -------------------------------------------------------------------------------

    def unread(self) -> list[str]:
        """What of the topic is not read yet."""
        if not self.there:
            return []
        left = []
        for number in range(self._partitions()):
            end = self._world.cluster.partitions[TOPIC, number].end
            lane = self._world.observer.lanes[lane_of_source(TOPIC, number, self._world.lanes)]
            row = lane.tables.positions.get((TOPIC, number))
            if end and (row is None or row.offset < end):
                left.append(f"{TOPIC}/{number} is read to {row}, not {end}")
            left += [f"{row}" for _, row in lane.tables.scans.scan(limit=5)]
        return left

    def check(self) -> None:
        """Every record has started whom it should."""
        if not self.there:
            return
        world = self._world
        registered = {
            record.key
            for record in world.cluster.partitions[group_topic("sim", "functions"), 0].read(0, 1_000, 1 << 30)[0]
        }
        for number in range(self._partitions()):
            records, _ = world.cluster.partitions[TOPIC, number].read(0, 1 << 30, 1 << 40)
            scans = [s for s in world.observer.scans if s.partition == number and s.cause]
            for record in records:
                if record.value == POISON:
                    continue
                wanted = [(FIRST, "")] if b"pay" in registered else []
                wanted += [(LATE, "")] if b"late" in registered else []
                wanted += [(s.function, s.cause) for s in scans if s.from_offset <= record.offset < s.upto]
                for function, cause in wanted:
                    if self._run(function, cause, number, record) not in world.observer.starts:
                        world.violate(
                            "a record starts each subscribed function",
                            f"{TOPIC}/{number}@{record.offset} did not start {function} {cause}",
                        )

    def _run(self, function: str, cause: str, partition: int, record: Record) -> str:
        world = self._world
        whole = ForeignRecord(TOPIC, partition, record.offset, record.at_ms, record.key, record.value, record.headers)
        event = read_record(Reading("json"), whole, KnownSchemas())
        assert event is not None
        lane = lane_of_source(TOPIC, partition, world.lanes)
        return run_id(event.ts_ms, event.internal_id, function, cause, lane=lane, lanes=world.lanes)


def _app(id: str, function: str) -> App:
    app = App(id)
    app.function(id=function, on=Topic(TOPIC, format="json", since="earliest"), retries=0)(_quiet)
    return app


async def _quiet(ctx: Context) -> None:
    """Nothing but being started."""
