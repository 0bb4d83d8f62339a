"""A machine of a world: a name, disks and a clock that outlive its processes, and the real worker that runs there.

What differs from a real process is only at its edges: its log and stores fail as the weather says (``sim_log.py``), its
executors report through a bad line, its clock may be wrong, and it counts nothing.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from millstream.errors import OperatorError
from millstream.execute.local.executor import LocalExecutor, LocalSettings
from millstream.execute.port import RunSource
from millstream.model.commands import LoseDispatch, ParkDispatch, Report, Unpark
from millstream.sdk.app import App
from millstream.state.memory import MemoryDisk
from millstream.telemetry import Telemetry
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker
from tests.sim.loop import Process
from tests.sim.sim_log import SimLog, SimStore

if TYPE_CHECKING:
    from tests.sim.world import World

GROUP = "sim"
CALM_UPKEEP_S = 2.0


class _Silent(Telemetry):
    """Counts nothing: what is counted is not what these worlds are about."""

    def count(self, name: str, amount: float = 1, *labels: str) -> None:
        pass

    def set(self, name: str, value: float, *labels: str) -> None:
        pass

    def observe(self, name: str, value: float, *labels: str) -> None:
        pass


TELEMETRY = _Silent()


class SimSurroundings:
    """A machine's clock, which may be wrong, and its chance."""

    def __init__(self, world: World, rng: Random) -> None:
        self._world = world
        self._rng = rng
        self.off_ms = 0

    def now_ms(self) -> int:
        return self._world.true_ms() + self.off_ms

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._world.loop.call_later(delay_s, callback)

    async def sleep(self, delay_s: float) -> None:
        """In the calm, lanes look after themselves less often: minutes go by there in which nothing happens."""
        calm_s = CALM_UPKEEP_S if self._world.healed and delay_s == self._world.settings.housekeeping_ms / 1000 else 0
        await asyncio.sleep(max(delay_s, calm_s))

    def entropy(self, size: int) -> bytes:
        return self._rng.randbytes(size)

    def chance(self) -> float:
        return self._rng.random()


class BadLine:
    """How an executor speaks to its lane, or to who reports for it once that is gone: late, twice, or both.

    A ``RunSource``. It asks for joint bodies of some runs, and of a few others once it may have asked otherwise: as
    executors of endpoints do, whose functions wait for all or race.
    """

    def __init__(self, world: World, lane: RunSource) -> None:
        self._world = world
        self._lane = lane
        self.delayed = 0
        self.view, self.step, self.now_ms = lane.view, lane.step, lane.now_ms
        self.parked_of = lane.parked_of

    def report(self, report: Report) -> None:
        if not report.step:
            report = replace(report, joint=_joint(report))
        for delay_s in self._world.faults.report_fate():
            if delay_s:
                self.delayed += 1
                self._world.loop.call_later(delay_s, self._late, report)
            else:
                self._lane.report(report)

    def _late(self, report: Report) -> None:
        self.delayed -= 1
        self._lane.report(report)

    def park(self, park: ParkDispatch) -> None:
        self._lane.park(park)

    def lose(self, lost: LoseDispatch) -> None:
        self._lane.lose(lost)

    def unpark(self, unpark: Unpark) -> None:
        self._lane.unpark(unpark)


def _joint(report: Report) -> bool | None:
    match ord(report.run[-1]) % 4:
        case 0:
            return True
        case 1:
            return report.dispatch % 5 < 2
        case _:
            return None


class Machine:
    """A name, disks and a clock that outlive the processes on it; ``process`` is the one of now."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.disks: dict[int, MemoryDisk] = {}
        self.olds: dict[int, dict[bytes, bytes]] = {}
        self.surroundings = SimSurroundings(world, Random(f"{world.seed}/{name}"))
        self.starts = 0
        self.edited = False  # Its processes are started with code that asks for other steps in a replay.
        self.process: Process
        self.worker: Worker | None = None
        self.died: asyncio.Future[None]
        self.up = False

    def start(self) -> None:
        """A new process on this machine."""
        world = self.world
        self.starts += 1
        self.process = Process(f"{self.name}{self.starts}", self._on_death)
        self.died = world.loop.create_future()
        self.worker = None
        self.up = True
        world.trace("%s: starts", self.process.name)
        if not world.faults.calm and world.weather.crashes and world.chaos.random() < 0.7:
            if world.chaos.random() < 0.6:
                self.process.fuse = int(10 ** world.chaos.uniform(1.0, 4.0))
            else:
                self.process.action_fuse = int(10 ** world.chaos.uniform(0.3, 2.7))
        world.loop.create_task(self._main(), context=self.process.context.copy())  # type: ignore[call-arg, arg-type]

    async def _main(self) -> None:
        world = self.world
        try:
            self.client = world.cluster.client(self.name)
            log = SimLog(world, self, self.client)
            apps = [world.app_edited, *world.apps_deployed[1:]] if self.edited else world.apps_deployed
            parts = WorkerParts(
                log=log,
                group=GROUP,
                lanes=world.lanes,
                apps=apps,
                make_store=self._store,
                name=self.name,
                surroundings=self.surroundings,
                settings=world.settings,
                telemetry=TELEMETRY,
                public_url="https://sim.example",
                make_executor=partial(self._executor, apps),
            )
            self.worker = worker = Worker(parts)
            poll = asyncio.ensure_future(self._poll())
            await worker.start()
            world.trace("%s: started", self.process.name)
            await worker.wait()
            poll.cancel()
        except OperatorError as error:
            # A process may end with a word for its operator and be started again; but not over the state it found.
            if type(error).__name__ in ("Corruption", "AcknowledgedLost") and not world.is_meant(error):
                world.violate("the state can always be restored", repr(error))
            self.process.kill(f"ended with {error!r}")
        except Exception as error:
            told = "".join(traceback.format_exception(error))[-3_000:]
            world.violate("a worker lives on", f"{self.process.name} ended with {error!r}\n{told}", error)
            self.process.kill("violation")

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.world.poll_s * (0.5 + self.world.delays.random()))
            await self.client.poll()

    def _executor(self, apps: Sequence[App], lane: RunSource) -> LocalExecutor:
        world = self.world
        settings = LocalSettings(
            park_after_s=world.park_after_s, live_bodies_max=world.live_bodies_max, memory_bytes_max=0
        )
        return LocalExecutor(apps, BadLine(world, lane), settings)

    def _store(self, lane: int) -> SimStore:
        return SimStore(self.world, self, self.disks.setdefault(lane, MemoryDisk()))

    def _on_death(self, how: str) -> None:
        world, chaos = self.world, self.world.chaos
        world.trace("%s: dies, %s", self.process.name, how)
        self.up = False
        if hasattr(self, "client"):
            self.client.crash()
        if not self.died.done():
            self.died.set_result(None)
        for lane, disk in list(self.disks.items()):
            roll = chaos.random()
            if roll < 0.3:
                kept = chaos.randint(0, disk.unsynced)
                world.trace("%s: disk of lane %d keeps %d of %d writes", self.name, lane, kept, disk.unsynced)
                disk.lose_unsynced(kept)
            elif roll < 0.4:
                world.trace("%s: disk of lane %d is lost", self.name, lane)
                del self.disks[lane]
            elif roll < 0.55 and lane in self.olds:
                world.trace("%s: disk of lane %d is an old copy", self.name, lane)
                self.disks[lane] = MemoryDisk()
                self.disks[lane].write(list(self.olds[lane].items()))
            elif roll < 0.6 and len(self.disks) > 1:
                world.trace("%s: disk of lane %d is another lane's", self.name, lane)
                self.disks[lane] = MemoryDisk()
                self.disks[lane].write(list(chaos.choice(list(self.disks.values())).rows.items()))
            # else: the disk is as it was
        back_s = chaos.random() * 3
        world.loop.call_later(back_s, self._back, context=world.context)  # type: ignore[call-arg]

    @property
    def lanes_held(self) -> frozenset[int]:
        """The lanes that are this machine's as the group knows it, and not as its process believes."""
        return self.world.group.lanes_of(self.name)

    def _back(self) -> None:
        if not self.up and not self.world.over:
            self.start()

    def keep_old(self) -> None:
        """What an older disk will look like."""
        for lane, disk in self.disks.items():
            self.olds[lane] = dict(disk.rows)
