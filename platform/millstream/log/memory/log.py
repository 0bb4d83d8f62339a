"""The log in memory: for users' tests and for the simulation. Deterministic: no threads, no clock of its own.

One ``MemoryLog()`` is a whole log. A ``MemoryCluster`` is a log that several processes share, each through its own
``cluster.client(name)``: that is how the simulation has two owners of one lane.

    cluster = MemoryCluster(now_ms=clock.now_ms, faults=faults)
    a, b = cluster.client("a"), cluster.client("b")
    await cluster.assign({"a": [0, 1], "b": []})
    await cluster.steal(1, "b")        # b knows, a does not until it polls
    a.crash()                          # what it had under way is lost or written, as the faults say

Warning: nothing is kept. A crashed client's data stays, because the cluster is the disk; the cluster's does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from millstream.errors import Busy, ConfigError, LimitExceeded, LogUnavailable
from millstream.log.memory.ends import MemoryReader, MemoryTransaction, MemoryWriter
from millstream.log.memory.faults import Faults
from millstream.log.memory.group import MemoryGroup, MemoryMembership
from millstream.log.memory.partition import MemoryPartition
from millstream.log.port import Produced, TopicKind, TopicSpec
from millstream.log.records import size_of

WAITING_BYTES_MAX = 64 << 20
BATCH_BYTES_MAX = 16 << 20


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryCluster:
    """What several memory logs share: topics, records, groups, and what goes wrong."""

    def __init__(self, *, now_ms: Callable[[], int] = _clock_ms, faults: Faults | None = None) -> None:
        self.now_ms = now_ms
        self.faults = faults
        self.specs: dict[str, TopicSpec] = {}
        self.partitions: dict[tuple[str, int], MemoryPartition] = {}
        self.transactions: dict[str, MemoryTransaction] = {}
        self._groups: dict[str, MemoryGroup] = {}

    def client(self, name: str) -> MemoryLog:
        """A process's own handle. One that crashed comes back as a new client of the same name."""
        return MemoryLog(cluster=self, name=name)

    def group(self, name: str, lanes: int) -> MemoryGroup:
        """The group of that name; made when first asked for."""
        found = self._groups.setdefault(name, MemoryGroup(lanes))
        if found.lanes != lanes:
            raise ConfigError(
                f"group {name!r} has {found.lanes} lanes, got {lanes}. Every member names the same number."
            )
        return found

    async def assign(self, lanes_by_client: Mapping[str, Iterable[int]]) -> None:
        """Hand lanes over with notice, and decide from now on by hand. Needs exactly one group."""
        await self._only_group().assign(lanes_by_client)

    async def steal(self, lane: int, to: str) -> None:
        """Give a lane to another client behind its owner's back."""
        await self._only_group().steal(lane, to)

    def committed(self, lane: int) -> int | None:
        """The inbox position the group has for a lane."""
        return self._only_group().positions.get(lane)

    def retain(self) -> None:
        """Apply retentions and forget old tombstones, as a broker does from time to time."""
        for partition in self.partitions.values():
            partition.retain(self.now_ms())

    def grow(self, topic: str, partitions: int) -> None:
        """An operator gives a topic more partitions."""
        spec = self.specs[topic] = replace(self.specs[topic], partitions=partitions)
        for number in range(partitions):
            self.partitions.setdefault((topic, number), MemoryPartition(spec, number))

    def make_anew(self, topic: str) -> None:
        """An operator deletes a topic and makes it again: its offsets begin at 0."""
        for number in range(self.specs[topic].partitions):
            self.partitions[topic, number].make_anew()

    def _only_group(self) -> MemoryGroup:
        if len(self._groups) != 1:
            raise ValueError(f"expected one group, got {sorted(self._groups)}: call membership() of a client first")
        return next(iter(self._groups.values()))


class MemoryLog:
    """A ``Log`` in memory; alone, or one client of a cluster."""

    def __init__(
        self,
        *,
        cluster: MemoryCluster | None = None,
        name: str = "memory",
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        self.name = name
        self.cluster = cluster or MemoryCluster()
        self.faults = self.cluster.faults
        self._waiting_bytes_max = waiting_bytes_max
        self._waiting_bytes = 0
        self._dead: str | None = None
        self._membership: MemoryMembership | None = None
        self._writers: list[MemoryWriter] = []

    # --- the port -----------------------------------------------------------------------------

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """See the port."""
        self.must_be_alive()
        for spec in specs:
            known = self.cluster.specs.get(spec.name, spec)
            if known != spec:
                raise ConfigError(
                    f"topic {spec.name!r} exists with another shape: expected {spec}, got {known}. A topic's shape is "
                    "fixed when it is made: use the same settings as then."
                )
        for spec in specs:
            if spec.name not in self.cluster.specs:
                self.cluster.specs[spec.name] = spec
                for number in range(spec.partitions):
                    self.cluster.partitions[spec.name, number] = MemoryPartition(spec, number)

    async def topic(self, name: str) -> TopicSpec | None:
        """See the port."""
        return self.cluster.specs.get(name)

    def writer(self, topic: str, partition: int) -> MemoryWriter:
        """See the port."""
        writer = MemoryWriter(self, self.find(topic, partition))
        self._writers = [*(other for other in self._writers if not other.over), writer]
        return writer

    def reader(self, topic: str, partition: int, offset: int) -> MemoryReader:
        """See the port."""
        return MemoryReader(self, self.find(topic, partition), offset)

    async def start_offset(self, topic: str, partition: int) -> int:
        """See the port."""
        self.must_be_alive()
        return self.find(topic, partition).start

    async def end_offset(self, topic: str, partition: int) -> int:
        """See the port."""
        self.must_be_alive()
        return self.find(topic, partition).end

    async def topic_identity(self, name: str) -> str:
        """See the port: there is one log, for as long as the process lives."""
        return ""

    async def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        """See the port."""
        self.must_be_alive()
        return self.find(topic, partition).offset_at(at_ms)

    async def trim(self, topic: str, partition: int, before_offset: int) -> None:
        """See the port."""
        self.must_be_alive()
        found = self.find(topic, partition)
        if found.spec.kind is not TopicKind.STREAM:
            raise ValueError(f"topic {topic!r} is compacted: write tombstones instead of trimming it")
        found.trim(before_offset)

    async def retain(self) -> None:
        """Apply retentions now, as the embedded log's method of this name does."""
        self.cluster.retain()

    async def transaction(self, name: str) -> MemoryTransaction:
        """See the port. The name is the cluster's: another client's transaction under it is aborted too."""
        self.must_be_alive()
        earlier = self.cluster.transactions.get(name)
        if earlier is not None:
            await earlier.abort()
        begun = MemoryTransaction(self, name, self._membership)
        self.cluster.transactions[name] = begun
        return begun

    def membership(self, group: str, lanes: int) -> MemoryMembership:
        """See the port. The last one made is the one whose transactions and crash count."""
        self._membership = MemoryMembership(self.cluster.group(group, lanes), self.name, self.reader)
        return self._membership

    async def close(self) -> None:
        """Leave, wait for the answers under way, and refuse everything from now on."""
        if self._dead is not None:
            return
        if self._membership is not None:
            await self._membership.leave()
        for writer in self._writers:
            await writer.drain()
            await writer.close()
        self._end("was closed")

    # --- the simulation's ---------------------------------------------------------------------

    def crash(self) -> None:
        """The process is killed: the faults say which of its appends under way are written. Nobody is told."""
        for writer in self._writers:
            writer.crash()
        if self._membership is not None:
            self._membership.crash()
        self._end("crashed")

    def break_producer(self, is_lost: Callable[[], bool]) -> None:
        """The producer of all writers fails; see the writers' ``break_down``."""
        for writer in self._writers:
            writer.break_down(is_lost)

    async def poll(self) -> None:
        """Hear what the group has to say, as the poll thread of a Kafka consumer does."""
        if self._membership is not None and self._dead is None:
            await self._membership.poll()

    # --- for the ends -------------------------------------------------------------------------

    def must_be_alive(self) -> None:
        """Raise LogUnavailable once this client was closed or has crashed."""
        if self._dead is not None:
            raise LogUnavailable(f"memory log client {self.name!r} {self._dead}; nothing was done")

    def now_ms(self) -> int:
        """The cluster's clock."""
        return self.cluster.now_ms()

    def find(self, topic: str, partition: int) -> MemoryPartition:
        """The partition, or ConfigError."""
        found = self.cluster.partitions.get((topic, partition))
        if found is None:
            raise ConfigError(f"there is no topic {topic!r} with a partition {partition}. Create it first.")
        return found

    def take(self, records: Sequence[Produced]) -> int:
        """Count records in as waiting; Busy or LimitExceeded when that is too much."""
        size = size_of(records)
        if size > min(BATCH_BYTES_MAX, self._waiting_bytes_max):
            raise LimitExceeded(f"an append of {size} bytes is too large: at most {BATCH_BYTES_MAX} are taken at once")
        if self._waiting_bytes + size > self._waiting_bytes_max:
            raise Busy(
                f"the log has {self._waiting_bytes} bytes waiting, at most {self._waiting_bytes_max} may. "
                "Nothing was written; try again in a moment."
            )
        self._waiting_bytes += size
        return size

    def give_back(self, size: int) -> None:
        """Records that waited have their outcome."""
        self._waiting_bytes -= size

    def _end(self, how: str) -> None:
        self._dead = how
        for partition in self.cluster.partitions.values():
            partition.wake()
