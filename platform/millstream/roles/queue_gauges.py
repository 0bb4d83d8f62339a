"""How many queue at the limits of each function, and how many count there: gauges, set now and then.

They are summed up from the rows of the gates whose home is a live lane here: a row for each value of a key where
somebody is. ROWS_LOOKED_AT_MAX of a lane are looked at; a queue is one row however long it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from millstream.core.flow.places import whose
from millstream.core.liveness import PAGE_ROWS
from millstream.lane.lane import Lane
from millstream.model.gates.declared import SCOPES
from millstream.telemetry import Telemetry
from millstream.worker.worker import Worker

QUEUED: Final = "millstream_flow_queued"
HELD: Final = "millstream_flow_held"
ROWS_LOOKED_AT_MAX: Final = 20_000


class QueueGauges:
    """The gauges of one process."""

    def __init__(self, worker: Worker, telemetry: Telemetry) -> None:
        self._worker = worker
        self._telemetry = telemetry
        self._known: set[str] = set()

    async def look(self) -> None:
        """Set them. A function where nobody is any more shows 0."""
        queued: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for lane in tuple(self._worker.lanes.values()):
            await _add(lane, queued, held)
        self._known |= set(queued) | set(held)
        for function in self._known:
            self._telemetry.set(QUEUED, queued[function], function)
            self._telemetry.set(HELD, held[function], function)


async def _add(lane: Lane, queued: Counter[str], held: Counter[str]) -> None:
    start: str | None = None
    for _ in range(ROWS_LOOKED_AT_MAX // PAGE_ROWS):
        if not lane.live:  # Its store may be closed by now.
            return
        page = lane.tables.durable.gates.scan(start, limit=PAGE_ROWS)
        for place, gate in page:
            name = whose(place)
            name = f"({name})" if name in SCOPES else name
            queued[name] += gate.queued
            held[name] += gate.held
        if len(page) < PAGE_ROWS:
            return
        start = page[-1][0] + "\x00"
        await asyncio.sleep(0)
