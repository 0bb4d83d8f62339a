"""One three-step run alone: from its post to its visible end, against one fdatasync of the same disk.

    python -m bench.latency [--runs 300]

An event, the run's start, three steps and the end are six syncs in a row. *Visible* is measured twice, in turns, so
that neither disturbs the other: **durable**, when the journal record with the run's end is acknowledged (the server
reports it through a pipe), and **read**, when ``GET /v1/events/{id}/runs`` first says Completed (asked again
``--poll-ms`` after each answer). Before each run one block is appended to a file in the same directory and synced: that
is the disk's figure.

``fdatasyncs`` is a time, not a count: the p50 of the run divided by the disk's p50. What it has beyond six is the work
between the syncs (docs/performance.md, "A run alone").

Caveats: an idle machine clocks down and a busy one queues; both show in the disk's own figure. The read way goes
through the history's process, which polls the log, and its answers cost the server's loop time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path

from bench.rig.disk import Disk
from bench.rig.figures import Stopwatch, emit, percentile
from bench.rig.functions import THREE
from bench.rig.loop import LOOP, parser, run
from bench.rig.posting import Caller, get, post
from bench.rig.served import Server

WARM_RUNS = 30
PAUSE_S = 0.005


async def main(given: argparse.Namespace, directory: Path) -> None:
    """One server for each durability; the runs take turns between the two ways of seeing their end."""
    for durability in ("fsync", "os"):
        server = Server(directory / durability, durability=durability)
        await server.start()
        try:
            await _measured(given, server, durability)
        finally:
            server.stop()


async def _measured(given: argparse.Namespace, server: Server, durability: str) -> None:
    disk, caller = Disk(server.data), await Caller.open(server.url)
    request = post(server.url, "/e/bench", json.dumps({"name": THREE, "data": {"n": 1}}).encode())
    ended: asyncio.Queue[float] = asyncio.Queue()
    server.watch_ends(lambda count, at_s: ended.put_nowait(at_s))
    durable: list[float] = []
    answered: list[float] = []
    read: list[float] = []
    watch = Stopwatch()
    for number in range(WARM_RUNS + given.runs):
        if number == WARM_RUNS:
            watch = Stopwatch(server.pids, [os.getpid()])
            for seen in (durable, answered, read, disk.took_s):
                seen.clear()
        disk.sync()
        await asyncio.sleep(PAUSE_S)
        begun = time.perf_counter()
        event = json.loads(await caller.ask(request))["ids"][0]
        answered.append(time.perf_counter() - begun)
        if number % 2:
            await _until_read(caller, server.url, event, given.poll_ms / 1000)
            read.append(time.perf_counter() - begun)
            await ended.get()
        else:
            durable.append(await ended.get() - begun)
    lap = watch.stop()
    disk_p50 = percentile(sorted(disk.took_s), 0.5)
    for what, seen in (("its end durable", durable), ("its end read over HTTP", read), ("the answer", answered)):
        p50 = percentile(sorted(seen), 0.5)
        emit(
            f"a three-step run alone, from the post to {what}",
            p50 * 1e3,
            "ms",
            lap,
            latencies_s=seen,
            c=1,
            n=len(seen),
            fdatasync_p50_ms=round(disk_p50 * 1e3, 3),
            fdatasyncs=round(p50 / disk_p50, 1),
            durability=durability,
            loop=LOOP,
        )
    caller.close()
    disk.close()


async def _until_read(caller: Caller, url: str, event: str, poll_s: float) -> None:
    request = get(url, f"/v1/events/{event}/runs")
    while True:
        runs = json.loads(await caller.ask(request))["data"]
        if runs and runs[0]["status"] == "Completed":
            return
        await asyncio.sleep(poll_s)


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=300)
    flags.add_argument("--poll-ms", type=float, default=1.0)
    run(main, flags.parse_args())
