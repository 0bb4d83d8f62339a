"""Open runs that wait for somebody: for code that is in no app of this process, or has changed; or for an operator.

They are counted, and said once.

Such a run is no error: it waits, and goes on when the process is started with the code that fits. But an app that was
left out or renamed by mistake, or a step that was, fails nothing, so that nobody would hear of it: one log line names
the functions, a metric counts the runs. They are looked for in the rows of the lanes that are live here, the oldest
ROWS_LOOKED_AT_MAX of each: behind a million sleeping runs the count says "at least".
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, TypeVar

from millstream.core.liveness import PAGE_ROWS
from millstream.lane.lane import Lane
from millstream.model.effects import CodeWanted
from millstream.model.rows import ParkedRow
from millstream.roles.queue_gauges import QueueGauges
from millstream.telemetry import Telemetry, say
from millstream.worker.worker import Worker

R = TypeVar("R")
Key = tuple[str, str, str]
LOG: Final = logging.getLogger("millstream.worker")
HELD: Final = "millstream_runs_held"
MISSING: Final = "millstream_runs_without_code"
CHANGED: Final = "millstream_runs_with_changed_code"
LOOK_FIRST_S: Final = 1.0
"""The pause behind the first look; each is twice as long as the one before, up to LOOK_EVERY_S."""
LOOK_EVERY_S: Final = 30.0
ROWS_LOOKED_AT_MAX: Final = 20_000
FUNCTIONS_NAMED_MAX: Final = 20


async def watch_missing_code(worker: Worker, telemetry: Telemetry) -> None:
    """Look now and then, for ever."""
    missing = _Said(telemetry, MISSING, "open runs wait for code that is not here")
    changed = _Said(telemetry, CHANGED, "open runs wait since their code has changed")
    held = _Said(telemetry, HELD, "open runs have failed and wait for an operator")
    queues = QueueGauges(worker, telemetry)
    pause_s = LOOK_FIRST_S
    while True:
        without: Counter[str] = Counter()
        parked: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        reasons: dict[str, str] = {}
        for lane in tuple(worker.lanes.values()):
            without += await runs_without_code(lane)
            parked += await runs_with_changed_code(lane, reasons)
            waiting += await runs_held(lane)
        missing.say(without, {"todo": "start this process with their app, too, or cancel them: millstream runs cancel"})
        changed.say(parked, {"why": next(iter(reasons.values()), ""), "todo": "millstream runs list --status parked"})
        await queues.look()
        held.say(waiting, {"todo": "millstream runs list --status held; then runs resume, or runs fail"})
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LOOK_EVERY_S)


class _Said:
    """A metric by function, and a log line whenever a function is counted for the first time."""

    def __init__(self, telemetry: Telemetry, metric: str, line: str) -> None:
        self._telemetry = telemetry
        self._metric = metric
        self._line = line
        self._functions: set[str] = set()

    def say(self, counts: Counter[str], fields: Mapping[str, str]) -> None:
        for function in self._functions | set(counts):
            self._telemetry.set(self._metric, counts[function], function)
        if set(counts) - self._functions:
            names = sorted(counts)
            shown = ", ".join(names[:FUNCTIONS_NAMED_MAX]) + (", …" if len(names) > FUNCTIONS_NAMED_MAX else "")
            say(LOG, self._line, level=logging.WARNING, runs=counts.total(), functions=shown, **fields)
        self._functions |= set(counts)


async def runs_without_code(lane: Lane) -> Counter[str]:
    """The number of a lane's open runs for which there is no code, by function."""
    found: Counter[str] = Counter()
    start: str | None = None
    for _ in range(ROWS_LOOKED_AT_MAX // PAGE_ROWS):
        if not lane.live:  # Its store may be closed by now.
            break
        page = lane.tables.durable.runs.scan(start, limit=PAGE_ROWS)
        found.update(run.function for _, run in page if not lane.executor.knows(run.function))
        if len(page) < PAGE_ROWS:
            break
        start = page[-1][0] + "\x00"
        await asyncio.sleep(0)
    return found


async def runs_with_changed_code(lane: Lane, reasons: dict[str, str]) -> Counter[str]:
    """The number of a lane's open runs that are parked since their code has changed, by function; ``reasons`` gets the
    reason of one run of each function."""
    found: Counter[str] = Counter()
    last = ""
    async for row in _rows(lane, lambda start: lane.tables.durable.parked.scan(start, limit=PAGE_ROWS)):
        if row.reason and row.run != last and not _is_tried(lane, row):  # The steps of a run stand side by side.
            found[row.function] += 1
            reasons.setdefault(row.function, row.reason)
            last = row.run
    return found


async def runs_held(lane: Lane) -> Counter[str]:
    """The number of a lane's open runs that wait for an operator, by function."""
    found: Counter[str] = Counter()
    last = ""
    async for row in _rows(lane, lambda start: lane.tables.durable.held.scan(start, limit=PAGE_ROWS)):
        found[row.function] += row.run != last
        last = row.run
    return found


async def _rows(lane: Lane, page_from: Callable[[Key | None], list[tuple[Key, R]]]) -> AsyncIterator[R]:
    """The first rows of a table whose keys are function, run and step."""
    start: Key | None = None
    for _ in range(ROWS_LOOKED_AT_MAX // PAGE_ROWS):
        if not lane.live:  # Its store may be closed by now.
            return
        page = page_from(start)
        for _, row in page:
            yield row
        if len(page) < PAGE_ROWS:
            return
        function, run, step = page[-1][0]
        start = (function, run, step + "\x00")
        await asyncio.sleep(0)


def _is_tried(lane: Lane, row: ParkedRow) -> bool:
    """Whether it is about to be handed out again: code that has not parked it is here, it may be what mends it."""
    return lane.executor.takes_up(CodeWanted(row.run, row.function, row.step, row.dispatch))
