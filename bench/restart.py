"""Killed with many open runs: seconds until the server serves again.

    python -m bench.restart [--runs 100000] [--times 3]

The runs sleep for hours. The server is killed with SIGKILL and started again on its directory: with everything there,
and with the local store deleted (a lost disk cache: rows come from the compacted topics, then the journal). Serving is:
a post is answered *and* the three-step run it starts has ended, measured from the start of the process, Python's own
start and imports included.

Caveats: what is in the page cache stays there over a kill; after a reboot the disk would be read. Sleeping runs owe
nothing at a take-over; runs in the middle of a step would be handed out again, a few hundred a turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import time
from pathlib import Path

from bench.rig.figures import Stopwatch, cpu_s, directory_mb, emit, resident_mb
from bench.rig.functions import NAP, THREE
from bench.rig.loop import LOOP, parser, run
from bench.rig.posting import Caller, get, post
from bench.rig.served import Server

EVENTS_PER_POST = 500
ASLEEP_WITHIN_S = 300.0
CHECKPOINT_S = 8.0


async def main(given: argparse.Namespace, directory: Path) -> None:
    """Fill, then kill and start again."""
    server = Server(directory / "data", durability=given.durability)
    await server.start()
    try:
        await _fill(server, given.runs)
        await asyncio.sleep(CHECKPOINT_S)
        for what in ("everything there", "local store deleted"):
            for _ in range(given.times):
                await _again(given, server, what)
    finally:
        server.kill()


async def _again(given: argparse.Namespace, server: Server, what: str) -> None:
    server.kill()
    if what == "local store deleted":
        shutil.rmtree(server.data / "state")
    watch, begun = Stopwatch(), time.perf_counter()
    answers_s = await server.start()
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    server.watch_ends(lambda count, at_s: None if ended.done() else ended.set_result(None))
    caller = await Caller.open(server.url)
    await caller.ask(post(server.url, "/e/bench", json.dumps({"name": THREE, "data": {"n": 1}}).encode()))
    await ended
    took_s = time.perf_counter() - begun
    caller.close()
    emit(
        f"restart with {given.runs} open runs, {what}",
        took_s,
        "s",
        watch.stop(started=server.pids),
        cpu_s=round(sum(cpu_s(pid) for pid in server.pids), 2),
        answers_s=round(answers_s, 2),
        resident_mb=round(resident_mb(server.pid)),
        disk_mb=round(directory_mb(server.data)),
        n=given.runs,
        durability=given.durability,
        loop=LOOP,
    )


async def _fill(server: Server, runs: int) -> None:
    """Return once all runs sleep."""
    caller = await Caller.open(server.url)
    event = {"name": NAP, "data": {"s": 36_000}}
    request = post(server.url, "/e/bench", json.dumps([event] * EVENTS_PER_POST).encode())
    deadline = time.monotonic() + ASLEEP_WITHIN_S
    posted = 0
    while posted < runs:
        posted += EVENTS_PER_POST
        await caller.ask(request)
    while await _counted(caller, server.url, "millstream_runs_started_total{") < posted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{posted} runs were not started within {ASLEEP_WITHIN_S:.0f} s.")
        await asyncio.sleep(0.5)
    await asyncio.sleep(1.0)  # The last ones started have yet to fall asleep.
    caller.close()


async def _counted(caller: Caller, url: str, metric: str) -> float:
    text = (await caller.ask(get(url, "/metrics"))).decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(metric))


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=100_000)
    flags.add_argument("--times", type=int, default=3)
    flags.add_argument("--durability", default="fsync")
    run(main, flags.parse_args())
