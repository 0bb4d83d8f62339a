"""What goes wrong in one world, and how often: drawn from the seed, so that some worlds are calm and some are hell.

``SimFaults`` is asked by the memory log for every append and transaction; ``SimLog`` stands between a process and its
log client and adds what that does not know: reads that fail, slow answers, and death in the midst of an action.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from penstock.errors import LogUnavailable
from penstock.log.faults import REFUSED, Fate, Verdict
from penstock.log.memory import MemoryLog
from penstock.log.port import LanesChanged, OutcomeUnknown, Produced, Record, TopicSpec
from penstock.state.memory import MemoryDisk, MemoryStore
from penstock.state.store import Change, StoreBusy

if TYPE_CHECKING:
    from tests.sim.world import Machine, World


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances are per append, read, write or report; times in virtual seconds."""

    slow_s: float
    unknown: float
    refused: float
    odd_offset: float
    reads: float
    busy: float
    reports: float
    crashes: float  # a minute
    steals: float
    moves: float
    jumps: float
    outages: float
    torn: bool
    parts: bool

    @classmethod
    def draw(cls, rng: Random) -> Weather:
        def some(chance: float, low: float, high: float) -> float:
            return rng.uniform(low, high) if rng.random() < chance else 0.0

        return cls(
            slow_s=some(0.6, 0.0, 0.2),
            unknown=some(0.6, 0.0, 0.08),
            refused=some(0.4, 0.0, 0.08),
            odd_offset=some(0.4, 0.0, 0.08),
            reads=some(0.2, 0.0, 0.01),
            busy=some(0.3, 0.0, 0.3),
            reports=some(0.4, 0.0, 0.3),
            crashes=some(0.7, 1, 12),
            steals=some(0.5, 1, 12),
            moves=some(0.4, 1, 6),
            jumps=some(0.3, 1, 8),
            outages=some(0.3, 1, 4),
            torn=rng.random() < 0.4,
            parts=rng.random() < 0.3,
        )


class SimFaults:
    """The verdicts of one world. ``calm`` ends all of it."""

    def __init__(self, weather: Weather, rng: Random) -> None:
        self._weather = weather
        self._rng = rng
        self.calm = True
        self.outage = False

    def on_append(self, client: str, topic: str, partition: int) -> Verdict:
        rng, weather = self._rng, self._weather
        if self.calm or client == "observer":
            return Verdict(written_after_s=0.001, answered_after_s=0.001)
        if self.outage:
            return REFUSED
        written_s = rng.random() * weather.slow_s
        answered_s = written_s + rng.random() * weather.slow_s * 0.5
        roll = rng.random()
        if roll < weather.unknown:
            return self._unknown(written_s, answered_s)
        roll -= weather.unknown
        if roll < weather.refused:
            return Verdict(fate=Fate.REFUSED, written_after_s=None, answered_after_s=answered_s)
        roll -= weather.refused
        fate = Fate.WITHOUT_OFFSET if roll < weather.odd_offset else Fate.ACKNOWLEDGED
        return Verdict(fate=fate, written_after_s=written_s, answered_after_s=answered_s)

    def _unknown(self, written_s: float, answered_s: float) -> Verdict:
        rng = self._rng
        outlives = rng.random() < 0.5
        match rng.randrange(3):
            case 0:
                return Verdict(fate=Fate.UNKNOWN, written_after_s=None, answered_after_s=answered_s)
            case 1:
                return Verdict(fate=Fate.UNKNOWN, written_after_s=written_s, answered_after_s=answered_s)
            case _:  # It turns up when nobody expects it any more.
                late_s = answered_s + rng.random() ** 2 * 3
                return Verdict(
                    fate=Fate.UNKNOWN, written_after_s=late_s, answered_after_s=answered_s, outlives_writer=outlives
                )

    def on_transaction(self, client: str, name: str) -> Verdict:
        rng, weather = self._rng, self._weather
        if self.calm:
            return Verdict(written_after_s=0.001, answered_after_s=0.001)
        if self.outage:
            return REFUSED
        written_s = rng.random() * weather.slow_s
        answered_s = written_s + rng.random() * weather.slow_s
        roll = rng.random()
        if roll < weather.unknown:
            written = written_s if rng.random() < 0.5 else None
            return Verdict(fate=Fate.UNKNOWN, written_after_s=written, answered_after_s=answered_s)
        if roll < weather.unknown + weather.refused:
            return REFUSED
        return Verdict(written_after_s=written_s, answered_after_s=answered_s)

    def survives_crash(self, client: str, topic: str, partition: int) -> bool:
        return self._rng.random() < 0.5

    def read_fails(self) -> bool:
        if self.calm:
            return False
        return (self.outage and self._rng.random() < 0.1) or self._rng.random() < self._weather.reads

    def store_busy(self) -> bool:
        return not self.calm and self._rng.random() < self._weather.busy

    def report_fate(self) -> tuple[float, ...]:
        """When a report arrives: a delay for each time it does."""
        rng = self._rng
        if self.calm or rng.random() >= self._weather.reports:
            return (0.0,)
        match rng.randrange(4):
            case 0:
                return (0.0, 0.0)
            case 1:
                return (0.0, rng.random() * 3)
            case 2:
                return (rng.random() * 2,)
            case _:
                return (rng.random(), rng.random() * 5)


class SimLog:
    """A process's log: its memory client, with reads that fail and a process that dies. A ``Log``."""

    def __init__(self, world: World, machine: Machine, inner: MemoryLog) -> None:
        self.inner = inner
        self.world = world
        self.machine = machine
        self.process = machine.process

    def _may_fail(self) -> None:
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
        self._may_fail()
        return await self.inner.start_offset(topic, partition)

    async def end_offset(self, topic: str, partition: int) -> int:
        self._may_fail()
        await self.pause()
        return await self.inner.end_offset(topic, partition)

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
        self._log._may_fail()
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

    def send(self, topic: str, partition: int, records: Sequence[Produced]) -> None:
        self._inner.send(topic, partition, records)

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
        self._log._may_fail()
        await self._log.pause()
        return bool(await self._inner.still_owns(lane, inbox_position=inbox_position))

    def reader(self, topic: str, partition: int, offset: int) -> _Reader:
        return _Reader(self._log, self._inner.reader(topic, partition, offset), topic)

    async def commit(self, positions: Mapping[tuple[str, int], int]) -> None:
        self._log.process.act()  # Draws no chance: nothing may depend on these commits, so neither does a world.
        await self._inner.commit(positions)

    async def leave(self) -> None:
        await self._inner.leave()


class SimStore(MemoryStore):
    """A store that is busy at times and dies with its process."""

    def __init__(self, world: World, machine: Machine, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self._world = world
        self._process = machine.process

    def write(self, changes: Sequence[Change]) -> None:
        self._process.act()
        if self._world.faults.store_busy():
            raise StoreBusy("the simulated store is compacting")
        super().write(changes)

    def wipe(self) -> None:
        self._process.act()
        super().wipe()
