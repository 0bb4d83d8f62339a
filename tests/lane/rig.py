"""A lane's world for tests: a memory cluster whose next failures are told, a disk, an executor that takes notes."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from millstream.core.tables import Tables
from millstream.lane.journal import Journal
from millstream.lane.lane import Lane
from millstream.lane.maintenance.trouble import Trouble
from millstream.lane.ownership.restore import restore
from millstream.lane.parts import LaneParts, Source
from millstream.lane.port import Schemas
from millstream.lane.settings import LaneSettings
from millstream.log.group_topics import topics_of
from millstream.log.memory.faults import ACKNOWLEDGED, Verdict
from millstream.log.memory.log import MemoryCluster, MemoryLog
from millstream.log.port import Membership, Produced, Record
from millstream.model.commands import Command, HandOut, ParkDispatch
from millstream.model.effects import CodeWanted, Execute
from millstream.model.event import Envelope
from millstream.model.facts import Fact
from millstream.model.function import AppSpec
from millstream.model.journal import JournalRecord
from millstream.model.place import Place
from millstream.schema_registry.sources import FileSchemas
from millstream.state.dump import dump
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.telemetry import Telemetry
from millstream.wire.journal import Validity, decode_record
from millstream.wire.messages import encode_app, encode_envelope
from millstream.worker.parts import WorkerParts
from tests.core.values import PLACE, START_MS

JOURNAL = f"{PLACE.group}.journal"
INBOX = f"{PLACE.group}.inbox"
FUNCTIONS = f"{PLACE.group}.functions"
REPLIES = f"{PLACE.group}.replies"
LETTERS = f"{PLACE.group}.dead-letters"
EVENTS: Source = ("events", 1)
"""The partition of the events topic that the lane reads."""
TELEMETRY = Telemetry()
TURNS_MAX = 4_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """When nothing is ready the time jumps to the next timer."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        super().__init__()

    def time(self) -> float:
        return self._virtual_s

    def _run_once(self) -> None:
        loop: Any = self
        if not loop._ready:  # A cancelled timer may stand in front: the loop would sleep for the next one in real time.
            times = [timer._when for timer in loop._scheduled if not timer._cancelled]
            self._virtual_s = max(self._virtual_s, min(times, default=0))
        super()._run_once()  # type: ignore[misc]


class Script:
    """``Faults`` told in advance: the verdicts of a topic's next appends, and of the next transactions."""

    def __init__(self) -> None:
        self.appends: dict[str, deque[Verdict]] = defaultdict(deque)
        self.always: dict[str, Verdict] = {}
        self.transactions: deque[Verdict] = deque()
        self.asked: list[tuple[str, str]] = []

    def on_append(self, client: str, topic: str, partition: int) -> Verdict:
        self.asked.append((client, topic))
        waiting = self.appends[topic]
        return waiting.popleft() if waiting else self.always.get(topic, ACKNOWLEDGED)

    def on_transaction(self, client: str, name: str) -> Verdict:
        return self.transactions.popleft() if self.transactions else ACKNOWLEDGED

    def survives_crash(self, client: str, topic: str, partition: int, records: int) -> int:
        return 0


class Here:
    """``Surroundings`` on the loop's virtual time; ``off_ms`` is how wrong the clock is."""

    def __init__(self) -> None:
        self.off_ms = 0
        self._drawn = 0

    def true_ms(self) -> int:
        return START_MS + round(asyncio.get_running_loop().time() * 1_000)

    def now_ms(self) -> int:
        return self.true_ms() + self.off_ms

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, callback)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    def entropy(self, size: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(size, "big")

    def chance(self) -> float:
        return 0.5


class Desk:
    """An executor that takes notes and leaves reporting to the test."""

    def __init__(self, tables: Tables, submit: Callable[[Command], None]) -> None:
        self.tables = tables
        self.submit = submit
        self.started: list[Execute] = []
        self.abandoned: list[str] = []
        self.under_way: set[tuple[str, str, int]] = set()
        self.full = False
        self.left = False

    def start(self, effect: Execute) -> None:
        assert self.tables.runs.get(effect.run) is not None, "released before it was durable"
        self.started.append(effect)
        self.under_way.add((effect.run, effect.step, effect.dispatch))

    def abandon(self, run: str) -> None:
        self.abandoned.append(run)

    def holds(self, run: str, step: str, dispatch: int) -> bool:
        return (run, step, dispatch) in self.under_way

    def knows(self, function: str) -> bool:
        return True

    def takes_up(self, wanted: CodeWanted) -> bool:
        return not self.left

    @property
    def executing(self) -> int:
        return len(self.under_way)

    def drain(self) -> None:
        self.left = True

    def dispatches(self) -> tuple[HandOut, ...]:
        return tuple(HandOut(*out) for out in sorted(self.under_way))

    async def close(self, grace_s: float) -> None:
        for out in sorted(self.under_way):
            self.submit(ParkDispatch(*out))
        self.under_way.clear()


class Owner:
    """A lane with its task and its executor."""

    def __init__(self, lane: Lane, desk: Desk) -> None:
        self.lane = lane
        self.desk = desk
        self.task = asyncio.get_running_loop().create_task(lane.run())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Rig:
    """See the module. ``client`` names the process."""

    def __init__(self) -> None:
        self.faults = Script()
        self.here = Here()
        self.cluster = MemoryCluster(now_ms=self.here.true_ms, faults=self.faults)
        self.logs: dict[str, MemoryLog] = {}
        self.told: dict[str, list[tuple[str, frozenset[int]]]] = defaultdict(list)
        self.disk = MemoryDisk()
        self.wanted: list[str] = []
        self.schemas: Schemas = FileSchemas()
        self.recorded: list[Fact] = []
        self.busy = False
        """Whether executors made from now on are full."""
        self._memberships: dict[str, Membership] = {}
        self._owners: list[Owner] = []

    async def create(self) -> None:
        log = await self.client("a")
        parts = WorkerParts(log=log, group=PLACE.group, lanes=PLACE.lanes, apps=(), make_store=lambda _: MemoryStore())
        await log.create_topics(topics_of(parts.shape))

    async def close(self) -> None:
        for owner in self._owners:
            await owner.stop()

    async def client(self, name: str) -> MemoryLog:
        """A process's log; it has joined the group."""
        if name not in self.logs:
            log = self.logs[name] = self.cluster.client(name)
            told = self.told[name]

            async def assigned(lanes: frozenset[int]) -> None:
                told.append(("assigned", lanes))

            async def revoked(lanes: frozenset[int]) -> None:
                told.append(("revoked", lanes))

            membership = log.membership(PLACE.group, PLACE.lanes)
            self._memberships[name] = membership
            await membership.join(on_assigned=assigned, on_revoked=revoked)
        return self.logs[name]

    async def parts(self, name: str = "a", settings: LaneSettings | None = None) -> tuple[LaneParts, list[Desk]]:
        log = await self.client(name)
        desks: list[Desk] = []

        def make(tables: Tables, submit: Callable[[Command], None]) -> Desk:
            desks.append(Desk(tables, submit))
            desks[-1].full = self.busy
            return desks[-1]

        async def want(topic: str) -> None:
            self.wanted.append(topic)
            spec = self.cluster.specs["events"]
            await log.create_topics([replace(spec, name=topic, partitions=1)])

        parts = LaneParts(
            place=PLACE,
            log=log,
            store=MemoryStore(self.disk),
            make_executor=make,
            surroundings=self.here,
            membership=self._memberships[name],
            telemetry=TELEMETRY,
            worker=name,
            on_topic_wanted=want,
            schemas=self.schemas,
            settings=settings or LaneSettings(),
            on_facts=lambda facts, at_ms: self.recorded.extend(facts),
            trouble=Trouble(PLACE.lane, TELEMETRY),
        )
        return parts, desks

    async def own(
        self,
        name: str = "a",
        settings: LaneSettings | None = None,
        place: Place = PLACE,
    ) -> Owner:
        """Restore the lane and let it live; returns once it is live."""
        parts, desks = await self.parts(name, settings)
        tables, reached = await restore(parts.log, place, parts.store, lambda facts, left: None)
        lane = Lane(parts, tables, reached)
        owner = Owner(lane, desks[0])
        self._owners.append(owner)
        await until(lambda: lane.live or owner.task.done())
        return owner

    def membership(self, name: str = "a") -> Membership:
        """That process's place in the group."""
        return self._memberships[name]

    def journal(self, name: str = "a") -> Journal:
        """The journal as that process would write it."""
        return Journal(self.logs[name], JOURNAL, PLACE.lane, watchdog_s=1.0)

    # --- what others write and read ---------------------------------------------------------------

    async def put(self, topic: str, *records: Produced, partition: int = -1) -> int:
        """Somebody else appends; never fails. Where no partition is given, to the one that the lane reads."""
        if partition < 0:
            partition = EVENTS[1] if topic == EVENTS[0] else 0
        return self.cluster.partitions[topic, partition].append(records, self.here.true_ms())

    async def send(self, *events: Envelope) -> int:
        return await self.put("events", *(Produced(encode_envelope(event)) for event in events))

    async def register(self, *apps: AppSpec) -> int:
        return await self.put(FUNCTIONS, *(Produced(encode_app(app), app.id.encode()) for app in apps))

    def records(self, topic: str, partition: int = 0) -> list[Record]:
        found = self.cluster.partitions[topic, partition]
        return found.read(found.start, 1 << 30, 1 << 40)[0]

    def decisions(self) -> list[JournalRecord]:
        """The records of the journal that count, fences too."""
        validity = Validity()
        taken = [validity.take(decode_record(record.value or b"")) for record in self.records(JOURNAL)]
        return [record for record in taken if record is not None]

    def facts(self, kind: type) -> list[Any]:
        """The recorded facts of a kind, in order."""
        return [fact for record in self.decisions() for fact in record.facts if isinstance(fact, kind)]

    async def rows_from_topics(self) -> Any:
        """What a worker without a disk would restore now."""
        tables, _ = await restore(self.logs["a"], PLACE, MemoryStore(), lambda facts, left: None)
        return dump(tables)


async def until(what: Callable[[], object]) -> None:
    """Wait, in virtual time, until it is true."""
    for turn in range(TURNS_MAX):
        if what():
            return
        await asyncio.sleep(0.001 if turn < TURNS_MAX // 2 else 0.1)
    raise AssertionError(f"expected to become true within {TURNS_MAX} looks in virtual time: {what}")


def offsets(record: JournalRecord) -> dict[Source, int]:
    """The positions of a record."""
    return {(p.topic, p.partition): p.offset for p in record.positions}


def starts(facts: Iterable[Fact], kind: type) -> int:
    """How many facts of a kind."""
    return sum(isinstance(fact, kind) for fact in facts)
