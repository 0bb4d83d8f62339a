"""What ``--executors N`` costs and brings: the same runs in the engine's own process and in child processes.

    python -m bench.executors [--runs 20000] [--computing 400] [--below 20000] [--executors 0 1 2] [--rounds 1]

Two kinds of runs of three steps each: steps that do nothing, where all there is to see is the price (CPU of all
processes together, a run); and steps that compute in Python (``--below``: primes below that), which one interpreter
runs one after another. ``loop_lag_ms`` is how late the engine's loop turned at its worst, ``compute_ms`` what one step
takes alone.

Caveats: no HTTP, no history process. On a machine of two cores two executors and the engine share two: what a third
core would bring is not shown. ``durability=os``, so that no disk is in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path

from bench.rig.engine import ClosedLoop, Engine
from bench.rig.figures import Stopwatch, emit
from bench.rig.functions import COMPUTE, app, count_primes
from bench.rig.loop import LOOP, parser, run

WARM_SHARE = 10
LAG_LOOKED_AT_EVERY_S = 0.005


async def main(given: argparse.Namespace, directory: Path) -> None:
    """The rounds."""
    begun = time.perf_counter()
    count_primes(given.below)
    given.compute_ms = round((time.perf_counter() - begun) * 1e3, 2)
    for number in range(given.rounds):
        for executors in given.executors:
            await _nothing(given, directory / f"nothing{number}-{executors}", executors)
        for executors in given.executors:
            await _computing(given, directory / f"computing{number}-{executors}", executors)


async def _nothing(given: argparse.Namespace, directory: Path, executors: int) -> None:
    loop = ClosedLoop(given.outstanding)
    await _round(loop, directory, executors, given.runs, what="three-step runs whose steps do nothing")


async def _computing(given: argparse.Namespace, directory: Path, executors: int) -> None:
    loop = ClosedLoop(32, COMPUTE, f"{app.id}-computing", b'{"below":%d}' % given.below)
    what = "three-step runs whose steps compute"
    await _round(loop, directory, executors, given.computing, what=what, compute_ms=given.compute_ms)


async def _round(loop: ClosedLoop, directory: Path, executors: int, runs: int, *, what: str, **stated: object) -> None:
    directory.mkdir()
    async with Engine(directory, loop.on_facts, durability="os", executors=executors) as engine:
        loop.engine = engine
        await loop.run(max(runs // WARM_SHARE, 1))
        children = [child.pid for child in engine.pool.children] if engine.pool is not None else []
        worst: list[float] = [0.0]
        lag = asyncio.get_running_loop().create_task(_lag(worst))
        watch = Stopwatch([os.getpid(), *children])
        await loop.run(runs)
        lap = watch.stop()
        lag.cancel()
        emit(
            what,
            runs / lap.took_s,
            "runs/s",
            lap,
            executors=executors,
            cpu_us_per_step=round(sum(lap.cpu_s) / runs / 3 * 1e6, 1),
            engine_cpu_us_per_step=round(lap.cpu_s[0] / runs / 3 * 1e6, 1),
            loop_lag_ms=round(worst[0] * 1e3, 1),
            latencies_s=loop.latencies_s,
            n=runs,
            runs=runs,
            durability="os",
            loop=LOOP,
            **stated,
        )


async def _lag(worst: list[float]) -> None:
    while True:
        due = time.perf_counter() + LAG_LOOKED_AT_EVERY_S
        await asyncio.sleep(LAG_LOOKED_AT_EVERY_S)
        worst[0] = max(worst[0], time.perf_counter() - due)


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=20_000)
    flags.add_argument("--computing", type=int, default=400)
    flags.add_argument("--below", type=int, default=20_000)
    flags.add_argument("--outstanding", type=int, default=256)
    flags.add_argument("--executors", type=int, nargs="+", default=[0, 1, 2])
    flags.add_argument("--rounds", type=int, default=1)
    run(main, flags.parse_args())
