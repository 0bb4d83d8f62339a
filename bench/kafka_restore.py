"""A lane restored on a fresh disk, beside others that go on: rows read a second, and how late the loop is meanwhile.

    python -m bench.kafka_restore [--runs 50000] [--times 3] [--copies 1] [--brokers HOST:PORT]

A lane is filled with runs that sleep for hours and checkpointed. Then its rows are restored from the compacted topics
into an empty store, as a worker on a new machine does, in the process that goes on with the lane. ``rows_per_s`` is
from the first question to the brokers to the tables being there; what is folded of the journal behind the checkpoint
is little here (``facts``) and within the time. ``late_p99_ms`` is how much later than asked a task on the same loop
was woken meanwhile: what the other lanes of a worker feel.

Caveats: the topics are in the brokers' page cache and, without ``--brokers``, the brokers share the cores. Rows are
small, as those of a run that sleeps; large results cost their bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.rig.brokers import brokers
from bench.rig.engine import Engine
from bench.rig.figures import Stopwatch, emit, percentile
from bench.rig.functions import NAP
from bench.rig.loop import LOOP, parser, run
from millstream.lane.ownership.restore import restore
from millstream.lane.settings import LaneSettings
from millstream.model.facts import Fact, RunStarted
from millstream.state.rocksdb import RocksBudget, RocksStore

BATCH: Final = 500
WAITING_MAX: Final = 4_000
WITHIN_S: Final = 200.0
LOOK_S: Final = 0.05
REST_S: Final = 2.0
"""The last ones started have yet to fall asleep."""
TICK_S: Final = 0.002
SETTINGS: Final = LaneSettings(checkpoint_facts=1_000, checkpoint_gap_ms=1_000)


async def main(given: argparse.Namespace, directory: Path) -> None:
    """Fill, then restore into one fresh directory after another."""
    with brokers(given.brokers, directory / "brokers", nodes=given.copies) as (servers, _):
        started = Started()
        async with Engine(
            directory / "engine", started.on_facts, brokers=servers, copies=given.copies, settings=SETTINGS
        ) as engine:
            await _fill(engine, started, given.runs)
            for number in range(given.times):
                await _restored(given, engine, directory / f"fresh{number}")


class Started:
    """How many runs were started."""

    def __init__(self) -> None:
        self.count = 0

    def on_facts(self, facts: Sequence[Fact], at_ms: int) -> None:
        """What the engine tells of every durable record."""
        self.count += sum(type(fact) is RunStarted for fact in facts)


async def _fill(engine: Engine, started: Started, runs: int) -> None:
    """Return once ``runs`` runs sleep and are checkpointed."""
    lane = engine.worker.lanes[0]
    async with asyncio.timeout(WITHIN_S):
        for made in range(0, runs, BATCH):
            engine.inject(NAP, [b'{"s":36000}'] * BATCH)
            while made + BATCH - started.count > WAITING_MAX:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
        while started.count < runs:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(REST_S)
        while lane.upkeep.facts_since_checkpoint >= SETTINGS.checkpoint_facts:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)


async def _restored(given: argparse.Namespace, engine: Engine, directory: Path) -> None:
    store = RocksStore(directory, RocksBudget())
    rows, late_s = 0, list[float]()

    def progress(done: int, left: int) -> None:
        nonlocal rows
        rows = done if left < 0 else rows

    ticking = asyncio.create_task(_tick(late_s))
    watch = Stopwatch([os.getpid()])
    _, reached = await restore(engine.log, engine.worker.lanes[0].place, store, progress)
    lap = watch.stop()
    ticking.cancel()
    store.close()
    late_s.sort()
    emit(
        "rows restored on a fresh disk, Kafka",
        rows / lap.took_s,
        "rows/s",
        lap,
        rows=rows,
        facts=reached.facts,
        cpu_us_per_row=round(sum(lap.cpu_s) / rows * 1e6, 1),
        late_p99_ms=round(percentile(late_s, 0.99) * 1e3, 1),
        late_max_ms=round(late_s[-1] * 1e3, 1),
        n=given.runs,
        copies=given.copies,
        loop=LOOP,
    )


async def _tick(late_s: list[float]) -> None:
    while True:
        due_s = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        late_s.append(time.perf_counter() - due_s)


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, default=50_000)
    flags.add_argument("--times", type=int, default=3)
    flags.add_argument("--copies", type=int, default=1, help="of each record; as many brokers are started")
    flags.add_argument("--brokers", default="")
    run(main, flags.parse_args())
