"""Steps a second and how long a run takes with 1, 8 and 64 lanes in one process.

    python -m bench.lanes [--lanes 1 8 64] [--runs 50000] [--outstanding 256] [--durability fsync]

The closed loop of ``runs``, spread evenly over the lanes. A lane is a journal: more lanes mean more, smaller appends,
of which the embedded log makes one commit.

Caveats: as for ``runs``. One process has one loop: lanes are there to be spread over workers, not to make one faster.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bench.rig.engine import ClosedLoop, Engine
from bench.rig.figures import Stopwatch, emit
from bench.rig.loop import LOOP, parser, run


async def main(given: argparse.Namespace, directory: Path) -> None:
    """One line for each number of lanes."""
    for lanes in given.lanes:
        place = directory / str(lanes)
        place.mkdir()
        loop = ClosedLoop(given.outstanding)
        async with Engine(place, loop.on_facts, lanes=lanes, durability=given.durability) as engine:
            loop.engine = engine
            await loop.run(given.runs // 10)
            watch, commits = Stopwatch([os.getpid()]), engine.commits
            await loop.run(given.runs)
            lap = watch.stop()
            emit(
                f"durable steps, {lanes} lanes",
                3 * given.runs / lap.took_s,
                "steps/s",
                lap,
                latencies_s=loop.latencies_s,
                c=given.outstanding,
                n=given.runs,
                runs=given.runs,
                lanes=lanes,
                commits_per_s=round((engine.commits - commits) / lap.took_s),
                durability=given.durability,
                loop=LOOP,
            )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--lanes", type=int, nargs="+", default=[1, 8, 64])
    flags.add_argument("--runs", type=int, default=50_000)
    flags.add_argument("--outstanding", type=int, default=256)
    flags.add_argument("--durability", default="fsync")
    run(main, flags.parse_args())
