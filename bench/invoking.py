"""One ``step.invoke`` of an empty child function: from the call in the parent's body to its result there.

    python -m bench.invoking [--runs 500] [--profile]

One lane, the embedded log, one run at a time, beside one fdatasync of the same disk before each. The body is awake
throughout and takes the time itself: the wait is recorded together with the child's start, the child runs and ends, its
end is recorded together with the step's result, and the result reaches the body. That is two syncs. Then the same with
``--outstanding`` parents at once, as a rate.

Caveats: one lane. On several the child lives on a lane of its own: its start and its end are messages between lanes.
No HTTP, no history process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from bench.rig.disk import Disk
from bench.rig.engine import ClosedLoop, Engine
from bench.rig.figures import Stopwatch, emit, percentile
from bench.rig.functions import PARENT, app
from bench.rig.loop import LOOP, parser, run
from millstream.model.facts import Fact, RunCompleted

WARM_RUNS = 30
PAUSE_S = 0.005
PARENT_SLUG = f"{app.id}-parent"


class Parents(ClosedLoop):
    """A load of parents; what each says of its child."""

    def __init__(self, outstanding: int) -> None:
        super().__init__(outstanding, PARENT, PARENT_SLUG, b"{}")
        self.took_s: list[float] = []

    def on_facts(self, facts: Sequence[Fact], at_ms: int) -> None:
        """As its own, for parents only: their children are no runs that were asked for."""
        parents = [f for f in facts if not isinstance(f, RunCompleted) or f.function == PARENT_SLUG]
        self.took_s += [float(f.result) for f in parents if isinstance(f, RunCompleted)]
        super().on_facts(parents, at_ms)


async def main(given: argparse.Namespace, directory: Path) -> None:
    """Alone, then many at once, for each durability."""
    for durability in ("fsync", "os"):
        await _alone(given, directory / durability, durability)
        await _many(given, directory / f"{durability}-many", durability)


async def _alone(given: argparse.Namespace, directory: Path, durability: str) -> None:
    directory.mkdir()
    disk, parents = Disk(directory), Parents(1)
    async with Engine(directory, parents.on_facts, durability=durability) as engine:
        parents.engine = engine
        await parents.run(WARM_RUNS)
        parents.took_s.clear()
        watch = Stopwatch([os.getpid()])
        for _ in range(given.runs):
            disk.sync()
            await asyncio.sleep(PAUSE_S)
            await parents.run(1)
        lap = watch.stop()
    emit(
        "invoke of an empty child alone, from the call to its result",
        percentile(sorted(parents.took_s), 0.5) * 1e3,
        "ms",
        lap,
        latencies_s=parents.took_s,
        c=1,
        n=given.runs,
        fdatasync_p50_ms=round(percentile(sorted(disk.took_s), 0.5) * 1e3, 3),
        durability=durability,
        loop=LOOP,
    )
    disk.close()


async def _many(given: argparse.Namespace, directory: Path, durability: str) -> None:
    directory.mkdir()
    parents = Parents(given.outstanding)
    async with Engine(directory, parents.on_facts, durability=durability) as engine:
        parents.engine = engine
        await parents.run(given.many // 10)
        parents.took_s.clear()
        watch = Stopwatch([os.getpid()])
        await parents.run(given.many)
        lap = watch.stop()
    emit(
        "invokes of an empty child",
        given.many / lap.took_s,
        "invokes/s",
        lap,
        latencies_s=parents.took_s,
        c=given.outstanding,
        n=given.many,
        runs=given.many,
        durability=durability,
        loop=LOOP,
    )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=500)
    flags.add_argument("--many", type=int, default=10_000)
    flags.add_argument("--outstanding", type=int, default=256)
    run(main, flags.parse_args())
