"""The process that gets killed: ``millstream dev`` with upkeep that happens all the time.

    python -m tests.chaos.server --data DIR --port N --lanes N [--history-ms N] [--durability fsync|os]

It is ``millstream.dev.DevServer``, which the command line starts as well; only the lanes' settings differ, so that a
kill at a random instant often falls into a flush, a checkpoint, a trim or a restore. SIGTERM ends it in order.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

from millstream.dev import DevServer, DevSettings
from millstream.lane.settings import LaneSettings
from tests.chaos.app import app


def main() -> None:
    """Read the flags, serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lanes", type=int, required=True)
    parser.add_argument("--history-ms", type=int, required=True)
    parser.add_argument("--durability", default="fsync")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(name)s %(message)s", datefmt="%H:%M:%S")
    lane = LaneSettings(
        flush_after_ms=40,
        flush_rows=100,
        checkpoint_facts=150,
        checkpoint_after_ms=500,
        checkpoint_gap_ms=100,
        trim_lag_ms=500,
        trim_every_ms=200,
        history_ms=given.history_ms,
        housekeeping_ms=20,
    )
    settings = DevSettings(data=given.data, port=given.port, lanes=given.lanes, durability=given.durability, lane=lane)
    asyncio.run(_serve(settings))


async def _serve(settings: DevSettings) -> None:
    server = DevServer([app], settings)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await server.start()
    logging.getLogger("tests.chaos").info("serving url=%s", server.served.url if server.served else "")
    ending, running = asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(server.wait())
    await asyncio.wait([ending, running], return_when="FIRST_COMPLETED")
    if running.done():
        running.result()
    running.cancel()
    await server.stop()


if __name__ == "__main__":
    main()
