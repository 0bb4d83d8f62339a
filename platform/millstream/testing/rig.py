"""``Rig``: a real worker on a log in memory and a virtual clock, that can be brought to rest, moved in time and killed.

    append ──> settle: run the loop until nothing more can happen at this time
    advance ──> leap to the next stored timer, settle, leap … up to the wanted time

**At rest** is: the lane has nothing queued, under way or on its way out, no alarm rings, and no function executes; seen
so ``QUIET_LOOKS`` times, a turn of the loop apart, since a record that was just appended reaches its reader one turn
later. While user code executes (a thread, a socket) the rig waits in real time, as long as something happens at least
every ``patience_s``.

A crash is a log client that dies and bodies that are dropped in the very turn; what the worker still does comes to
nothing. The next worker restores its lane from the journal, since the log is all that is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from millstream.errors import InternalError, StepsChanged
from millstream.execute.local.executor import LocalExecutor
from millstream.history.trail import ENDED
from millstream.lane.lane import Lane
from millstream.lane.settings import LaneSettings
from millstream.log.memory.log import MemoryCluster, MemoryLog
from millstream.log.port import Produced
from millstream.model.commands import CleanUp
from millstream.model.facts import DispatchParked, Fact
from millstream.model.limits import DAY_MS
from millstream.model.messages import group_topic
from millstream.model.rows import StepRow
from millstream.model.waits.awaited import AwaitedPost
from millstream.sdk.app import App
from millstream.state.memory import MemoryStore
from millstream.telemetry import Telemetry
from millstream.testing.clock import VirtualClock
from millstream.testing.expectations import NotAsExpected
from millstream.testing.record import Record
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker

GROUP: Final = "test"
EVENTS: Final = "events"
PUBLIC_URL: Final = "https://callbacks.test"
QUIET_LOOKS: Final = 5
SPINS_MAX: Final = 300
"""Turns of the loop without anything happening before the rig begins to sleep between looks."""
LOOK_EVERY_S: Final = 0.001
RECORDS_AT_ONE_TIME_MAX: Final = 100_000
LEAPS_PER_ADVANCE_MAX: Final = 100_000
STUCK_LEAPS_MAX: Final = 20
CLEAN_EVERY_MS: Final = 600_000

# Housekeeping is for lanes that live long. What users can see of it, forgetting seen ids, ``advance`` asks for.
_SETTINGS: Final = LaneSettings(housekeeping_ms=36_500 * DAY_MS, clock_off_max_ms=36_500 * DAY_MS, scan_records_per_s=0)


class CrashPoint:
    """A step behind whose record the worker is to die; of one function, or of any where ``function`` is empty."""

    def __init__(self, step: str, function: str) -> None:
        self.step = step
        self.function = function
        self.reached = False


class Rig:
    """One lane of one worker, from ``start`` to ``stop``."""

    def __init__(self, apps: Sequence[App], clock: VirtualClock, patience_s: float) -> None:
        self.clock = clock
        self.crash_points: list[CrashPoint] = []
        self._apps = apps
        self._patience_s = patience_s
        self._cluster = MemoryCluster(now_ms=clock.now_ms)
        self._door = self._cluster.client("door")
        self._telemetry = Telemetry()
        self._log: MemoryLog | None = None
        self._worker: Worker | None = None
        self._watch: asyncio.Future[None] | None = None
        self._crashed = False
        self._changed: DispatchParked | None = None
        self._cleaned_at_ms = clock.now_ms()
        self.record = Record(self._cluster, group_topic(GROUP, "journal"), group_topic(GROUP, "dead-letters"))

    async def start(self) -> None:
        """A worker, live and at rest."""
        self._log = self._cluster.client("worker")
        self._worker = Worker(
            WorkerParts(
                log=self._log,
                group=GROUP,
                lanes=1,
                apps=self._apps,
                make_store=lambda lane: MemoryStore(),
                surroundings=self.clock,
                settings=_SETTINGS,
                telemetry=self._telemetry,
                public_url=PUBLIC_URL,
                on_facts=self._noticed,
            )
        )
        self._watch = asyncio.ensure_future(self._worker.wait())
        await self._worker.start()

    async def stop(self) -> None:
        """Let go of everything at once."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop(grace_s=0)
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch

    async def append(self, which: str, records: Sequence[Produced]) -> None:
        """Put records into the events topic, or another topic of the group, as a door does."""
        topic = EVENTS if which == EVENTS else group_topic(GROUP, which)
        writer = self._door.writer(topic, 0)
        await writer.append(records)
        await writer.close()

    async def catalogue_end(self) -> int:
        """How much of the functions topic a door would have seen."""
        return await self._door.end_offset(group_topic(GROUP, "functions"), 0)

    @property
    def signals_awaited(self) -> list[str]:
        """The names of the signals that steps wait for, at rest."""
        lane = self._lane
        assert lane is not None, "asked at rest"
        return [row.signal for _, row in lane.tables.durable.signals.scan(limit=1 << 60)]

    @property
    def callbacks(self) -> list[StepRow]:
        """The steps of open runs that have made a callback, at rest."""
        lane = self._lane
        assert lane is not None, "asked at rest"
        rows = (row for _, row in lane.tables.durable.steps.scan(limit=1 << 60))
        return [row for row in rows if isinstance(row.awaits, AwaitedPost)]

    # --- rest -------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Return when nothing more can happen at this time.

        Raises NotAsExpected when user code does not end, or one function starts another for ever; StepsChanged when a
        replay did not ask for what is recorded.
        """
        loop = asyncio.get_running_loop()
        first = seen = self.record.end
        quiet = spins = 0
        deadline_s = loop.time() + self._patience_s
        while quiet < QUIET_LOOKS:
            await asyncio.sleep(0 if spins < SPINS_MAX else LOOK_EVERY_S)
            if self._crashed:
                await self._restart()
            quiet = quiet + 1 if self._is_quiescent() else 0
            spins += 1
            if self.record.end != seen:
                seen, spins = self.record.end, 0
                deadline_s = loop.time() + self._patience_s
                if seen - first > RECORDS_AT_ONE_TIME_MAX:
                    raise NotAsExpected(self._endless_records())
            elif not quiet and loop.time() > deadline_s:
                raise NotAsExpected(self._endless_function())
        if self._changed is not None:
            parked, self._changed = self._changed, None
            raise StepsChanged(_changed_text(parked))

    def _is_quiescent(self) -> bool:
        if self._watch is not None and self._watch.done():
            self._watch.result()  # What stopped the lane.
        lane = self._lane
        return lane is not None and lane.live and lane.idle and not self.clock.ringing and not _executor(lane).busy

    @property
    def _lane(self) -> Lane | None:
        return self._worker.lanes.get(0) if self._worker is not None and not self._crashed else None

    def _endless_function(self) -> str:
        lane = self._lane
        under_way = _executor(lane).under_way() if lane is not None else []
        runs = self.record.runs
        named = [
            f"{f'step {step!r}' if step else 'the body, between steps,'} of run {run} ({runs[run].function})"
            for run, step in under_way
        ]
        if not named:
            return f"the lane did not come to rest within {self._patience_s:g} s, though no function executes."
        return (
            f"nothing has happened for {self._patience_s:g} s of real time: {'; '.join(named)} does not end. Virtual "
            "time stands still while a function executes, so it waits for something real. Stub the step "
            "(t.stub(id, result)), sleep with ctx.step.sleep, or allow more: TestApp(app, patience_s=…)."
        )

    def _endless_records(self) -> str:
        runs = [change.function for change in list(self.record.runs.values())[-3:]]
        return (
            f"more than {RECORDS_AT_ONE_TIME_MAX} journal records were written at one virtual time, and it goes on; "
            f"the last runs are of {runs}. Does a function send the event that starts it?"
        )

    # --- time -------------------------------------------------------------------------------------

    async def advance(self, to_ms: int) -> None:
        """Move time on to ``to_ms``; every timer up to then fires at its own time, and what it sets off settles."""
        await self.settle()
        stuck = 0
        for _ in range(LEAPS_PER_ADVANCE_MAX):
            next_ms = self._next_timer_ms()
            if next_ms is None or next_ms > to_ms:
                break
            stuck = stuck + 1 if next_ms <= self.clock.now_ms() else 0
            if stuck > STUCK_LEAPS_MAX:
                raise InternalError(f"the timer of {next_ms} does not fire. Please report this with the test.")
            await self._leap(next_ms)
        else:
            raise NotAsExpected(
                f"more than {LEAPS_PER_ADVANCE_MAX} timers fired in one advance; it is {self.clock.now} now. "
                "Advance in smaller parts, or look for a cron or sleep that fires too often."
            )
        await self._leap(to_ms)

    async def _leap(self, to_ms: int) -> None:
        lane = self._lane
        assert lane is not None, "time moves only at rest"
        if to_ms - self._cleaned_at_ms >= CLEAN_EVERY_MS:
            self._cleaned_at_ms = to_ms
            lane.submit(CleanUp())  # Decided at the new time, before what the timers bring.
        lane.timers.reload()
        self.clock.leap(to_ms)
        await self.settle()

    def _next_timer_ms(self) -> int | None:
        lane = self._lane
        first = lane.tables.durable.timers.scan(limit=1) if lane is not None else []
        return first[0][0][0] if first else None

    # --- crashes ----------------------------------------------------------------------------------

    def crash(self) -> None:
        """The worker dies in this turn of the loop. Another one starts with the next ``settle``."""
        lane = self._lane
        if lane is None or self._log is None:
            return  # It is dead already.
        self._crashed = True
        self._log.crash()
        for run, _ in lane.tables.durable.runs.scan(limit=1 << 60):
            lane.executor.abandon(run)

    async def _restart(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return  # Another task is at it.
        await worker.stop(grace_s=0)
        assert self._watch is not None
        await self._watch
        self._crashed = False
        await self.start()

    def _noticed(self, facts: Sequence[Fact], at_ms: int) -> None:
        for fact in facts:
            if type(fact) is DispatchParked and fact.reason:
                self._changed = self._changed or fact
        for point in self.crash_points:
            if not point.reached and any(self._is_behind(point, fact) for fact in facts):
                point.reached = True
                self.crash()

    def _is_behind(self, point: CrashPoint, fact: Fact) -> bool:
        """Whether the fact is the end of this point's step. What ends a step of which kind, the history says."""
        run, step = getattr(fact, "run", ""), getattr(fact, "step", "")
        if not step or point.function not in ("", self.record.runs[run].function):
            return False
        seen = next((seen for seen in self.record.steps(run) if seen.step == step), None)
        return seen is not None and seen.status in ENDED and point.step in (seen.step, seen.name)


def _changed_text(parked: DispatchParked) -> str:
    reason = parked.reason.partition(". ")[0].partition(": ")[2]
    return (
        f"run {parked.run} of {parked.function} was replayed, and {reason}. On a server it would be parked until its "
        "code fits again. The code of a test does not change, so it does not do the same each time: whatever differs "
        "from one call to the next (the time, a random number, a file, a global) belongs into a step."
    )


def _executor(lane: Lane) -> LocalExecutor:
    executor = lane.executor
    assert isinstance(executor, LocalExecutor)
    return executor
