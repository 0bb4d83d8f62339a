"""An event loop whose time is virtual, and processes on it that can be killed between any two of their callbacks.

Nothing waits: when no callback is ready, the clock jumps to the next timer. No threads, no I/O, no chance: the same
program takes the same turns every time (tasks hash by number, so that even sets of them have one order).

A **process** is a context: everything started inside ``process.run`` and by what it starts belongs to it, because
asyncio hands the context on to tasks and callbacks. A dead process's callbacks are simply not run any more: no
``finally``, no cancellation, exactly as after ``kill -9``.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

TURNS_MAX = 1_000_000
"""A world takes some thousands; one that takes this many runs in a circle."""
_CLOSE_TRIES = 20


class Killed(BaseException):
    """Unwinds the callback in whose midst a process was killed; nobody sees it."""


class Process:
    """Something that can be killed. ``fuse`` counts its callbacks down; at 0 it dies before the next one."""

    def __init__(self, name: str, on_death: Callable[[str], None]) -> None:
        self.name = name
        self.dead = False
        self.fuse = -1
        self.action_fuse = -1
        self._held: list[Handle] | None = None
        self._on_death = on_death
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def kill(self, how: str) -> None:
        """It is gone, from this very moment."""
        if not self.dead:
            self.dead = True
            self._on_death(how)

    def freeze(self) -> None:
        """As after SIGSTOP: what becomes due is not run. The world goes on."""
        self._held = []

    def thaw(self, loop: SimLoop) -> None:
        """As after SIGCONT: it goes on where it was, and knows nothing of the time between."""
        held, self._held = self._held, None
        loop.run_late(held or [])

    def may_run(self, handle: Handle) -> bool:
        """Whether a callback of it runs now."""
        if self.dead:
            return False
        if self._held is not None:
            self._held.append(handle)
            return False
        if self.fuse > 0:
            self.fuse -= 1
            if self.fuse == 0:
                self.kill("between two callbacks")
                return False
        return True

    def act(self) -> None:
        """Something that the world sees is about to be done: maybe it never is."""
        if self.dead:
            raise Killed
        if self.action_fuse > 0:
            self.action_fuse -= 1
            if self.action_fuse == 0:
                self.kill("in an action")
                raise Killed


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("sim_process", default=None)


class Handle:
    """A callback of a process; the loop's ``asyncio.Handle`` and ``TimerHandle``, without what a real loop needs."""

    __slots__ = ("args", "callback", "cancelled_", "context", "when_s")

    def __init__(
        self, callback: Any, args: tuple[Any, ...], context: contextvars.Context | None, when_s: float
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = contextvars.copy_context() if context is None else context
        self.when_s = when_s
        self.cancelled_ = False

    def cancel(self) -> None:
        self.cancelled_ = True
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.cancelled_

    def when(self) -> float:
        return self.when_s


class SimTask(asyncio.Task[Any]):
    """A task that hashes by its number: sets of tasks have the same order in every run."""

    numbers = 0

    def __init__(self, coro: Any, *, loop: SimLoop, name: Any, context: Any) -> None:
        SimTask.numbers += 1
        self.number = SimTask.numbers
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.number

    def discard(self) -> None:
        """Nobody is told that it never ended."""
        self._log_destroy_pending = False


class SimFuture(asyncio.Future[Any]):
    """A future that knows whose it is: it may be thrown away in the turn of another process."""

    def __init__(self, *, loop: SimLoop) -> None:
        self.process = PROCESS.get()
        super().__init__(loop=loop)


class SimLoop(asyncio.BaseEventLoop):
    """The loop. ``now_s`` is its clock, from 0.

    ``BaseEventLoop``'s own turn is not used: it is made for sockets and costs as much as what it runs here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._due: deque[Handle] = deque()
        self._timers: list[tuple[float, int, int, Handle]] = []
        self._numbers = 0
        self._turns = 0
        self.tasks: list[SimTask] = []
        self.complaints: list[tuple[Process | None, dict[str, Any]]] = []
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        return self.now_s

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args, context, 0.0)
        self._due.append(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args, context, when)
        self._numbers += 1
        # Timers of one instant fire in any order, but always in the same.
        mixed = self._numbers * 0x9E3779B1 & 0xFFFFF
        heapq.heappush(self._timers, (when, mixed, self._numbers, handle))
        return handle

    def run_late(self, handles: list[Handle]) -> None:
        """What was due while its process stood still."""
        self._due.extend(handles)

    def _run_once(self) -> None:
        """One turn: everything that is due, and of what that makes due nothing yet."""
        due, timers = self._due, self._timers
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise RuntimeError(f"the simulated world took {TURNS_MAX} turns up to {self.now_s:.1f} s and is not over")
        if not due:
            while timers and timers[0][3].cancelled_:
                heapq.heappop(timers)
            if not timers:
                raise RuntimeError("the simulated world stands still: nothing is ready and no timer is set")
            self.now_s = max(self.now_s, timers[0][0])
        while timers and timers[0][0] <= self.now_s:
            due.append(heapq.heappop(timers)[3])
        for _ in range(len(due)):
            handle = due.popleft()
            if handle.cancelled_:
                continue
            process = handle.context.get(PROCESS)
            if process is None or process.may_run(handle):
                try:
                    handle.context.run(handle.callback, *handle.args)
                except BaseException as error:
                    self._complain(self, {"message": f"exception in {handle.callback}", "exception": error})

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        task = SimTask(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        if len(self.tasks) > 5_000:
            self.tasks = [one for one in self.tasks if not one.done()]
        return task

    def create_future(self) -> SimFuture:
        return SimFuture(loop=self)

    def _complain(self, loop: Any, what: dict[str, Any]) -> None:
        future = what.get("future")
        self.complaints.append((future.process if isinstance(future, SimFuture) else PROCESS.get(), what))

    def discard(self) -> None:
        """The world ends: throw every coroutine away without a sound, then close."""
        self.set_exception_handler(lambda loop, what: None)
        for task in self.tasks:
            if not task.done():
                task.discard()
                _close(task.get_coro())
            elif not task.cancelled():
                task.exception()
        self.tasks.clear()
        self._due.clear()
        self._timers.clear()
        self.close()


def _close(coro: Any) -> None:
    for _ in range(_CLOSE_TRIES):
        try:
            coro.close()
            return
        except BaseException:
            continue


def run(main: Callable[[SimLoop], Coroutine[Any, Any, None]]) -> None:
    """Run a world to its end on a loop of its own."""
    loop = SimLoop()
    SimTask.numbers = 0
    asyncio.set_event_loop(loop)
    everybody = asyncio.tasks._all_tasks  # type: ignore[attr-defined]
    everybody.add = _nobody  # ``all_tasks`` is not asked here, and its weak set costs as much as a turn of the loop.
    try:
        loop.run_until_complete(main(loop))
    finally:
        del everybody.add
        loop.discard()
        asyncio.set_event_loop(None)


def _nobody(task: asyncio.Task[Any]) -> None:
    pass
