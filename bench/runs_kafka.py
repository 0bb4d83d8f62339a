"""Three-step runs on Kafka: how many a second under load, and how long a step takes alone; one broker, and three.

    python -m bench.runs_kafka [--copies 1 3] [--runs 100000] [--outstanding 1024] [--lanes 8] [--rounds 2]
    python -m bench.runs_kafka --brokers HOST:PORT --copies 1        on brokers of yours

The closed loop of ``runs``, with one worker in this process on journals of a Kafka that is started for it: acks=all, as
many copies as brokers, one of which may be missing. *Alone* means one run at a time: of a run's time, from the
event's append to its end's record, a fifth is called a step (start, three steps, end). A round before the first is not
measured: a broker's JVM takes half a minute of load to become fast.

Caveats: the brokers share the cores (``broker_cpu_s_per_1000_runs``); events are produced by this same process. No
HTTP, no history. Three brokers on one disk and two cores say what three copies cost, not what three machines give.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.rig.brokers import brokers
from bench.rig.engine import ClosedLoop, Engine
from bench.rig.figures import Lap, Stopwatch, emit, percentile
from bench.rig.loop import LOOP, parser, run

ALONE_RUNS: Final = 300
APPENDS_A_RUN: Final = 5
"""Start, three steps, end: what of a run alone is journal records one after another."""


async def main(given: argparse.Namespace, directory: Path) -> None:
    """For each number of copies: warm up, alone, under load."""
    for copies in given.copies:
        place = directory / f"{copies}"
        place.mkdir()
        with brokers(given.brokers, place / "brokers", nodes=copies) as (servers, pids):
            await _alone(given, place / "alone", (servers, copies, pids))
            for number in range(given.rounds):
                await _load(given, place / f"load{number}", (servers, copies, pids))


async def _alone(given: argparse.Namespace, directory: Path, cluster: tuple[str, int, Sequence[int]]) -> None:
    servers, copies, _ = cluster
    directory.mkdir()
    loop = ClosedLoop(1)
    async with Engine(directory, loop.on_facts, lanes=given.lanes, brokers=servers, copies=copies) as engine:
        loop.engine = engine
        await loop.run(ALONE_RUNS)
        watch = Stopwatch([os.getpid()])
        await loop.run(ALONE_RUNS)
        lap = watch.stop()
        emit(
            f"a step alone, Kafka, {copies} brokers",
            percentile(sorted(loop.latencies_s), 0.5) / APPENDS_A_RUN * 1e3,
            "ms",
            lap,
            latencies_s=loop.latencies_s,
            c=1,
            n=ALONE_RUNS,
            lanes=given.lanes,
            durability="acks=all",
            loop=LOOP,
        )


async def _load(given: argparse.Namespace, directory: Path, cluster: tuple[str, int, Sequence[int]]) -> None:
    servers, copies, pids = cluster
    directory.mkdir()
    loop = ClosedLoop(given.outstanding)
    async with Engine(directory, loop.on_facts, lanes=given.lanes, brokers=servers, copies=copies) as engine:
        loop.engine = engine
        await loop.run(max(given.runs // 5, given.outstanding))
        watch, records = Stopwatch([os.getpid(), *pids]), loop.records
        await loop.run(given.runs)
        lap = watch.stop()
        emit(
            f"durable steps, Kafka, {copies} brokers",
            3 * given.runs / lap.took_s,
            "steps/s",
            Lap(lap.took_s, lap.cpu_s[:1], 0.0, lap.others_cores),
            runs_per_s=round(given.runs / lap.took_s),
            latencies_s=loop.latencies_s,
            c=given.outstanding,
            n=given.runs,
            runs=given.runs,
            lanes=given.lanes,
            records_per_s=round((loop.records - records) / lap.took_s),
            broker_cpu_s_per_1000_runs=round(sum(lap.cpu_s[1:]) / given.runs * 1e3, 3) if pids else None,
            durability="acks=all",
            loop=LOOP,
        )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument(
        "--copies", type=int, nargs="+", default=[1, 3], help="of each record; as many brokers are started"
    )
    flags.add_argument("--runs", type=int, default=100_000)
    flags.add_argument("--outstanding", type=int, default=1_024)
    flags.add_argument("--lanes", type=int, default=8)
    flags.add_argument("--rounds", type=int, default=2)
    flags.add_argument("--brokers", default="")
    run(main, flags.parse_args())
