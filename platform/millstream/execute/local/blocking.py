"""``LoopWatch``: names the step that blocks the event loop (lanes.md rule 26).

A thread asks the loop for a sign of life ten times a second. Without one for ``after_s`` it looks at what the loop's
thread is executing, and finds the step in the frames: a step costs nothing more. The worker makes one per loop; the
simulation, whose loop has no real time, none.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Final

from millstream.execute.local.body import Body
from millstream.execute.local.driver import LocalDriver
from millstream.execute.local.op import Op, attempt

log = logging.getLogger(__name__)

WhileBlocked = Callable[[FrameType | None], None]
"""Called with what the loop's thread executes."""
ASK_EVERY_S: Final = 0.1
FRAMES_SHOWN: Final = 3


class LoopWatch:
    """Watches the running loop from ``start`` to ``stop``."""

    def __init__(
        self, after_s: float = 0.2, *, level: int = logging.WARNING, while_blocked: WhileBlocked | None = None
    ) -> None:
        """``while_blocked`` is called by the watching thread, again and again, while the loop is blocked."""
        self._after_s = after_s
        self._level = level
        self._while_blocked = while_blocked
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._stopped = threading.Event()
        self._alive = threading.Event()
        self.blocked = 0
        """The number of times the loop was found blocked."""

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="millstream-loop-watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(ASK_EVERY_S):
            self._alive.clear()
            asked_at = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:
                return  # The loop was closed.
            if self._alive.wait(self._after_s):
                continue
            frame = sys._current_frames().get(self._thread_id)
            where = named(frame)
            stack = "".join(traceback.format_stack(frame)[-FRAMES_SHOWN:]) if frame is not None else ""
            self.blocked += 1
            while not self._alive.wait(ASK_EVERY_S):
                if self._stopped.is_set():
                    return
                if self._while_blocked is not None:
                    self._while_blocked(sys._current_frames().get(self._thread_id))
            took_ms = (time.monotonic() - asked_at) * 1_000
            log.log(self._level, "event loop was blocked took_ms=%d %s\n%s", took_ms, where, stack)


def executing(frame: FrameType | None) -> tuple[Body | None, Op | None]:
    """The body that a stack executes, and the step; no step between steps, no body in a task that a step started."""
    found: Op | None = None
    while frame is not None:
        if frame.f_code is attempt.__code__:
            op = frame.f_locals.get("op")
            found = op if isinstance(op, Op) else None
        driver = frame.f_locals.get("self") if frame.f_code is _STEP else None
        body = driver.body if isinstance(driver, LocalDriver) else None
        if frame.f_code is _HANDLER:
            body = frame.f_locals.get("self")
        if isinstance(body, Body):
            return body, found
        frame = frame.f_back
    return None, found


def named(frame: FrameType | None) -> str:
    """The run and step that a stack executes, as log fields; empty where it executes neither."""
    body, op = executing(frame)
    if body is not None:
        step = op.step if op is not None else "(between steps)"
        return f"function={body.function.spec.slug} run={body.run_id} step={step}"
    return f"step={op.step}" if op is not None else "function=(none: millstream itself)"


_HANDLER: Final = Body._main.__code__
_STEP: Final = LocalDriver._drive.__code__
