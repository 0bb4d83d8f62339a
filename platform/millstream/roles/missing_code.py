"""Open runs whose function no app of this process has: counted, and said once.

Such a run is no error: it waits, and goes on when the process is started with its app. But an app that was left out or
renamed by mistake fails nothing, so that nobody would hear of it: one log line names the functions, a metric counts the
runs. They are looked for in the rows of the lanes that are live here, the oldest RUNS_LOOKED_AT_MAX of each: behind a
million sleeping runs the count says "at least".
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

from millstream.core.liveness import PAGE_ROWS
from millstream.lane.lane import Lane
from millstream.telemetry import Telemetry, say
from millstream.worker.worker import Worker

LOG: Final = logging.getLogger("millstream.worker")
METRIC: Final = "millstream_runs_without_code"
LOOK_EVERY_S: Final = 30.0
RUNS_LOOKED_AT_MAX: Final = 20_000
FUNCTIONS_NAMED_MAX: Final = 20


async def watch_missing_code(worker: Worker, telemetry: Telemetry, *, every_s: float = LOOK_EVERY_S) -> None:
    """Look now and then, for ever."""
    said: set[str] = set()
    while True:
        counts: Counter[str] = Counter()
        for lane in tuple(worker.lanes.values()):
            counts += await runs_without_code(lane)
        for function in said | set(counts):
            telemetry.set(METRIC, counts[function], function)
        if set(counts) - said:
            names = sorted(counts)
            shown = ", ".join(names[:FUNCTIONS_NAMED_MAX]) + (", …" if len(names) > FUNCTIONS_NAMED_MAX else "")
            todo = "start this process with their app, too, or cancel them: millstream runs cancel"
            fields = {"runs": counts.total(), "functions": shown, "todo": todo}
            say(LOG, "open runs wait for code that is not here", level=logging.WARNING, **fields)
        said |= set(counts)
        await asyncio.sleep(every_s)


async def runs_without_code(lane: Lane) -> Counter[str]:
    """The number of a lane's open runs for which there is no code, by function."""
    found: Counter[str] = Counter()
    start: str | None = None
    for _ in range(RUNS_LOOKED_AT_MAX // PAGE_ROWS):
        if not lane.live:  # Its store may be closed by now.
            break
        page = lane.tables.durable.runs.scan(start, limit=PAGE_ROWS)
        found.update(run.function for _, run in page if not lane.executor.knows(run.function))
        if len(page) < PAGE_ROWS:
            break
        start = page[-1][0] + "\x00"
        await asyncio.sleep(0)
    return found
