"""Serving until told to stop, the same for every role: signals, the grace, the exit code.

The first SIGINT or SIGTERM stops in good order; the second ends the process at once, which loses nothing either.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from millstream.cli.support.exits import INTERRUPTED, OK, note

ONE_SIGNAL_S: Final = 0.5
"""Signals this close are one: ``make``, ``timeout`` and terminals send it to the group, and each of them again."""


class Role(Protocol):
    """A server process that starts and stops."""

    async def start(self) -> None: ...

    async def stop(self, grace_s: float) -> None: ...


async def serve(role: Role, until: Coroutine[Any, Any, None], grace_s: float, greeting: str | Callable[[], str]) -> int:
    """Start, then serve until a signal or until ``until`` ends (it raises what went wrong); stop in good order.

    ``greeting`` is said once it serves; a function is called then.
    """
    stop_requested = asyncio.Event()
    on_signals(stop_requested, grace_s)
    loop = asyncio.get_running_loop()
    ending: asyncio.Task[None] | None = None
    try:
        if not await started_before(stop_requested, role.start()):
            return OK  # The signal came before it had begun to serve: stopping is what was asked.
        note(f"{greeting if isinstance(greeting, str) else greeting()}, process {os.getpid()}. Ctrl-C stops.")
        ending, stopping = loop.create_task(until), loop.create_task(stop_requested.wait())
        await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if ending.done():
            ending.result()
        return OK
    finally:
        if ending is not None:
            ending.cancel()
        else:
            until.close()  # It never began.
        await role.stop(grace_s)


async def started_before(stop_requested: asyncio.Event, start: Coroutine[Any, Any, None]) -> bool:
    """Run ``start`` to its end; False where a signal came first."""
    loop = asyncio.get_running_loop()
    starting, stopping = loop.create_task(start), loop.create_task(stop_requested.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            return True
        return False
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


def on_signals(stop_requested: asyncio.Event, grace_s: float) -> None:
    """Set the event at the first signal; end the process at the second."""
    loop = asyncio.get_running_loop()
    first_s = 0.0

    def on_signal() -> None:
        nonlocal first_s
        if stop_requested.is_set():
            if loop.time() - first_s < ONE_SIGNAL_S:
                return
            note("stopped at once; nothing is lost, the next start goes on")
            os._exit(INTERRUPTED)
        stop_requested.set()
        first_s = loop.time()
        note(f"stopping: steps under way have {grace_s:.0f} s to end. Again: stop at once.")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
