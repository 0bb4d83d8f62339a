"""``guard_tasks``: lets no exception out of the event loop that a task of a function's own code has raised.

asyncio ends its loop where a task raises ``SystemExit`` or ``KeyboardInterrupt``: the task gets it, and so does whoever
runs the loop, which would be the end of the server and of every run. A function must not do that (``failures.py``), and
what it awaits itself never does; but ``asyncio.create_task`` in a handler makes a task that is none of ours. So tasks
made while a run executes get a guard around their coroutine. Whoever awaits such a task is given ``Escaped``, which is
recorded as the exception that it carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

from millstream.execute.local.threads import Escaped
from millstream.sdk.current import CURRENT

_ENDS_THE_LOOP: Final = (SystemExit, KeyboardInterrupt)


class Guarded(Coroutine[Any, Any, Any]):
    """A coroutine of a task that a function has made. In all else it is the coroutine itself."""

    __slots__ = ("coro",)

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self.coro = coro

    def send(self, value: Any) -> Any:
        try:
            return self.coro.send(value)
        except _ENDS_THE_LOOP as error:
            raise Escaped(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self.coro.throw(*error)
        except _ENDS_THE_LOOP as raised:
            raise Escaped(raised) from raised

    def close(self) -> None:
        self.coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.coro.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.coro, name)  # ``cr_await`` and others, by which a task shows what it waits for.


def coroutine_of(task: asyncio.Task[Any]) -> object:
    """The coroutine that a task was made from."""
    coro = task.get_coro()
    return coro.coro if type(coro) is Guarded else coro


def guard_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Guard the tasks that functions make on this loop; a task factory it has makes them still. Once is enough."""
    make: Callable[..., Any] | None = loop.get_task_factory()
    if type(make) is not _Factory:
        loop.set_task_factory(_Factory(make))


class _Factory:
    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any] | None) -> None:
        self._make = make

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> Any:
        if CURRENT.get() is not None and asyncio.iscoroutine(coro):
            coro = Guarded(coro)
        return asyncio.Task(coro, loop=loop, **more) if self._make is None else self._make(loop, coro, **more)
