"""``QuiescenceCheck``: whether everything in a body waits for the engine, so that its dispatch can be answered.

A body dispatch is answered once, so the answer must not go out while the body may still find another step. Python does
not say what a task waits for; but each of the usual ways leaves a trace, followed here from the body's own task:

    a step's future             ours
    a task, gather's children   looked into, one after another
    asyncio.shield              the callback of its future holds the task behind it
    TaskGroup, asyncio.wait,    a bare future; the frame that awaits it holds the tasks
      wait_for (3.11)
    Event, Lock, Queue, …       another task of the same body will wake it: does not count
    anything else               **foreign**: a socket, a timer, a thread; the body does something of its own

A task that waits for nothing is about to run: *busy*, check again next turn. For what is foreign the answer is delayed
until the awaited future is done, at most ``ANSWER_DELAY_MAX_S``. Background tasks that are not awaited are not seen. A
step found after the answer is reported by itself: a wrong guess costs a report, never a result.
"""

from __future__ import annotations

import asyncio
import asyncio.locks
import asyncio.queues
import asyncio.tasks
from collections.abc import Callable, Collection, Iterable
from types import CodeType
from typing import Final, cast

AnyFuture = asyncio.Future[object]

ANSWER_DELAY_MAX_S: Final = 1.0
"""How long an answer waits for something foreign, and found steps for the end of a step that runs inline."""

_WAIT: Final[CodeType] = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]
_WAIT_FOR: Final = asyncio.wait_for.__code__
_GROUP_EXIT: Final = asyncio.TaskGroup.__aexit__.__code__
_SHIELD_CALLBACKS: Final = frozenset(
    code for code in asyncio.shield.__code__.co_consts if isinstance(code, CodeType) and "outer" in code.co_name
)
_WITHIN: Final = frozenset({asyncio.locks.__file__, asyncio.queues.__file__})
_DEPTH_MAX: Final = 200


class QuiescenceCheck:
    """One check of a body. ``busy``: a task is about to run; ``foreign``: the futures it waits for that are not ours.

    Quiescent is a body that is neither.
    """

    __slots__ = ("_executing", "_followed", "_ours", "busy", "foreign")

    def __init__(self, ours: Collection[object], executing: Collection[object]) -> None:
        """``ours``: the futures steps wait on; ``executing``: tasks inside a step's own code."""
        self._ours = ours
        self._executing = executing
        self._followed: set[object] = set()
        self.busy = False
        self.foreign: list[AnyFuture] = []

    @property
    def tasks(self) -> Collection[object]:
        """The body's own task and those it waits for."""
        return self._followed

    def follow(self, task: asyncio.Task[object], depth: int = 0) -> None:
        """Follow what a task waits for, and what that waits for."""
        if task.done() or task in self._executing or task in self._followed or depth > _DEPTH_MAX:
            return
        self._followed.add(task)
        waiter = cast("AnyFuture | None", getattr(task, "_fut_waiter", None))
        if waiter is None or waiter.done():
            self.busy = True
        elif waiter not in self._ours:
            self._future(waiter, task, depth)

    def _future(self, waiter: AnyFuture, task: asyncio.Task[object], depth: int) -> None:
        if isinstance(waiter, asyncio.Task):
            self.follow(waiter, depth + 1)
            return
        children = getattr(waiter, "_children", None)
        if children is None:
            children = _shielded(waiter) or _awaited_within(task)
        if children is None:
            self.foreign.append(waiter)
            return
        self._all(children, depth)

    def _all(self, parts: Iterable[object], depth: int) -> None:
        for part in parts:
            if isinstance(part, asyncio.Task):
                self.follow(part, depth + 1)
            elif isinstance(part, asyncio.Future) and part not in self._ours and not part.done():
                children = getattr(part, "_children", None) or _shielded(part)
                if children is None:
                    self.foreign.append(part)
                else:
                    self._all(children, depth + 1)


class AnswerDelay:
    """Why and since when a body's answer is delayed: the foreign futures it waits for; −1: it is not delayed."""

    __slots__ = ("_loop", "foreign", "since_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.foreign: set[object] = set()
        self.since_s = -1.0

    def watch(self, foreign: Iterable[AnyFuture], again: Callable[[], None]) -> None:
        """Wait for these; ``again`` is called whenever one of them is done.

        ``again`` is not kept: it is the body's, and a body in a cycle outlives its run until the collector comes.
        """

        def done(future: AnyFuture) -> None:
            self.foreign.discard(future)
            again()

        for future in foreign:
            if future not in self.foreign:
                self.foreign.add(future)
                future.add_done_callback(done)

    def begin(self) -> None:
        """The answer is delayed from now on, if it is not yet."""
        if self.since_s < 0:
            self.since_s = self._loop.time()

    @property
    def over(self) -> bool:
        """Whether the answer was delayed for long enough."""
        return self.since_s >= 0 and self._loop.time() - self.since_s >= ANSWER_DELAY_MAX_S

    def end(self) -> None:
        """The answer is not delayed any more."""
        self.since_s = -1.0


def _shielded(outer: AnyFuture) -> Iterable[object] | None:
    """What ``asyncio.shield`` shields behind this future; None: it is no such future.

    The future knows nothing of it; but the callback with which it would let go of it does.
    """
    for callback, _ in getattr(outer, "_callbacks", None) or ():
        code = getattr(callback, "__code__", None)
        if code in _SHIELD_CALLBACKS:
            return [cell.cell_contents for cell in callback.__closure__ if cell.cell_contents is not outer]
    return None


def _awaited_within(task: asyncio.Task[object]) -> Iterable[object] | None:
    """What the innermost coroutine of a task waits for, where it is one of asyncio's own; None: foreign."""
    innermost: object = task.get_coro()
    while getattr(awaited := getattr(innermost, "cr_await", None), "cr_frame", None) is not None:
        innermost = awaited
    frame = getattr(innermost, "cr_frame", None)
    if frame is None:
        return None
    code = frame.f_code
    if code is _WAIT:
        return cast("Iterable[object]", tuple(frame.f_locals["fs"]))
    if code is _GROUP_EXIT:
        return cast("Iterable[object]", tuple(frame.f_locals["self"]._tasks))
    if code is _WAIT_FOR and "fut" in frame.f_locals:
        return (frame.f_locals["fut"],)
    if code.co_filename in _WITHIN:
        return ()
    return None
