"""The engine in this process: log, RocksDB, worker; no door. Load is appended to the events topic.

The log is the embedded one, or with ``brokers`` that of a Kafka cluster, under a group of its own.

That is the way of an event behind the door: what the door does before (HTTP, JSON, validation) is not in these figures;
making and encoding the envelope is, on the engine's own loop.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from bench.rig.functions import THREE, app
from millstream.execute.processes.children import executors_of
from millstream.execute.processes.pool import Pool, PoolSettings
from millstream.lane.settings import LaneSettings
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.group_topics import GroupShape
from millstream.log.kafka.log import KafkaLog, KafkaOptions
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import Produced, Writer
from millstream.model.event import Envelope
from millstream.model.facts import Fact, RunCompleted, RunFailed
from millstream.model.ids import encode_ulid, lane_of_source, run_id
from millstream.roles.process import tune_process
from millstream.state.rocksdb import RocksBudget, RocksStore
from millstream.wire.messages import encode_envelope
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker

WATCHED_EVERY: Final = 32
THREE_SLUG: Final = f"{app.id}-three"
TARGET: Final = "bench.rig.functions:app"


class Engine:
    """``async with Engine(directory, lanes=1, durability="fsync", on_facts=...) as engine``: a running worker."""

    def __init__(
        self,
        directory: Path,
        on_facts: Callable[[Sequence[Fact], int], None],
        *,
        lanes: int = 1,
        durability: str = "fsync",
        settings: LaneSettings | None = None,
        executors: int = 0,
        brokers: str = "",
        copies: int = 1,
        group: str = "",
    ) -> None:
        """``executors``: child processes that run the functions; 0: this one does.

        ``brokers``: the log is on Kafka, with ``copies`` of each record, all but one in sync; empty: the embedded log.
        ``group``: one that is there; empty: a new one of its own.
        """
        self.group = group or (f"bench-{os.urandom(4).hex()}" if brokers else app.id)
        self.events_topic = f"{self.group}-events" if brokers else "events"
        self._brokers = brokers
        self._topics_are_there = bool(group)
        self._copies = copies
        self.lanes = lanes
        self.directory = directory
        self._durability = durability
        self._on_facts = on_facts
        self._settings = settings or LaneSettings()
        self._executors = executors
        self._stack = AsyncExitStack()
        self._writers: list[Writer] = []
        self._tail = int.from_bytes(os.urandom(10), "big") >> 1
        self._made = 0

    async def __aenter__(self) -> Engine:
        tune_process()
        self.log = await self._open()
        self._stack.push_async_callback(self.log.close)
        budget = RocksBudget()
        self.pool: Pool | None = None
        if self._executors:
            self.pool = Pool(PoolSettings(executors=self._executors, targets=(TARGET,)))
            await self.pool.start()
            self._stack.push_async_callback(self.pool.close)
        parts = WorkerParts(
            log=self.log,
            group=self.group,
            lanes=self.lanes,
            events_topic=self.events_topic,
            events_retention_ms=self._settings.history_ms,
            apps=[app],
            make_store=lambda lane: RocksStore(self.directory / "state" / str(lane), budget),
            settings=self._settings,
            make_executor=executors_of(self.pool) if self.pool is not None else None,
            on_facts=self._on_facts,
            make_topics=_leave_as_they_are if self._topics_are_there else None,
        )
        self.worker = Worker(parts)
        await self.worker.start()
        self._stack.push_async_callback(self.worker.stop, 0)
        self._writers = [self.log.writer(self.events_topic, partition) for partition in range(self.lanes)]
        return self

    async def _open(self) -> EmbeddedLog | KafkaLog:
        if not self._brokers:
            return await EmbeddedLog.open(self.directory / "log", durability=self._durability)
        copies = self._copies
        settings = KafkaSettings(brokers=self._brokers, replication_factor=copies, min_insync=max(copies - 1, 1))
        return await KafkaLog.open(settings, KafkaOptions(name=self.group))

    @property
    def commits(self) -> int:
        """Commits of the embedded log since it was opened; 0 on Kafka."""
        return self.log.commits if isinstance(self.log, EmbeddedLog) else 0

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def inject(self, name: str, datas: Sequence[bytes]) -> list[tuple[str, int, int]]:
        """Append events, spread over the partitions; (internal id, ms, partition) of each. One append a partition."""
        now_ms = time.time_ns() // 1_000_000
        batches: list[list[Produced]] = [[] for _ in self._writers]
        made = []
        for data in datas:
            self._tail += 1
            self._made += 1
            internal = encode_ulid(now_ms << 80 | self._tail)
            partition = self._made % self.lanes
            envelope = Envelope(internal, internal, False, name, data, now_ms, now_ms)
            batches[partition].append(Produced(encode_envelope(envelope)))
            made.append((internal, now_ms, partition))
        for writer, batch in zip(self._writers, batches, strict=True):
            if batch:
                writer.append(batch)
        return made


async def _leave_as_they_are(shape: GroupShape) -> None:
    """``millstream topics apply`` made the topics."""


class ClosedLoop:
    """A load of ``outstanding`` open runs: whenever some end, as many events follow, in the same turn of the loop.

    Three-step runs, if not told otherwise.
    """

    def __init__(self, outstanding: int, event: str = THREE, slug: str = THREE_SLUG, data: bytes = b'{"n":1}') -> None:
        self._event, self._slug, self._data = event, slug, data
        self.latencies_s: list[float] = []
        self.failed = 0
        self.records = 0
        """Durable journal records that the engine reported."""
        self._outstanding = outstanding
        self._loop = asyncio.get_running_loop()
        self._ended = self._owed = self._left = self._wanted = 0
        self._scheduled = False
        self._watched: dict[str, float] = {}
        self._over = asyncio.Event()
        self.engine: Engine | None = None

    def on_facts(self, facts: Sequence[Fact], at_ms: int) -> None:
        """What the engine tells of every durable record."""
        self.records += 1
        ended, watched = 0, self._watched
        for fact in facts:
            kind = type(fact)
            if kind is RunCompleted:
                ended += 1
                if fact.run in watched:  # type: ignore[union-attr]
                    self.latencies_s.append(time.perf_counter() - watched.pop(fact.run))  # type: ignore[union-attr]
            elif kind is RunFailed:
                self.failed += 1
        if ended:
            self._ended += ended
            self._owed += ended
            if not self._scheduled:
                self._scheduled = True
                self._loop.call_soon(self._follow)
            if self._ended >= self._wanted:
                self._over.set()

    @property
    def ended(self) -> int:
        """How many runs have ended since ``run`` was called."""
        return self._ended

    async def run(self, runs: int, within_s: float = 600.0) -> None:
        """Start ``runs`` runs and return once all have ended."""
        self.latencies_s.clear()
        self._watched.clear()
        self._over.clear()
        self._ended, self._wanted, self._left = 0, runs, runs
        self._owed = self._outstanding
        self._follow()
        await asyncio.wait_for(self._over.wait(), within_s)
        if self.failed:
            raise RuntimeError(f"{self.failed} runs failed: the figure would mean nothing.")

    def _follow(self) -> None:
        self._scheduled = False
        count, self._owed = min(self._owed, self._left), 0
        if count <= 0:
            return
        assert self.engine is not None
        self._left -= count
        begun, lanes = time.perf_counter(), self.engine.lanes
        made = self.engine.inject(self._event, [self._data] * count)
        for internal, at_ms, partition in made[::WATCHED_EVERY]:
            lane = lane_of_source(self.engine.events_topic, partition, lanes)
            self._watched[run_id(at_ms, internal, self._slug, "", lane=lane, lanes=lanes)] = begun
