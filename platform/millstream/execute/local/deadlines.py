"""``ring``: lets a timer that a body has set ring at once in a replay: ``asyncio.timeout``, ``wait_for``, ``wait``.

The first time, such a timer rang while a step was under way, and the body went on without it. A replay comes to the
same place in no time, so nothing has rung yet; waiting for it would take as long again, and what the step has become
meanwhile must not be given to the body. What is recorded behind it says that the timer rang, so it rings now.

asyncio keeps its timers in a list of the loop, without a name. A loop that has no such list (uvloop) is waited for.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
from collections.abc import Collection
from typing import Any, Final

_RELEASE: Final = asyncio.tasks._release_waiter  # type: ignore[attr-defined]


def ring(loop: asyncio.AbstractEventLoop, tasks: Collection[object]) -> bool:
    """Let the earliest timer ring that one of these tasks has set for itself. False: there is none."""
    waiters = [getattr(task, "_fut_waiter", None) for task in tasks]
    timers = [timer for timer in getattr(loop, "_scheduled", ()) if _is_of(timer, tasks, waiters)]
    if not timers:
        return False
    first: Any = min(timers, key=asyncio.TimerHandle.when)
    loop.call_soon(first._callback, *first._args, context=first._context)
    first.cancel()
    return True


def _is_of(timer: Any, tasks: Collection[object], waiters: list[object]) -> bool:
    if timer.cancelled():
        return False
    if timer._callback is _RELEASE:
        return timer._args[0] in waiters
    owner = getattr(timer._callback, "__self__", None)
    return type(owner) is asyncio.Timeout and owner._task in tasks  # type: ignore[attr-defined]
