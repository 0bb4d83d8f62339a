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
from collections.abc import Callable, Coroutine
from typing import Any

TURNS_MAX = 2_000_000
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
        self._on_death = on_death
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def kill(self, how: str) -> None:
        """It is gone, from this very moment."""
        if not self.dead:
            self.dead = True
            self._on_death(how)

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


class _Handle(asyncio.Handle):
    __slots__ = ()

    def _run(self) -> None:
        if _may_run(self._context):
            super()._run()


class _Timer(asyncio.TimerHandle):
    __slots__ = ()

    def _run(self) -> None:
        if _may_run(self._context):
            super()._run()


def _may_run(context: contextvars.Context) -> bool:
    process = context.get(PROCESS)
    if process is None:
        return True
    if process.dead:
        return False
    if process.fuse > 0:
        process.fuse -= 1
        if process.fuse == 0:
            process.kill("between two callbacks")
            return False
    return True


class SimTask(asyncio.Task[Any]):
    """A task that hashes by its number: sets of tasks have the same order in every run."""

    numbers = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        SimTask.numbers += 1
        self.number = SimTask.numbers
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self.number


class _Selector:
    """Waiting is moving the clock."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("the simulated world stands still: nothing is ready and no timer is set")
        self._loop.now_s += timeout
        return []

    def close(self) -> None:
        pass


class SimLoop(asyncio.BaseEventLoop):
    """The loop. ``now_s`` is its clock, from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._selector = _Selector(self)
        self._clock_resolution = 1e-6
        self.tasks: list[asyncio.Task[Any]] = []
        self.complaints: list[tuple[Process | None, dict[str, Any]]] = []
        self.set_exception_handler(self._complain)
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self.now_s

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True
        return timer

    def _make_task(self, loop: Any, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task = SimTask(coro, loop=loop, **kwargs)
        self.tasks.append(task)
        if len(self.tasks) > 5_000:
            self.tasks = [one for one in self.tasks if not one.done()]
        return task

    def _complain(self, loop: Any, what: dict[str, Any]) -> None:
        self.complaints.append((PROCESS.get(), what))

    def discard(self) -> None:
        """The world ends: throw every coroutine away without a sound, then close."""
        self.set_exception_handler(lambda loop, what: None)
        for task in self.tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(task.get_coro())
            elif not task.cancelled():
                task.exception()
        self.tasks.clear()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
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
    try:
        loop.run_until_complete(main(loop))
    finally:
        loop.discard()
        asyncio.set_event_loop(None)
