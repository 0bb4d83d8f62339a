"""Minutes of full load with a short retention: memory and disk must stay flat.

    python -m bench.steady [--minutes 10] [--outstanding 1000]

The closed loop of ``runs_http`` against the dev composition, with history, retention and trim lag set to a minute. A
line every minute: runs a second, resident size of server and history, what the data directory takes. Growing until
retention first bites is right; the last line compares the end with the third minute (or the half, if shorter).

Caveats: the seen ids of ten minutes are kept whatever the retention is (that is how dedupe works): some growth of
state/ and memory up to the tenth minute is theirs. SQLite's files do not shrink at once; they are used again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from bench.rig.figures import Stopwatch, directory_mb, emit, resident_mb
from bench.rig.loop import LOOP, parser, run
from bench.rig.served import Server
from bench.runs_http import Poster

MINUTE_MS = 60_000
EVENTS_PER_POST = 100
ENDLESS = 1 << 40


async def main(given: argparse.Namespace, directory: Path) -> None:
    """One server, so many minutes."""
    settings = {"history_ms": MINUTE_MS, "trim_lag_ms": MINUTE_MS}
    server = Server(directory / "data", durability=given.durability, settings=settings)
    await server.start()
    try:
        poster = Poster(server, EVENTS_PER_POST, given.outstanding)
        await poster.open(server.url)
        posting = asyncio.ensure_future(poster.run(ENDLESS, within_s=given.minutes * 60 + 60))
        seen: list[tuple[float, float]] = []
        for minute in range(1, given.minutes + 1):
            seen.append(await _minute(given, server, poster, minute))
            if posting.done():
                posting.result()
        posting.cancel()
        early = seen[min(2, len(seen) // 2)]
        memory, disk = (seen[-1][which] / max(early[which], 1.0) for which in (0, 1))
        watch = Stopwatch()
        emit(
            f"growth from minute {seen.index(early) + 1} to {given.minutes} of full load",
            max(memory, disk),
            "times",
            watch.stop(),
            memory_times=round(memory, 2),
            disk_times=round(disk, 2),
            c=given.outstanding,
            durability=given.durability,
            loop=LOOP,
        )
    finally:
        server.stop()


async def _minute(given: argparse.Namespace, server: Server, poster: Poster, minute: int) -> tuple[float, float]:
    watch, before = Stopwatch(server.pids, [os.getpid()]), poster.ended
    poster.latencies_s.clear()
    await asyncio.sleep(60)
    lap, runs = watch.stop(), poster.ended - before
    pids = server.pids
    memory, disk = resident_mb(pids[0]), directory_mb(server.data)
    parts = {f"{path.name}_mb": round(directory_mb(path)) for path in sorted(server.data.iterdir()) if path.is_dir()}
    emit(
        f"full load, minute {minute}",
        runs / lap.took_s,
        "runs/s",
        lap,
        latencies_s=poster.latencies_s,
        server_mb=round(memory),
        history_mb=round(sum(resident_mb(pid) for pid in pids[1:])),
        disk_mb=round(disk),
        **parts,
        c=given.outstanding,
        n=runs,
        runs=runs,
        durability=given.durability,
        loop=LOOP,
    )
    return memory, disk


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--minutes", type=int, default=10)
    flags.add_argument("--outstanding", type=int, default=1_000)
    flags.add_argument("--durability", default="fsync")
    run(main, flags.parse_args())
