"""One world: a shared log, machines with disks and clocks, workers that are killed and come back, clients, and chance.

    world = World(seed); world.run(); world.violations

All of it follows from the seed. A world is hostile for some virtual seconds; then every fault ends, and what was
begun must come to its end (``checks.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import traceback
from collections import deque
from random import Random
from typing import Any

from millstream.core.runs import cancellations
from millstream.core.waits import coverage, homes
from millstream.lane.input import scan_reader
from millstream.lane.settings import LaneSettings
from millstream.log.group_topics import topics_of
from millstream.log.memory import partition as memory_partition
from millstream.log.memory.log import MemoryCluster
from millstream.log.port import Produced
from millstream.model import limits
from millstream.model.ids import lane_of
from millstream.model.messages import group_topic
from millstream.state import checkpoint, flush
from millstream.wire.messages import decode_inbox
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker
from tests.sim import checks
from tests.sim.bounded import Bounded
from tests.sim.cancelling import Cancelling
from tests.sim.clients import POISON, Clients
from tests.sim.foreign import Foreign
from tests.sim.gates import Gates
from tests.sim.holds import Holds
from tests.sim.ledger import Ledger
from tests.sim.loop import Killed, Process, SimLoop, run
from tests.sim.machine import GROUP, TELEMETRY, Machine
from tests.sim.observer import Observer
from tests.sim.programs import Planned, make_app, plan
from tests.sim.storms import Storms
from tests.sim.waits import Waits
from tests.sim.weather import SimFaults, Weather

EPOCH_MS = 1_750_000_000_000
TRACE_MAX = 4_000
CALM_POLL_S = 2.0


class World:
    """See the module."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.seed = seed
        self.verbose = verbose
        rng = Random(seed)
        self.chaos = Random(f"{seed}/chaos")
        self.delays = Random(f"{seed}/delays")
        later = ("kafka", "weather of commits", "weather of edits", "weather of disks")
        self.weather = Weather.draw(rng, *(Random(f"{seed}/{what}") for what in later))
        self.lanes = rng.choice([2, 2, 3])
        self.machine_names = ["a", "b"] if rng.random() < 0.6 else ["a"]
        self.hostile_s = rng.uniform(4, 18)
        self.poll_s = rng.choice([0.5, 2.0, 6.0])
        self.park_after_s = rng.choice([0.5, 2.0, 10.0])
        self.live_bodies_max = rng.choice([2, 5, 10_000])
        self.settings = _settings(rng, Random(f"{seed}/handover"))
        self.violations: list[tuple[str, str]] = []
        self.failed_with: BaseException | None = None
        self.over = False
        self.healed = False
        self.healed_s = 0.0
        self.traced: deque[tuple[Any, ...]] = deque(maxlen=TRACE_MAX)
        self._rng = rng
        self._inbox: dict[tuple[int, int], set[int]] = {}
        self._inboxes_attached: set[int] = set()
        self.written: dict[int, list[Produced]] = {}
        """The records of each partition of the events topic from its first on, deleted since or not."""

    def run(self) -> None:
        """From the beginning to the last check."""
        with contextlib.ExitStack() as changed:
            for owner, name, value in self._made_small():
                before = getattr(owner, name)
                setattr(owner, name, value)
                changed.callback(setattr, owner, name, before)
            try:
                run(self._main)
            finally:
                self.over = True

    def _made_small(self) -> list[tuple[Any, str, Any]]:
        """What is large in a product, so that a small world comes to its borders."""
        small: list[tuple[Any, str, Any]] = [
            (scan_reader, "PAGE_RECORDS_MAX", 2),
            (cancellations, "LOOKED_AT_ONCE_MAX", 2),
        ]
        if self.weather.parts:
            small.append((limits, "RECORD_FACTS_MAX", 3))
        if self.weather.torn:
            small += [
                (flush, "FLUSH_BATCH_CHANGES_MAX", 12),
                (checkpoint, "CHUNK_ROWS", 4),
                (checkpoint, "UNMARK_ROWS", 4),
            ]
        if self.weather.forgetful:
            small.append((memory_partition, "TOMBSTONE_KEPT_MS", 15_000))
        if Random(f"{self.seed}/small homes").random() < 0.5:
            small += [
                (limits, "KEPT_EVENTS_MAX", 2),
                (limits, "KEPT_MS", 3_000),
                (homes, "LOOKED_AT_ONCE_MAX", 2),
                (coverage, "IDLE_MS", 5_000),
            ]
        return small

    def true_ms(self) -> int:
        """The log's time, which is the true one."""
        return EPOCH_MS + int(self.loop.now_s * 1000)

    def trace(self, text: str, *values: Any) -> None:
        """Note what happens."""
        self.traced.append((self.loop.now_s, text, values))
        if self.verbose:
            print(f"{self.loop.now_s:9.4f} " + text % values)

    def violate(self, name: str, detail: str, error: BaseException | None = None) -> None:
        """A promise is broken: the world ends here."""
        if self.over:
            return
        self.trace("VIOLATED: %s: %s", name, detail)
        self.violations.append((name, detail))
        self.failed_with = self.failed_with or error
        if not self._ended.done():
            self._ended.set_result(None)

    def is_meant(self, error: Exception) -> bool:
        """Whether this world was made so that a process must refuse."""
        return False

    def owns_truly(self, process: Process | None, run_id: str) -> bool:
        """Whether this process has the run's lane, as the group knows it and not as the process believes."""
        for machine in self.machines:
            if machine.process is process:
                return lane_of(run_id, self.lanes) in machine.lanes_held
        return False

    def in_inbox(self, to_lane: int, from_lane: int) -> set[int]:
        """The sequence numbers that have been written to an inbox, whether trimmed since or not."""
        return self._inbox.get((to_lane, from_lane), set())

    def is_poison(self, subject: str) -> bool:
        """Whether the record that was refused is one of those that are meant to be."""
        topic, _, place = subject.partition("/")
        partition, _, offset = place.partition("@")
        if offset and self.foreign.is_poison(topic, int(partition), int(offset)):
            return True
        if topic != "events" or not offset:
            return False
        written = self.written[int(partition)]
        return int(offset) < len(written) and written[int(offset)].value == POISON

    # --- the course of things -----------------------------------------------------------------

    async def _main(self, loop: SimLoop) -> None:
        self.loop = loop
        self.context = contextvars.copy_context()
        self._ended: asyncio.Future[None] = loop.create_future()
        self.faults = SimFaults(
            self.weather,
            *(Random(f"{self.seed}/{what}") for what in ("faults", "late", "commits", "disks")),
            chaos=self.chaos,
        )
        self.cluster = MemoryCluster(now_ms=self.true_ms, faults=self.faults)
        self.observer = Observer(self, GROUP, self.lanes)
        self.ledger = Ledger(self)
        self._plan()
        await self._topics()
        self.machines = [Machine(self, name) for name in self.machine_names]
        self.group = self.cluster.group(GROUP, self.lanes)
        await self.cluster.assign(self.spread())
        course = loop.create_task(self._course())
        await asyncio.wait([course, self._ended], return_when="FIRST_COMPLETED")
        if course.done() and not course.cancelled() and course.exception() is not None:
            raise course.exception()  # type: ignore[misc]
        self._complain()
        self.over = True

    def _plan(self) -> None:
        rng = self._rng
        planned = plan(rng, "one", 0, rng.randint(1, 4))
        later = plan(rng, "two", 10, rng.randint(1, 2)) if rng.random() < 0.3 else []
        self.planned: dict[str, Planned] = {one.slug: one for one in [*planned, *later]}
        self.retries = {slug: one.retries for slug, one in self.planned.items()}
        announced = rng.random() < 0.3
        self.apps_deployed = [make_app("one", planned, self.ledger, announced=announced)]
        self.app_edited = make_app("one", planned, self.ledger, announced=announced, edited=True)
        self.later = [make_app("two", later, self.ledger, announced=False)] if later else []
        self.waits = Waits(self, Random(f"{self.seed}/waits"))
        if self.waits.planned:
            self.planned |= {one.slug: one for one in self.waits.planned}
            self.retries |= {one.slug: one.retries for one in self.waits.planned}
            self.apps_deployed.append(make_app("waits", self.waits.planned, self.ledger, announced=False))
        self.gates = Gates(self, Random(f"{self.seed}/gates"))
        if self.gates.planned:
            self.planned |= {one.slug: one for one in self.gates.planned}
            self.retries |= {one.slug: one.retries for one in self.gates.planned}
            self.apps_deployed.append(make_app("gates", self.gates.planned, self.ledger, announced=False))
        self.cancelling = Cancelling(self, Random(f"{self.seed}/cancellations"))
        self.bounded = Bounded(self, Random(f"{self.seed}/bounded"))
        if self.bounded.planned:
            self.planned |= {one.slug: one for one in self.bounded.planned}
            self.retries |= {one.slug: one.retries for one in self.bounded.planned}
            self.apps_deployed.append(make_app("bounded", self.bounded.planned, self.ledger, announced=False))
        self.holds = Holds(self, Random(f"{self.seed}/holds"))
        if self.holds.planned:
            self.planned |= {one.slug: one for one in self.holds.planned}
            self.retries |= {one.slug: one.retries for one in self.holds.planned}
            self.apps_deployed.append(make_app("holds", self.holds.planned, self.ledger, announced=False))
        self.foreign = Foreign(self)
        self.apps_deployed += self.foreign.apps()
        self.specs = {
            slug: one.spec for app in [*self.apps_deployed, *self.later] for slug, one in app.functions.items()
        }
        self.clients = Clients(self, Random(f"{self.seed}/clients"))

    async def _topics(self) -> None:
        parts = WorkerParts(
            log=self.cluster.client("admin"), group=GROUP, lanes=self.lanes, apps=(), make_store=_no_store,
            telemetry=TELEMETRY,
        )  # fmt: skip
        await parts.log.create_topics(topics_of(parts.shape))
        await self.foreign.make()
        self.observer.attach()
        for lane in range(self.lanes):
            self._watch_inbox(lane)
            self._watch_events(lane)
        self._watch_functions()

    def _watch_functions(self) -> None:
        """Somebody sends events the moment their functions are registered."""
        partition = self.cluster.partitions[group_topic(GROUP, "functions"), 0]
        write = partition.append

        def append(records: Any, now_ms: int) -> int:
            first: int = write(records, now_ms)
            if not self.faults.calm:
                self.loop.call_soon(self._greet, [record.key for record in records], context=self.context)
            return first

        partition.append = append  # type: ignore[method-assign]

    def _greet(self, apps: list[bytes]) -> None:
        self.loop.create_task(self.clients.greet(apps))

    def _watch_inbox(self, lane: int) -> None:
        partition = self.cluster.partitions[group_topic(GROUP, "inbox"), lane]
        write = partition.append

        def append(records: Any, now_ms: int) -> int:
            for record in records:
                found = decode_inbox(record.value)
                if found.from_lane >= 0:
                    self._inbox.setdefault((lane, found.from_lane), set()).add(found.seq)
            return write(records, now_ms)

        partition.append = append  # type: ignore[method-assign]

    def _watch_events(self, number: int) -> None:
        partition = self.cluster.partitions["events", number]
        write, written = partition.append, self.written.setdefault(number, [])

        def append(records: Any, now_ms: int) -> int:
            written.extend(records)
            return write(records, now_ms)

        partition.append = append  # type: ignore[method-assign]

    async def _course(self) -> None:
        for machine in self.machines:
            machine.start()
        await self._until_live()
        self.faults.calm = False
        self.trace("-- %s", self.weather)
        self.holds.start()
        await asyncio.gather(
            self.clients.run(self.hostile_s),
            self.foreign.run(self.hostile_s),
            self.waits.run(self.hostile_s),
            self.gates.run(self.hostile_s),
            self.cancelling.run(self.hostile_s),
            self.bounded.run(self.hostile_s),
            Storms(self).run(),
            self._look(),
        )
        await self._heal()
        await self.clients.finish()
        await checks.settle(self)
        await checks.final(self)

    async def _until_live(self) -> None:
        while not all(machine.worker is not None and _live(machine.worker) for machine in self.machines):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def spread(self) -> dict[str, list[int]]:
        names = list(self.machine_names)
        spread: dict[str, list[int]] = {name: [] for name in names}
        for lane in range(self.lanes):
            spread[self.chaos.choice(names)].append(lane)
        return spread

    async def _look(self) -> None:
        """Compare what lanes hold with what their journals say, now and then."""
        for number in range(6):
            await asyncio.sleep(self.hostile_s / 6)
            checks.live_tables(self)
            await checks.restored(self, disks=number == 3)

    async def _heal(self) -> None:
        self.trace("-- all is well from now on")
        self.faults.calm, self.faults.outage = True, False
        self.poll_s = 0.5
        for machine in self.machines:
            machine.surroundings.off_ms = 0
            machine.process.fuse = machine.process.action_fuse = -1
            edited, machine.edited = machine.edited, False
            if machine.worker is not None and (edited or len(machine.worker.parts.apps) < len(self.apps_deployed)):
                machine.process.kill("restarted with all apps, as they should be")
        await asyncio.sleep(4)
        for _ in range(3):
            await self.cluster.assign(self.spread())
            await asyncio.sleep(0.5)
        self.poll_s = CALM_POLL_S
        self.healed, self.healed_s = True, self.loop.now_s

    def _complain(self) -> None:
        for process, what in self.loop.complaints:
            error = what.get("exception")
            if process is not None and process.dead:
                continue
            if error is not None and not isinstance(error, asyncio.CancelledError | Killed):
                told = "".join(traceback.format_exception(error))[-3_000:]
                self.violate("no exception is lost", f"{what.get('message')}: {error!r}\n{told}", error)

    def report(self, lines: int = 60) -> str:
        """What happened, for a person."""
        told = [f"seed {self.seed}: {name}: {detail}" for name, detail in self.violations]
        last = [f"{at:9.4f} " + text % values for at, text, values in list(self.traced)[-lines:]]
        again = f"run it again, with everything it does: make sim SEED={self.seed}"
        return "\n".join([*last, *told, again])


def _live(worker: Worker) -> bool:
    return all(lane in worker.lanes and worker.lanes[lane].live for lane in worker.assigned_lanes)


def _settings(rng: Random, handover: Random) -> LaneSettings:
    return LaneSettings(
        flush_after_ms=rng.choice([200, 1_000, 3_000]),
        flush_rows=rng.choice([10, 50, 1_000]),
        checkpoint_facts=rng.choice([15, 60, 300]),
        checkpoint_after_ms=rng.choice([2_000, 6_000, 20_000]),
        checkpoint_gap_ms=500,
        trim_lag_ms=rng.choice([0, 2_000]),
        history_ms=rng.choice([0, 3_000]),
        queue_max=rng.choice([8, 200]),
        turn_commands_max=rng.choice([1, 5, 200]),
        turn_facts_max=rng.choice([3, 100]),
        housekeeping_ms=500,
        retry_refused_ms=200,
        takeover_runs_per_turn=rng.choice([1, 3, 100]),
        heartbeat_ms=handover.choice([300, 1_000]),
        silence_ms=handover.choice([7_000, 15_000]),
    )


def _no_store(lane: int) -> Any:
    raise AssertionError("the administrator owns no lanes")


def simulate(seed: int, *, verbose: bool = False) -> World:
    """Run one seed to its end."""
    if not gc.get_freeze_count():  # What is there for good is not gone over after each world.
        gc.collect()
        gc.freeze()
    gc.disable()  # A third of the time otherwise; a world is small, and goes at once when it is over.
    try:
        world = World(seed, verbose=verbose)
        world.run()
        gc.collect()
    finally:
        gc.enable()
    return world
