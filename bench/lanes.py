"""Steps a second and how long a run takes with 1, 8 and 64 lanes in one process.

    python -m bench.lanes [--lanes 1 8 64] [--runs 50000] [--outstanding 256] [--durability fsync]
    python -m bench.lanes --kafka --outstanding 1024        on a broker that is started; --brokers HOST:PORT: on yours

The closed loop of ``runs``, spread evenly over the lanes. A lane is a journal: more lanes mean more, smaller appends,
of which the embedded log makes one commit; on Kafka each is a request of its own.

Caveats: as for ``runs``. One process has one loop: lanes are there to be spread over workers, not to make one faster.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bench.rig.brokers import brokers
from bench.rig.engine import ClosedLoop, Engine
from bench.rig.figures import Stopwatch, emit
from bench.rig.loop import LOOP, parser, run


async def main(given: argparse.Namespace, directory: Path) -> None:
    """One line for each number of lanes."""
    if given.kafka or given.brokers:
        with brokers(given.brokers, directory / "brokers") as (servers, _):
            for lanes in given.lanes:
                await _measured(given, directory / str(lanes), lanes, servers)
        return
    for lanes in given.lanes:
        await _measured(given, directory / str(lanes), lanes, "")


async def _measured(given: argparse.Namespace, place: Path, lanes: int, servers: str) -> None:
    place.mkdir()
    loop = ClosedLoop(given.outstanding)
    async with Engine(place, loop.on_facts, lanes=lanes, durability=given.durability, brokers=servers) as engine:
        loop.engine = engine
        await loop.run(given.runs // 5)
        watch, commits, records = Stopwatch([os.getpid()]), engine.commits, loop.records
        await loop.run(given.runs)
        lap = watch.stop()
        emit(
            f"durable steps, {lanes} lanes" + (", Kafka" if servers else ""),
            3 * given.runs / lap.took_s,
            "steps/s",
            lap,
            latencies_s=loop.latencies_s,
            c=given.outstanding,
            n=given.runs,
            runs=given.runs,
            lanes=lanes,
            records_per_s=round((loop.records - records) / lap.took_s),
            commits_per_s=round((engine.commits - commits) / lap.took_s) or None,
            durability="acks=all" if servers else given.durability,
            loop=LOOP,
        )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--lanes", type=int, nargs="+", default=[1, 8, 64])
    flags.add_argument("--runs", type=int, default=50_000)
    flags.add_argument("--outstanding", type=int, default=256)
    flags.add_argument("--durability", default="fsync")
    flags.add_argument("--kafka", action="store_true")
    flags.add_argument("--brokers", default="")
    run(main, flags.parse_args())
