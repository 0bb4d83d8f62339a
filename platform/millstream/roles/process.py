"""What every server process does with itself, whatever its role: tune the interpreter, watch itself."""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from millstream.execute.local.blocking import LoopWatch
from millstream.files import keep_files_private
from millstream.roles.clock import ClockWatch, watch_clock
from millstream.roles.lane_gauges import watch_disk, watch_lanes
from millstream.telemetry import Telemetry, watch_loop
from millstream.worker.worker import Worker

SWITCH_INTERVAL_S: Final = 0.0005
YOUNG_OBJECTS: Final = 10_000
YOUNG_COLLECTIONS: Final = 5
"""Young collections before the middle generation is collected: 50,000 objects, some 15 ms."""
OLDER_COLLECTIONS: Final = 80
"""Collections of the middle generation before a full one may run."""
OPEN_FILES: Final = (65_536, 10_240)
"""As far as the system lets us: each lane's store keeps up to some hundred files open, and the usual limit is 1,024."""


def tune_process() -> None:
    """What a process that is nothing but a server changes in its interpreter; never done to a user's own process.

    A log's threads must not wait 5 ms for the interpreter each time their disk or broker has answered. Rows and facts
    hold no cycles: looking for some after every 700 new objects took 4 % of the engine's time. Those that outlive their
    youth, as sleeping runs do, are looked through in portions that a step waiting behind them hardly feels. What it
    writes holds what its users send: other users of the machine may not read it.
    """
    keep_files_private()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS, OLDER_COLLECTIONS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in OPEN_FILES:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        if soft == resource.RLIM_INFINITY or soft >= allowed:
            return
        with suppress(OSError, ValueError):  # A system may have a limit of its own below what it tells.
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            return


class Watches:
    """Measures how late the loop turns, names the code that blocks it, and notices a clock that jumps.

    ``data`` is the role's directory, whose disk is measured, too.
    """

    def __init__(self, telemetry: Telemetry, data: Path | None = None) -> None:
        self._telemetry = telemetry
        self._tasks: list[asyncio.Task[None]] = []
        self._watch(watch_loop(telemetry))
        self._watch(watch_clock(ClockWatch(telemetry)))
        if data is not None:
            self._watch(watch_disk(data, telemetry))
        self._blocking = LoopWatch()
        self._blocking.start()

    def lanes_of(self, worker: Worker) -> None:
        """Count the lanes of this worker from now on."""
        self._watch(watch_lanes(worker, self._telemetry))

    def stop(self) -> None:
        """Measure nothing more."""
        self._blocking.stop()
        for task in self._tasks:
            task.cancel()

    def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))
