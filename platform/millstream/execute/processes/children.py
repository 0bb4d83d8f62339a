"""``ChildrenExecutor``: a lane's executor whose functions run in the child processes of a ``Pool``.

    lane ── Execute ──> books ── Begin ──> the child that has the run's body, else the one with the least to do
    lane <── Report, ParkDispatch, LoseDispatch ── books <── what children say, or their death

A run stays with one child while its body lives there, so that the living coroutine is used again. The books say, for
each run: which child, which dispatches are under way, and which steps the body waits for. With each dispatch go the
rows of those steps that have changed, read here and now: durable rows, as the port asks for.

What a dead child held is lost: no attempt is used, and it has its own maximum (lanes.md rule 24).

Warning: a child that dies takes down whatever ran beside its killer. Each of them is handed out again, with a backoff.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from millstream.execute.port import RunSource, RunView
from millstream.execute.processes.messages import Begin, Close, Closed, Done, Drain, Drop, GivenBack, Left, Wanted
from millstream.execute.processes.pool import ChildProcess, Pool
from millstream.model.commands import HandOut, LoseDispatch, ParkDispatch, Unpark
from millstream.model.effects import Execute
from millstream.model.operations import BodyDone, BodyErrored
from millstream.model.rows import Hand, StepRow

CLOSE_EXTRA_S: Final = 2.0
"""How much longer than its grace a child may take to say that a lane is closed; a blocked one says nothing."""


class Held(msgspec.Struct, eq=False):
    """A run in the books.

    ``child``    where its body lives; None: ``waiting`` waits until there is one.
    ``out``      the dispatch under way for each step; the step is empty for the body.
    ``awaited``  the steps that the body may wait for and has no result of, each with its row as last sent.
    """

    function: str
    child: ChildProcess | None
    out: dict[str, int]
    awaited: dict[str, StepRow | None]
    waiting: list[Execute]


class ChildrenExecutor:
    """Runs functions in the children of ``pool`` for the lane behind ``source``; see ``port.Executor``."""

    def __init__(self, pool: Pool, source: RunSource) -> None:
        self.source = source
        self._pool = pool
        self._runs: dict[str, Held] = {}
        self._parked: dict[str, list[Execute]] = {}  # By run, for want of a child that has the code.
        self._closing = self._draining = False
        self._unclosed: set[ChildProcess] = set()
        self._closed = asyncio.Event()
        self._number = pool.join(self)

    def start(self, effect: Execute) -> None:
        """Begin a dispatch; see ``port.Executor``."""
        held = self._runs.get(effect.run)
        if self._draining:
            self._park(effect)
            return
        if held is None:
            self._enter(effect)
            return
        if held.out.get(effect.step) == effect.dispatch:
            return
        self._out(held, effect)
        child = held.child
        if child is None:
            held.waiting.append(effect)
        else:
            child.send(Begin(self._number, effect, None, self._changed_rows(effect.run, held)))

    def abandon(self, run: str) -> None:
        """Stop what executes for a run; see ``port.Executor``."""
        self._parked.pop(run, None)
        held = self._runs.get(run)
        if held is not None:
            if held.child is not None:
                held.child.send(Drop(self._number, run))
            self._forget(run, held)

    def holds(self, run: str, step: str, dispatch: int) -> bool:
        """Whether a dispatch is under way; see ``port.Executor``."""
        held = self._runs.get(run)
        return held is not None and held.out.get(step) == dispatch

    def knows(self, function: str) -> bool:
        """Whether there is code for this function, and time to run it."""
        return not (self._closing or self._draining) and self._pool.knows(function)

    @property
    def full(self) -> bool:
        """Whether every child has as much as it may have."""
        return self._pool.full

    def under_way(self) -> list[tuple[str, str]]:
        """What executes, as (run, step); the step is empty where it is the handler itself."""
        return [(run, step) for run, held in self._runs.items() for step in held.out]

    @property
    def executing(self) -> int:
        """How many dispatches are under way."""
        return sum(len(held.out) for held in self._runs.values())

    def drain(self) -> None:
        """Begin nothing more; children give back what runs no code, a moment later. See ``port.Executor``."""
        self._draining = True
        for child in self._pool.up:
            child.send(Drain(self._number))
        for run, held in tuple(self._runs.items()):
            if held.child is None:
                self._give_back(run, held)

    def dispatches(self) -> tuple[HandOut, ...]:
        """What is under way; see ``port.Executor``."""
        return tuple(HandOut(run, *out) for run, held in self._runs.items() for out in held.out.items())

    async def close(self, grace_s: float) -> None:
        """Let running steps end and be reported; give back what is left; see ``port.Executor``."""
        if not self._closing:
            self._closing = True
            self._unclosed = set(self._pool.up)
            for child in self._unclosed:
                child.send(Close(self._number, grace_s))
            for run, held in tuple(self._runs.items()):
                if held.child is None:
                    self._give_back(run, held)
        self._tell_closed()
        try:
            async with asyncio.timeout(grace_s + CLOSE_EXTRA_S):
                await self._closed.wait()
        except TimeoutError:
            pass  # A child whose loop is blocked. What it does from here on is not listened to.
        for run, held in tuple(self._runs.items()):
            self._give_back(run, held)
        self._closed.set()
        self._pool.leave(self._number)

    # --- what the pool tells (``pool.Face``) ----------------------------------------------------------

    def heard(self, child: ChildProcess, message: Done | GivenBack | Wanted | Left | Closed) -> None:
        """A child says something."""
        match message:
            case Closed():
                self._unclosed.discard(child)
                self._tell_closed()
            case Done(report=report):
                held = self._runs.get(report.run)
                if held is None or held.child is not child:
                    return  # Abandoned meanwhile.
                self._in(held, report.step, report.dispatch)
                for operation in report.operations:
                    if not isinstance(operation, BodyDone | BodyErrored):
                        held.awaited.setdefault(operation.step, None)
                self.source.report(report)
            case GivenBack(park=park):
                held = self._runs.get(park.run)
                if held is not None and held.child is child:
                    self._in(held, park.step, park.dispatch)
                    self.source.park(park)
            case Wanted(effect=effect):
                self._begin_anew(child, effect)
            case Left(run=run):
                held = self._runs.get(run)
                if held is not None and held.child is child and not held.out:
                    self._forget(run, held)

    def lost(self, child: ChildProcess) -> None:
        """A child has died, and with it whatever was under way in it."""
        for run, held in tuple(self._runs.items()):
            if held.child is child:
                for step, dispatch in held.out.items():
                    self.source.lose(LoseDispatch(run, step, dispatch))
                self._forget(run, held)
        self._unclosed.discard(child)
        self._tell_closed()

    def changed(self) -> None:
        """Children came or went: carry on with what waited for one, or park it where the code cannot be loaded."""
        if self._closing or self._draining:
            return
        waiting = [(run, held) for run, held in self._runs.items() if held.child is None]
        for run, held in waiting:
            self._forget(run, held)
            for effect in held.waiting:
                if held.out.get(effect.step) == effect.dispatch:  # Else a newer one waits behind it.
                    self.start(effect)
        for run, effects in tuple(self._parked.items()):
            if self._pool.least_busy(effects[0].function) is not None:
                del self._parked[run]
                for effect in effects:
                    self.source.unpark(Unpark(run, effect.step, effect.dispatch))

    def time_of(self, child: ChildProcess) -> int:
        """Milliseconds that what is under way in a child may take, one attempt after another."""
        here = [held for held in self._runs.values() if held.child is child]
        return sum(child.functions.get(held.function, 0) * len(held.out) for held in here)

    # --- the books ------------------------------------------------------------------------------------

    def _enter(self, effect: Execute) -> None:
        """The first dispatch of a run that has no body anywhere."""
        view = self.source.view(effect.run)
        if view is None:
            return  # The run has ended meanwhile.
        child = self._pool.least_busy(effect.function) if not self._closing else None
        if child is None and not self.knows(effect.function):
            self._park(effect)
            return
        held = self._runs[effect.run] = Held(effect.function, child, {}, {}, [])
        if child is None:
            self._out(held, effect)
            held.waiting.append(effect)
            return
        child.runs += 1
        self._out(held, effect)
        self._send_view(child, held, effect, view)

    def _begin_anew(self, child: ChildProcess, effect: Execute) -> None:
        """The body was parked when the dispatch arrived: send it all."""
        held = self._runs.get(effect.run)
        if held is None or held.child is not child or held.out.get(effect.step) != effect.dispatch:
            return
        view = self.source.view(effect.run)
        if view is None:  # Over, or nothing is shown any more, because the lane was let go.
            self._in(held, effect.step, effect.dispatch)
            self.source.park(ParkDispatch(effect.run, effect.step, effect.dispatch))
        else:
            self._send_view(child, held, effect, view)

    def _send_view(self, child: ChildProcess, held: Held, effect: Execute, view: RunView) -> None:
        held.awaited = {row.step: row for row in view.steps if not _resolved(row)}
        child.send(Begin(self._number, effect, view))

    def _changed_rows(self, run: str, held: Held) -> tuple[StepRow, ...]:
        rows = []
        for step, sent in tuple(held.awaited.items()):
            row = self.source.step(run, step)
            if row is None or row is sent or row == sent:
                continue
            rows.append(row)
            if _resolved(row):
                del held.awaited[step]
            else:
                held.awaited[step] = row
        return tuple(rows)

    def _out(self, held: Held, effect: Execute) -> None:
        if effect.step not in held.out and held.child is not None:
            held.child.dispatches += 1
        held.out[effect.step] = effect.dispatch

    def _in(self, held: Held, step: str, dispatch: int) -> None:
        if held.out.get(step) == dispatch:
            del held.out[step]
            if held.child is not None:
                held.child.dispatches -= 1

    def _forget(self, run: str, held: Held) -> None:
        del self._runs[run]
        if held.child is not None:
            held.child.runs -= 1
            held.child.dispatches -= len(held.out)

    def _park(self, effect: Execute) -> None:
        self.source.park(ParkDispatch(effect.run, effect.step, effect.dispatch))
        if not (self._closing or self._draining):
            self._parked.setdefault(effect.run, []).append(effect)

    def _give_back(self, run: str, held: Held) -> None:
        for step, dispatch in held.out.items():
            self.source.park(ParkDispatch(run, step, dispatch))
        self._forget(run, held)

    def _tell_closed(self) -> None:
        if self._closing and not self._unclosed:
            self._closed.set()


def executors_of(pool: Pool) -> Callable[[RunSource], ChildrenExecutor]:
    """What makes each lane's executor in a worker with this pool (``WorkerParts.make_executor``)."""
    return lambda source: ChildrenExecutor(pool, source)


def _resolved(row: StepRow) -> bool:
    return row.hand == Hand.DONE or row.hand == Hand.FAILED
