"""``ChildrenExecutor``: a lane's executor whose functions run in the child processes of a ``Pool``.

    lane ── Execute ──> PlacedRun ── Begin ──> the child that has the run's body, else the one with the least to do
    lane <── Report, ParkDispatch, LoseDispatch ── PlacedRun <── messages of children, or their death

A run stays with one child while its body lives there, so that the living coroutine is used again. A ``PlacedRun`` says
which child that is, which dispatches are under way, and which steps the body waits for. With each dispatch go the rows
of those steps that have changed, read here and now: durable rows, as the port asks for.

The dispatches of a child that dies are lost: no attempt is used, and losses have a maximum of their own (lanes.md rule
24).

Warning: a child that dies takes down every step that ran beside the one that killed it. Each is handed out again, with
a backoff.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from millstream.execute.changed import ChangedDispatches
from millstream.execute.port import RunSource, RunView
from millstream.execute.processes.messages import (
    Begin,
    BodyGone,
    Close,
    Closed,
    Drain,
    Drop,
    ForLane,
    NeedsView,
    Parked,
    Reported,
)
from millstream.execute.processes.pool import ChildProcess, Pool
from millstream.model.commands import HandOut, LoseDispatch, ParkDispatch, Unpark
from millstream.model.effects import CodeWanted, Execute
from millstream.model.operations import BodyDone, BodyErrored
from millstream.model.rows import Hand, StepRow

CLOSE_EXTRA_S: Final = 2.0
"""How much longer than its grace a child may take to say that a lane is closed; a blocked one says nothing."""


class PlacedRun(msgspec.Struct, eq=False):
    """A run with dispatches under way, or a living body, in a child.

    ``child``       where its body lives; None: ``waiting`` waits until there is one.
    ``dispatches``  the number under way for each step; the step is empty for the body.
    ``awaited``     the steps that the body may wait for and has no result of, each with its row as last sent.
    """

    function: str
    child: ChildProcess | None
    dispatches: dict[str, int]
    awaited: dict[str, StepRow | None]
    waiting: list[Execute]


class ChildrenExecutor:
    """Runs functions in the children of ``pool`` for the lane behind ``source``; see ``port.Executor``."""

    def __init__(self, pool: Pool, source: RunSource) -> None:
        self.source = source
        self._pool = pool
        self._runs: dict[str, PlacedRun] = {}
        self._parked: dict[str, list[Execute]] = {}  # By run, for want of a child that has the code.
        self._changed = ChangedDispatches()
        self._loads = pool.loads
        self._closing = self._draining = False
        self._unclosed: set[ChildProcess] = set()
        self._closed = asyncio.Event()
        self._number = pool.join(self)

    def start(self, effect: Execute) -> None:
        """Begin a dispatch; see ``port.Executor``."""
        placed = self._runs.get(effect.run)
        if self._draining:
            self._park(effect)
            return
        if placed is None:
            self._place(effect)
            return
        if placed.dispatches.get(effect.step) == effect.dispatch:
            return
        self._add_dispatch(placed, effect)
        child = placed.child
        if child is None:
            placed.waiting.append(effect)
        else:
            child.send(Begin(self._number, effect, None, self._changed_rows(effect.run, placed)))

    def abandon(self, run: str) -> None:
        """Stop what executes for a run; see ``port.Executor``."""
        self._parked.pop(run, None)
        self._changed.forget(run)
        placed = self._runs.get(run)
        if placed is not None:
            if placed.child is not None:
                placed.child.send(Drop(self._number, run))
            self._forget(run, placed)

    def holds(self, run: str, step: str, dispatch: int) -> bool:
        """Whether a dispatch is under way; see ``port.Executor``."""
        placed = self._runs.get(run)
        return placed is not None and placed.dispatches.get(step) == dispatch

    def knows(self, function: str) -> bool:
        """Whether there is code for this function, and the executor is not about to close."""
        return not (self._closing or self._draining) and self._pool.knows(function)

    def takes_up(self, wanted: CodeWanted) -> bool:
        """Whether to hand out a parked dispatch again; see ``port.Executor``."""
        return self.knows(wanted.function) and not self._changed.holds(wanted)

    @property
    def full(self) -> bool:
        """Whether every child has as many runs as it may have."""
        return self._pool.full

    def under_way(self) -> list[tuple[str, str]]:
        """The dispatches under way, as (run, step); the step is empty where it is the handler itself."""
        return [(run, step) for run, placed in self._runs.items() for step in placed.dispatches]

    @property
    def executing(self) -> int:
        """The number of dispatches under way."""
        return sum(len(placed.dispatches) for placed in self._runs.values())

    def drain(self) -> None:
        """Begin nothing more; children give back what runs no code, a moment later. See ``port.Executor``."""
        self._draining = True
        for child in self._pool.up:
            child.send(Drain(self._number))
        for run, placed in tuple(self._runs.items()):
            if placed.child is None:
                self._give_back(run, placed)

    def dispatches(self) -> tuple[HandOut, ...]:
        """What is under way; see ``port.Executor``."""
        return tuple(HandOut(run, *each) for run, placed in self._runs.items() for each in placed.dispatches.items())

    async def close(self, grace_s: float) -> None:
        """Let running steps end and be reported; give back what is left; see ``port.Executor``."""
        if not self._closing:
            self._closing = True
            self._unclosed = set(self._pool.up)
            for child in self._unclosed:
                child.send(Close(self._number, grace_s))
            for run, placed in tuple(self._runs.items()):
                if placed.child is None:
                    self._give_back(run, placed)
        self._check_closed()
        try:
            async with asyncio.timeout(grace_s + CLOSE_EXTRA_S):
                await self._closed.wait()
        except TimeoutError:
            pass  # A child whose loop is blocked. What it sends from here on is ignored.
        for run, placed in tuple(self._runs.items()):
            self._give_back(run, placed)
        self._closed.set()
        self._pool.leave(self._number)

    # --- what the pool calls (``pool.PoolClient``) ----------------------------------------------------------

    def on_message(self, child: ChildProcess, message: ForLane) -> None:
        """A child has sent this about a run, or that the lane is closed there."""
        match message:
            case Closed():
                self._unclosed.discard(child)
                self._check_closed()
            case Reported(report=report):
                placed = self._runs.get(report.run)
                if placed is None or placed.child is not child:
                    return  # Abandoned meanwhile.
                self._remove_dispatch(placed, report.step, report.dispatch)
                for operation in report.operations:
                    if not isinstance(operation, BodyDone | BodyErrored):
                        placed.awaited.setdefault(operation.step, None)
                self.source.report(report)
            case Parked(park=park):
                placed = self._runs.get(park.run)
                if placed is not None and placed.child is child:
                    self._remove_dispatch(placed, park.step, park.dispatch)
                    self._changed.note(park)
                    self.source.park(park)
            case NeedsView(effect=effect):
                self._send_view_again(child, effect)
            case BodyGone(run=run):
                placed = self._runs.get(run)
                if placed is not None and placed.child is child and not placed.dispatches:
                    self._forget(run, placed)

    def on_death(self, child: ChildProcess) -> None:
        """A child has died: its dispatches are lost."""
        for run, placed in tuple(self._runs.items()):
            if placed.child is child:
                for step, dispatch in placed.dispatches.items():
                    self.source.lose(LoseDispatch(run, step, dispatch))
                self._forget(run, placed)
        self._unclosed.discard(child)
        self._check_closed()

    def on_change(self) -> None:
        """Children came or went: begin the dispatches that waited for one, or park them where no code can be loaded.

        One that came has loaded the code as it is now: what the code had changed for is tried again.
        """
        if self._closing or self._draining:
            return
        if self._loads != self._pool.loads:
            self._loads = self._pool.loads
            for unpark in self._changed.take_all():
                self.source.unpark(unpark)
        waiting = [(run, placed) for run, placed in self._runs.items() if placed.child is None]
        for run, placed in waiting:
            self._forget(run, placed)
            for effect in placed.waiting:
                if placed.dispatches.get(effect.step) == effect.dispatch:  # Else a newer one waits behind it.
                    self.start(effect)
        for run, effects in tuple(self._parked.items()):
            if self._pool.least_busy(effects[0].function) is not None:
                del self._parked[run]
                for effect in effects:
                    self.source.unpark(Unpark(run, effect.step, effect.dispatch))

    def step_time_ms(self, child: ChildProcess) -> int:
        """The time that the dispatches under way in a child may take, one attempt after another."""
        here = [placed for placed in self._runs.values() if placed.child is child]
        return sum(child.functions.get(placed.function, 0) * len(placed.dispatches) for placed in here)

    # --- placed runs ------------------------------------------------------------------------------------

    def _place(self, effect: Execute) -> None:
        """Begin the first dispatch of a run that has no body anywhere: choose its child."""
        view = self.source.view(effect.run)
        if view is None:
            return  # The run has ended meanwhile.
        child = self._pool.least_busy(effect.function) if not self._closing else None
        if child is None and not self.knows(effect.function):
            self._park(effect)
            return
        placed = self._runs[effect.run] = PlacedRun(effect.function, child, {}, {}, [])
        if child is None:
            self._add_dispatch(placed, effect)
            placed.waiting.append(effect)
            return
        child.runs += 1
        self._add_dispatch(placed, effect)
        self._send_view(child, placed, effect, view)

    def _send_view_again(self, child: ChildProcess, effect: Execute) -> None:
        """The body was parked when the dispatch arrived: send the whole view."""
        placed = self._runs.get(effect.run)
        if placed is None or placed.child is not child or placed.dispatches.get(effect.step) != effect.dispatch:
            return
        view = self.source.view(effect.run)
        if view is None:  # The run is over, or the lane has gone to another worker and shows nothing any more.
            self._remove_dispatch(placed, effect.step, effect.dispatch)
            self.source.park(ParkDispatch(effect.run, effect.step, effect.dispatch, given_back=True))
        else:
            self._send_view(child, placed, effect, view)

    def _send_view(self, child: ChildProcess, placed: PlacedRun, effect: Execute, view: RunView) -> None:
        placed.awaited = {row.step: row for row in view.steps if not _resolved(row)}
        child.send(Begin(self._number, effect, view))

    def _changed_rows(self, run: str, placed: PlacedRun) -> tuple[StepRow, ...]:
        rows = []
        for step, sent in tuple(placed.awaited.items()):
            row = self.source.step(run, step)
            if row is None or row is sent or row == sent:
                continue
            rows.append(row)
            if _resolved(row):
                del placed.awaited[step]
            else:
                placed.awaited[step] = row
        return tuple(rows)

    def _add_dispatch(self, placed: PlacedRun, effect: Execute) -> None:
        if effect.step not in placed.dispatches and placed.child is not None:
            placed.child.dispatches += 1
        placed.dispatches[effect.step] = effect.dispatch

    def _remove_dispatch(self, placed: PlacedRun, step: str, dispatch: int) -> None:
        if placed.dispatches.get(step) == dispatch:
            del placed.dispatches[step]
            if placed.child is not None:
                placed.child.dispatches -= 1

    def _forget(self, run: str, placed: PlacedRun) -> None:
        del self._runs[run]
        if placed.child is not None:
            placed.child.runs -= 1
            placed.child.dispatches -= len(placed.dispatches)

    def _park(self, effect: Execute) -> None:
        closing = self._closing or self._draining
        self.source.park(ParkDispatch(effect.run, effect.step, effect.dispatch, given_back=closing))
        if not closing:
            self._parked.setdefault(effect.run, []).append(effect)

    def _give_back(self, run: str, placed: PlacedRun) -> None:
        for step, dispatch in placed.dispatches.items():
            self.source.park(ParkDispatch(run, step, dispatch, given_back=True))
        self._forget(run, placed)

    def _check_closed(self) -> None:
        if self._closing and not self._unclosed:
            self._closed.set()


def executors_of(pool: Pool) -> Callable[[RunSource], ChildrenExecutor]:
    """A function that makes each lane's executor in a worker with this pool (``WorkerParts.make_executor``)."""
    return lambda source: ChildrenExecutor(pool, source)


def _resolved(row: StepRow) -> bool:
    return row.hand == Hand.DONE or row.hand == Hand.FAILED
