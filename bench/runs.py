"""Three-step runs a second, load injected in the process, behind the door: the claim of the lane's loop.

    python -m bench.runs [--runs 100000] [--outstanding 256] [--lanes 1] [--rounds 2] [--profile]
    python -m bench.runs --brokers start --lanes 8 --outstanding 1024      on Kafka; a HOST:PORT for brokers of yours

A closed loop: whenever runs end, as many events are appended to the events topic, on the engine's own loop. Every
step's result is durable before the next step begins; dedupe by event id is on. Rounds of durability fsync and os
alternate, each on a new directory, each after a warm-up of a tenth. One line a round.

Caveats: no HTTP, no JSON of events, no history process: a server has those beside it (``runs_http``). The steps do
nothing; payloads are a few bytes; runs are short, so nothing reaches the local store or a checkpoint that lives only
between two flushes. Injecting and counting cost about 4 µs a run and are within the CPU figure. On Kafka the brokers
share the cores unless they are elsewhere: ``broker_cpu_s_per_1000_runs`` is what those started here took.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from bench.rig.brokers import brokers
from bench.rig.engine import ClosedLoop, Engine
from bench.rig.figures import Lap, Stopwatch, emit
from bench.rig.loop import LOOP, parser, run

WARM_SHARE = 10


async def main(given: argparse.Namespace, directory: Path) -> None:
    """The rounds."""
    if given.brokers:
        with brokers(given.brokers, directory / "brokers", nodes=given.copies) as (servers, pids):
            for number in range(given.rounds):
                await _round(given, directory / f"kafka{number}", "acks=all", servers, pids)
        return
    for number in range(given.rounds):
        for durability in ("fsync", "os"):
            await _round(given, directory / f"{durability}{number}", durability, "", [])


async def _round(
    given: argparse.Namespace, directory: Path, durability: str, servers: str, broker_pids: Sequence[int]
) -> None:
    directory.mkdir()
    loop = ClosedLoop(given.outstanding)
    async with Engine(
        directory, loop.on_facts, lanes=given.lanes, durability=durability, brokers=servers, copies=given.copies
    ) as engine:
        loop.engine = engine
        await loop.run(given.runs // WARM_SHARE)
        watch, commits, records = Stopwatch([os.getpid(), *broker_pids]), engine.commits, loop.records
        await loop.run(given.runs)
        lap = watch.stop()
        ours = Lap(lap.took_s, lap.cpu_s[:1], 0.0, lap.others_cores)
        emit(
            "three-step runs, injected behind the door" + (", Kafka" if servers else ""),
            given.runs / lap.took_s,
            "runs/s",
            ours,
            durable_steps_per_s=round(3 * given.runs / lap.took_s),
            latencies_s=loop.latencies_s,
            c=given.outstanding,
            n=given.runs,
            runs=given.runs,
            lanes=given.lanes,
            records_per_s=round((loop.records - records) / lap.took_s),
            commits_per_s=round((engine.commits - commits) / lap.took_s) or None,
            broker_cpu_s_per_1000_runs=round(sum(lap.cpu_s[1:]) / given.runs * 1e3, 3) if broker_pids else None,
            copies=given.copies if servers else None,
            durability=durability,
            loop=LOOP,
        )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=100_000)
    flags.add_argument("--outstanding", type=int, default=256)
    flags.add_argument("--lanes", type=int, default=1)
    flags.add_argument("--rounds", type=int, default=2)
    flags.add_argument("--brokers", default="")
    flags.add_argument("--copies", type=int, default=1, help="on Kafka, of each record; as many brokers are started")
    run(main, flags.parse_args())
