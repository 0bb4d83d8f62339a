"""Three-step runs a second, load injected in the process, behind the door: the claim of the lane's loop.

    python -m bench.runs [--runs 100000] [--outstanding 256] [--lanes 1] [--rounds 2] [--profile]

A closed loop: whenever runs end, as many events are appended to the events topic, on the engine's own loop. Every
step's result is durable before the next step begins; dedupe by event id is on. Rounds of durability fsync and os
alternate, each on a new directory, each after a warm-up of a tenth. One line a round.

Caveats: no HTTP, no JSON of events, no history process: a server has those beside it (``runs_http``). The steps do
nothing; payloads are a few bytes; runs are short, so nothing reaches the local store or a checkpoint that lives only
between two flushes. Injecting and counting cost about 4 µs a run and are within the CPU figure.
On Kafka: ``runs_kafka``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bench.rig.engine import ClosedLoop, Engine
from bench.rig.figures import Stopwatch, emit
from bench.rig.loop import LOOP, parser, run
from millstream.lane.settings import LaneSettings

WARM_SHARE = 10


async def main(given: argparse.Namespace, directory: Path) -> None:
    """The rounds."""
    for number in range(given.rounds):
        for durability in ("fsync", "os"):
            await _round(given, directory / f"{durability}{number}", durability)


async def _round(given: argparse.Namespace, directory: Path, durability: str) -> None:
    directory.mkdir()
    loop = ClosedLoop(given.outstanding)
    settings = LaneSettings(turn_commands_max=given.turn)
    async with Engine(directory, loop.on_facts, lanes=given.lanes, durability=durability, settings=settings) as engine:
        loop.engine = engine
        await loop.run(given.runs // WARM_SHARE)
        watch, commits = Stopwatch([os.getpid()]), engine.commits
        await loop.run(given.runs)
        lap = watch.stop()
        emit(
            "three-step runs, injected behind the door",
            given.runs / lap.took_s,
            "runs/s",
            lap,
            durable_steps_per_s=round(3 * given.runs / lap.took_s),
            latencies_s=loop.latencies_s,
            c=given.outstanding,
            n=given.runs,
            runs=given.runs,
            lanes=given.lanes,
            turn_commands_max=given.turn,
            commits_per_s=round((engine.commits - commits) / lap.took_s),
            durability=durability,
            loop=LOOP,
        )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=100_000)
    flags.add_argument("--outstanding", type=int, default=256)
    flags.add_argument("--lanes", type=int, default=1)
    flags.add_argument("--rounds", type=int, default=2)
    flags.add_argument("--turn", type=int, default=LaneSettings().turn_commands_max, help="commands a turn at most")
    run(main, flags.parse_args())
