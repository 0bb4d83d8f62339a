"""What a role measures of itself every few seconds: lanes that it was given and that are live, the apps over HTTP that
it calls, the room on its disk.

These figures are there while a lane is restored or cannot be opened, when no lane sets any.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from millstream.telemetry import Telemetry
from millstream.worker.worker import Worker

LANES_EVERY_S: Final = 1.0
DISK_EVERY_S: Final = 10.0


async def watch_lanes(worker: Worker, telemetry: Telemetry) -> None:
    """Count the lanes of a worker, and the calls of its apps, for ever."""
    group = worker.parts.group
    telemetry.set("millstream_group_lanes", worker.parts.lanes, group)
    while True:
        telemetry.set("millstream_lanes_assigned", len(worker.assigned_lanes), group)
        telemetry.set("millstream_lanes_live", sum(lane.live for lane in worker.lanes.values()), group)
        if worker.parts.endpoints is not None:
            worker.parts.endpoints.measure()
        await asyncio.sleep(LANES_EVERY_S)


async def watch_disk(data: Path, telemetry: Telemetry) -> None:
    """Measure the disk of a data directory, for ever."""
    while True:
        with suppress(OSError):  # It is not made yet, or out of reach: those who write to it say so.
            disk = await asyncio.to_thread(shutil.disk_usage, data)
            telemetry.set("millstream_data_free_bytes", disk.free)
            telemetry.set("millstream_data_disk_bytes", disk.total)
        await asyncio.sleep(DISK_EVERY_S)
