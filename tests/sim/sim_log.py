"""What stands between a process and its log and stores: reads that fail, slow answers, and death in the midst of an
action. What becomes of appends and transactions the memory log itself is told (``weather.SimFaults``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from millstream.errors import LogUnavailable, StoreUnavailable
from millstream.log.memory.log import MemoryLog
from millstream.log.port import LanesChanged, OutcomeUnknown, Produced, Record, TopicSpec
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.state.store import Change, StoreBusy

if TYPE_CHECKING:
    from tests.sim.world import Machine, World


class SimLog:
    """A process's log: its memory client, with reads that fail and a process that dies. A ``Log``."""

    def __init__(self, world: World, machine: Machine, inner: MemoryLog) -> None:
        self.inner = inner
        self.world = world
        self.machine = machine
        self.process = machine.process

    def may_fail(self) -> None:
        self.process.act()
        if self.world.faults.read_fails():
            raise LogUnavailable("the simulated log does not answer")

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self.inner.create_topics(specs)
        self.world.observer.attach()

    async def topic(self, name: str) -> TopicSpec | None:
        return await self.inner.topic(name)

    def writer(self, topic: str, partition: int) -> _Writer:
        return _Writer(self, self.inner.writer(topic, partition), topic)

    def reader(self, topic: str, partition: int, offset: int) -> _Reader:
        return _Reader(self, self.inner.reader(topic, partition, offset), topic)

    async def start_offset(self, topic: str, partition: int) -> int:
        self.may_fail()
        return await self.inner.start_offset(topic, partition)

    async def end_offset(self, topic: str, partition: int) -> int:
        self.may_fail()
        await self.pause()
        return await self.inner.end_offset(topic, partition)

    async def topic_identity(self, name: str) -> str:
        return await self.inner.topic_identity(name)

    async def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        return await self.inner.offset_at(topic, partition, at_ms)

    async def trim(self, topic: str, partition: int, before_offset: int) -> None:
        self.process.act()
        await self.inner.trim(topic, partition, before_offset)

    async def transaction(self, name: str) -> _Transaction:
        self.process.act()
        await self.pause(2.0)
        return _Transaction(self, await self.inner.transaction(name))

    def membership(self, group: str, lanes: int) -> _Membership:
        return _Membership(self, self.inner.membership(group, lanes))

    async def close(self) -> None:
        await self.inner.close()

    async def pause(self, longest_s: float = 0.05) -> None:
        """Now and then an answer takes a while: others get their turns meanwhile."""
        rng = self.world.delays
        if not self.world.faults.calm and rng.random() < 0.1:
            await asyncio.sleep(rng.random() * longest_s)


class _Writer:
    def __init__(self, log: SimLog, inner: Any, topic: str) -> None:
        self._log = log
        self._inner = inner
        self._journal = topic.endswith(".journal")
        self._inbox = topic.endswith(".inbox")

    def append(self, records: Sequence[Produced]) -> Any:
        self._log.process.act()
        world = self._log.world
        rng, calm = world.delays, world.faults.calm
        if len(records) > 1 and not calm and world.weather.unknown and self._journal and rng.random() < 0.3:
            cut = rng.randint(1, len(records) - 1)
            return self._torn(self._inner.append(records[:cut] if rng.random() < 0.7 else records[cut:]))
        if self._inbox and not calm and rng.random() < 0.2:
            twice = self._inner.append(records)  # A message may always arrive twice.
            twice.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._inner.append(records)

    async def _torn(self, under_way: Any) -> None:
        """Several records, of which the log took only some (lanes.md rule 1)."""
        await under_way
        raise OutcomeUnknown("some of these records may be there")

    async def close(self) -> None:
        await self._inner.close()


class _Reader:
    def __init__(self, log: SimLog, inner: Any, topic: str) -> None:
        self._log = log
        self._inner = inner
        self._slow_s = 2.0 if topic.endswith(".functions") else 0.05

    @property
    def position(self) -> int:
        return int(self._inner.position)

    async def read(self, *, max_records: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        self._log.may_fail()
        await self._log.pause(self._slow_s)
        if self._log.world.delays.random() < 0.2:
            max_records = min(max_records, 2)
        found: Sequence[Record] = await self._inner.read(max_records=max_records, max_bytes=max_bytes, wait_s=wait_s)
        await self._log.pause(self._slow_s)
        return found

    def seek(self, offset: int) -> None:
        self._inner.seek(offset)

    async def close(self) -> None:
        await self._log.pause(0.6)
        await self._inner.close()


class _Transaction:
    def __init__(self, log: SimLog, inner: Any) -> None:
        self._log = log
        self._inner = inner

    async def send(self, topic: str, partition: int, records: Sequence[Produced]) -> None:
        await self._log.pause()
        await self._inner.send(topic, partition, records)

    async def commit(self, inbox_positions: Mapping[int, int]) -> None:
        self._log.process.act()
        await self._inner.commit(inbox_positions)
        self._log.world.trace("%s: committed a checkpoint %s", self._log.process.name, inbox_positions)

    async def abort(self) -> None:
        await self._inner.abort()


class _Membership:
    """What the group calls back runs in the process it calls, and is waited for only while that lives."""

    def __init__(self, log: SimLog, inner: Any) -> None:
        self._log = log
        self._inner = inner

    @property
    def live(self) -> bool:
        return bool(self._inner.live)

    async def join(self, *, on_assigned: LanesChanged, on_revoked: LanesChanged) -> None:
        await self._inner.join(on_assigned=self._inside(on_assigned), on_revoked=self._inside(on_revoked))

    def _inside(self, callback: LanesChanged) -> LanesChanged:
        async def call(lanes: frozenset[int]) -> None:
            machine, loop = self._log.machine, asyncio.get_running_loop()
            if self._log.process.dead:
                return
            task = loop.create_task(callback(lanes), context=self._log.process.context.copy())  # type: ignore[call-arg, arg-type]
            await asyncio.wait([task, machine.died], return_when="FIRST_COMPLETED")
            if task.done():
                task.result()

        return call

    async def still_owns(self, lane: int, *, inbox_position: int) -> bool:
        self._log.may_fail()
        await self._log.pause()
        return bool(await self._inner.still_owns(lane, inbox_position=inbox_position))

    def reader(self, topic: str, partition: int, offset: int) -> _Reader:
        return _Reader(self._log, self._inner.reader(topic, partition, offset), topic)

    async def commit(self, positions: Mapping[tuple[str, int], int]) -> None:
        self._log.process.act()
        faults = self._log.world.faults
        if takes_s := faults.commit_takes_s():
            await asyncio.sleep(takes_s)
            self._log.process.act()
        if faults.commit_fails():
            raise LogUnavailable("the simulated group takes no offsets")
        await self._inner.commit(positions)

    async def leave(self) -> None:
        await self._inner.leave()


class SimStore(MemoryStore):
    """A store that is busy at times, whose disk gives out at times, and which dies with its process."""

    def __init__(self, world: World, machine: Machine, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self._world = world
        self._process = machine.process
        self._machine = machine.name

    def get(self, key: bytes) -> bytes | None:
        self._may_be_read()
        return super().get(key)

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        self._may_be_read()
        return super().scan(start, end, limit)

    def _may_be_read(self) -> None:
        if self._world.faults.store_has_no_files():
            raise StoreUnavailable("the simulated process may open no more files")

    def write(self, changes: Sequence[Change]) -> None:
        self._process.act()
        if self._world.faults.store_has_no_room(self._machine):
            raise StoreUnavailable("the simulated disk has no room")
        if self._world.faults.store_busy():
            raise StoreBusy("the simulated store is compacting")
        super().write(changes)

    def wipe(self) -> None:
        self._process.act()
        super().wipe()
