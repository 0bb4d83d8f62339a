"""A lane in memory around the executor: the real core over the real tables, without log and disk, in virtual time.

Every report is decided, folded and made durable in the next turn of the loop; its effects follow. ``World.crash()``
throws the executor away, as if the worker had died, and hands out again what the tables say is out.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from millstream import App
from millstream.core.settle import settle
from millstream.execute.local.executor import LocalExecutor, LocalSettings
from millstream.execute.port import Executor, RunSource, RunView
from millstream.model.commands import (
    AcceptEvent,
    Command,
    FireTimer,
    LoseDispatch,
    ParkDispatch,
    Report,
    SeeCatalogue,
    Unpark,
)
from millstream.model.effects import Abandon, Arm, CodeWanted, Execute
from millstream.model.event import Envelope
from millstream.model.facts import Fact, RunCancelled, RunCompleted, RunFailed
from millstream.model.ids import ulid
from millstream.model.place import Place
from millstream.model.rows import Hand, StepRow
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.state.tables import LaneTables

R = TypeVar("R")
START_MS = 1_800_000_000_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that never waits: with nothing to do, its clock leaps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1_000.0

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:  # Else it would really wait for what is behind them.
            heapq.heappop(self._scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if not self._ready and self._scheduled:
            self._now_s = max(self._now_s, self._scheduled[0]._when)
        super()._run_once()


class World:
    """A lane with an executor for ``app``; the source the executor looks at."""

    def __init__(
        self,
        app: App,
        settings: LocalSettings | None = None,
        retry_interval_ms: int = 1_000,
        make_executor: Callable[[RunSource], Executor] | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.make_executor = make_executor or (lambda source: LocalExecutor([self.app], source, self.settings))
        self.loop = asyncio.get_running_loop()
        self.tables = LaneTables(Place("g", 0, 1, retry_interval_ms=retry_interval_ms), MemoryStore(MemoryDisk()))
        self.executor: Any = self.make_executor(self)
        self.facts: list[Fact] = []
        self.reports: list[Report] = []
        self.parked: list[ParkDispatch] = []
        self.lost: list[LoseDispatch] = []
        self.ends: dict[str, asyncio.Future[RunCompleted | RunFailed | RunCancelled]] = {}
        self._queue: list[Command] = []
        self._events = 0
        self.submit(SeeCatalogue(app.id, app.spec(), 0))

    # the executor's source

    def view(self, run: str) -> RunView | None:
        row = self.tables.durable.runs.get(run)
        if row is None:
            return None
        events = tuple(self.tables.durable.events.get(id).event for id in row.events)
        steps = tuple(self.tables.durable.steps.get((run, step)) for step in row.steps)
        return RunView(row, events, steps)

    def step(self, run: str, step: str) -> StepRow | None:
        return self.tables.durable.steps.get((run, step))

    def parked_of(self, function: str, behind: tuple[str, str], limit: int) -> list[CodeWanted]:
        run, step = behind
        start = (function, run, f"{step}\x00" if run else "")
        rows = [row for _, row in self.tables.durable.parked.scan(start, limit=limit) if row.function == function]
        return [CodeWanted(row.run, row.function, row.step, row.dispatch) for row in rows]

    def report(self, report: Report) -> None:
        self.reports.append(report)
        self.submit(report)

    def park(self, park: ParkDispatch) -> None:
        self.parked.append(park)
        self.submit(park)

    def lose(self, lost: LoseDispatch) -> None:
        self.lost.append(lost)
        self.submit(lost)

    def unpark(self, unpark: Unpark) -> None:
        self.submit(unpark)

    def now_ms(self) -> int:
        return START_MS + round(self.loop.time() * 1_000)

    # the lane

    def submit(self, command: Command) -> None:
        self._queue.append(command)
        if len(self._queue) == 1:
            self.loop.call_soon(self._commit)

    def _commit(self) -> None:
        effects = []
        commands, self._queue = self._queue, []
        for command in commands:
            facts, followed = settle(self.tables, command, self.now_ms())
            self.facts += facts
            effects += followed
        self.tables.promote()
        for effect in effects:
            match effect:
                case Execute():
                    self.executor.start(effect)
                case Abandon():
                    self.executor.abandon(effect.run)
                case Arm():
                    self._arm(FireTimer(effect.at_ms, effect.kind, effect.id, effect.step))
                case CodeWanted():
                    if self.executor.takes_up(effect):
                        self.submit(Unpark(effect.run, effect.step, effect.dispatch))
                case _:
                    pass
        for fact in self.facts[-len(effects) - len(commands) * 50 :]:
            if isinstance(fact, RunCompleted | RunFailed | RunCancelled) and not self.ends[fact.run].done():
                self.ends[fact.run].set_result(fact)

    def _arm(self, fire: FireTimer) -> None:
        self.loop.call_later((fire.at_ms - self.now_ms()) / 1_000, self.submit, fire)

    async def send(self, data: object = None, name: str = "go") -> str:
        """Send an event; the id of the run it starts."""
        id = ulid(self.now_ms(), self._events.to_bytes(10, "big"))
        offset, self._events = self._events, self._events + 1
        known = set(self.runs())
        envelope = Envelope(
            id, id, False, name, msgspec.json.encode({} if data is None else data), self.now_ms(), self.now_ms()
        )
        self.submit(AcceptEvent(envelope, "events", 0, offset))
        while not (new := set(self.runs()) - known):  # noqa: ASYNC110 - turns of the loop are what is waited for
            await asyncio.sleep(0)
        run = new.pop()
        self.ends[run] = self.loop.create_future()
        return run

    def runs(self) -> list[str]:
        return [key for key, _ in self.tables.runs.scan(limit=10_000)]

    async def end(self, run: str) -> RunCompleted | RunFailed | RunCancelled:
        """How a run ended."""
        return await asyncio.wait_for(self.ends[run], 200_000)

    async def result(self, data: object = None) -> object:
        """Send an event and wait for the result of its run."""
        end = await self.end(await self.send(data))
        assert isinstance(end, RunCompleted), end
        return msgspec.json.decode(end.result)

    async def failure(self, data: object = None) -> RunFailed:
        """Send an event and wait for the failure of its run."""
        end = await self.end(await self.send(data))
        assert isinstance(end, RunFailed), end
        return end

    def crash(self, app: App | None = None) -> None:
        """The worker dies and comes back, perhaps with other code: what was out is handed out again."""
        for run in self.runs():
            self.executor.abandon(run)
        self.app = app or self.app
        self.executor = self.make_executor(self)
        self._queue.clear()
        for (at_ms, kind, id, step), _ in self.tables.timers.scan(limit=10_000):
            self._arm(FireTimer(at_ms, kind, id, step))
        for run in self.runs():
            row = self.tables.runs.get(run)
            if row.body == Hand.OUT:
                self.submit(LoseDispatch(run, "", row.body_dispatch))
            for step in row.steps:
                held = self.tables.steps.get((run, step))
                if held.hand == Hand.OUT:
                    self.submit(LoseDispatch(run, step, held.dispatch))
        for _, parked in self.tables.parked.scan(limit=10_000):
            if self.executor.takes_up(CodeWanted(parked.run, parked.function, parked.step, parked.dispatch)):
                self.submit(Unpark(parked.run, parked.step, parked.dispatch))

    def operations(self) -> list[list[str]]:
        """What was reported, dispatch by dispatch: the class of each operation with its step."""
        return [
            [f"{type(op).__name__} {getattr(op, 'step', '')}".strip() for op in report.operations]
            for report in self.reports
        ]


def play(scenario: Callable[[], Awaitable[R]]) -> R:
    """Run a scenario to its end in virtual time."""
    return _run(VirtualLoop(), scenario)


def play_in_real_time(scenario: Callable[[], Awaitable[R]]) -> R:
    """Run a scenario that uses threads, whose time a loop cannot know."""
    return _run(asyncio.SelectorEventLoop(), scenario)


def _run(loop: asyncio.AbstractEventLoop, scenario: Callable[[], Awaitable[R]]) -> R:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(asyncio.wait_for(scenario(), 100_000_000))
