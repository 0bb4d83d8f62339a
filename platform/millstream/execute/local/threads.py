"""``Threads``: a bounded pool of threads for plain functions, which gives up threads that never return.

``concurrent.futures`` joins its threads when the interpreter ends and counts a stuck one for ever; a user's function
that never returns must do neither. Threads here are daemons, started when needed and ended when idle.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

LOST_MAX: Final = 64
"""Threads that may be stuck besides those of the pool; past that, stuck ones take up its places."""


class Unwound(BaseException):
    """Raised inside a plain handler whose run was parked or is over: let it pass, so that its thread ends."""


class Job:
    """A call on its way through the pool. ``done`` gives its result on the loop."""

    __slots__ = ("call", "context", "done", "lost", "started")

    def __init__(self, call: Callable[[], object], done: asyncio.Future[object]) -> None:
        self.call = call
        self.context = contextvars.copy_context()
        self.done = done
        self.started = False
        self.lost = False


class Threads:
    """At most ``size`` calls at a time; more wait in a queue."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._lock = threading.Lock()
        self._wanted = threading.Condition(self._lock)
        self._queue: deque[Job] = deque()
        self._idle = 0
        self._count = 0
        self._lost = 0
        self._closed = False

    @property
    def crowded(self) -> bool:
        """Whether calls wait for a thread."""
        return bool(self._queue)

    async def run(self, call: Callable[[], object]) -> object:
        """The call's result. When the awaiting task is cancelled the thread is released, and its result ignored."""
        loop = asyncio.get_running_loop()
        job = Job(call, loop.create_future())
        with self._lock:
            self._queue.append(job)
            if len(self._queue) > self._idle and self._count < self._size:
                self._start()
            else:
                self._wanted.notify()
        try:
            return await job.done
        finally:
            if not job.done.done() or job.done.cancelled():
                self._release_thread(job)

    def close(self) -> None:
        """Idle threads end; busy ones end with their call."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            self._wanted.notify_all()

    def _start(self) -> None:
        self._count += 1
        threading.Thread(target=self._work, name=f"millstream-{self._name}", daemon=True).start()

    def _release_thread(self, job: Job) -> None:
        """Its result is not awaited any more: another thread takes its place in the pool."""
        with self._lock:
            if not job.started:
                if job in self._queue:
                    self._queue.remove(job)
                return
            if self._lost < LOST_MAX and not job.lost:
                job.lost = True
                self._lost += 1
                self._count -= 1
                if self._queue:
                    self._start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
                while not self._queue and not self._closed:
                    self._wanted.wait()
                self._idle -= 1
                if self._closed:
                    self._count -= 1
                    return
                job = self._queue.popleft()
                job.started = True
            result: object = None
            error: BaseException | None = None
            try:
                result = job.context.run(job.call)
            except BaseException as raised:
                error = raised
            self._hand_back(job, result, error)
            with self._lock:
                if job.lost:
                    self._lost -= 1
                    return  # Its place was given to another thread.
            del job, result, error  # Else an idle thread would keep the last call, and the body behind its arguments.

    @staticmethod
    def _hand_back(job: Job, result: object, error: BaseException | None) -> None:
        def resolve() -> None:
            if job.done.done():
                return
            if error is None:
                job.done.set_result(result)
            else:
                # StopIteration cannot travel through a future, and the rest of asyncio dislikes other exotic ones.
                # The class itself is asked, not ``isinstance``: an exception may say anything of its ``__class__``.
                kind = type(error)
                plain = issubclass(kind, Exception) and not issubclass(kind, StopIteration)
                job.done.set_exception(error if plain else Escaped(error))

        try:
            job.done.get_loop().call_soon_threadsafe(resolve)
        except RuntimeError:
            return  # The loop was closed meanwhile, and with it the task that waited.


def is_thrown_away(task: asyncio.Task[object]) -> bool:
    """Whether a GeneratorExit means that this task's coroutine is dropped, with its loop: no code of it raised that."""
    return asyncio._get_running_loop() is None or asyncio.current_task() is not task


class Escaped(Exception):
    """Carries an exception through a future that could not carry it itself."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


def unescaped(error: BaseException) -> BaseException:
    """The exception that a call has raised.

    Use it as an expression: a local name would make a cycle with the frame in the exception's traceback, in which the
    body outlives its run.
    """
    return error.error if type(error) is Escaped else error
