"""One lane's checkpoint on Kafka: how long its transaction takes, for how many rows.

    python -m bench.kafka_checkpoint [--runs 20000 80000] [--copies 1] [--brokers HOST:PORT]

That many runs fall asleep for hours on a new lane, then it checkpoints by itself, once: every row goes to the compacted
topics in one transaction, which may take 45 s (lanes.md rule 13). The time is from the transaction's beginning to its
commit being visible to readers.

Caveats: the lane does nothing else meanwhile. Rows are small, as those of a run that sleeps: four for each; large
results cost their bytes. Without ``--brokers`` the brokers share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.rig.brokers import brokers
from bench.rig.engine import Engine
from bench.rig.figures import Stopwatch, emit
from bench.rig.functions import NAP
from bench.rig.loop import LOOP, parser, run
from millstream.lane.settings import LaneSettings
from millstream.model.facts import Fact
from millstream.model.messages import group_topic
from millstream.state.keyspace import CHECKPOINT_TOPICS

BATCH: Final = 500
WAITING_MAX: Final = 12_000
FACTS_PER_RUN: Final = 3
"""Its event is accepted, it starts, it falls asleep."""
WITHIN_S: Final = 300.0
LOOK_S: Final = 0.02
NEVER_MS: Final = 1_000_000_000
MARKS_PER_TOPIC: Final = 2
"""Of a checkpoint's records in a topic, its marker and the end of the transaction are no rows."""


async def main(given: argparse.Namespace, directory: Path) -> None:
    """A group of its own for each number of runs."""
    with brokers(given.brokers, directory / "brokers", nodes=given.copies) as (servers, _):
        for runs in given.runs:
            told = Facts()
            settings = LaneSettings(checkpoint_facts=runs * FACTS_PER_RUN, checkpoint_after_ms=NEVER_MS)
            async with Engine(
                directory / f"{runs}", told.on_facts, brokers=servers, copies=given.copies, settings=settings
            ) as engine:
                await _checkpointed(given, engine, told, runs)


class Facts:
    """How many facts are durable."""

    def __init__(self) -> None:
        self.count = 0

    def on_facts(self, facts: Sequence[Fact], at_ms: int) -> None:
        """The facts of a durable record."""
        self.count += len(facts)


async def _checkpointed(given: argparse.Namespace, engine: Engine, told: Facts, runs: int) -> None:
    upkeep = engine.worker.lanes[0].upkeep
    none = upkeep.checkpointed_at
    watch = Stopwatch([os.getpid()])
    async with asyncio.timeout(WITHIN_S):
        for made in range(0, runs, BATCH):
            engine.inject(NAP, [b'{"s":36000}'] * BATCH)
            while (made + BATCH) * FACTS_PER_RUN - told.count > WAITING_MAX:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
        while upkeep.checkpointed_at == none:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
    took_s = upkeep.checkpoint_age_ms / 1000
    rows = await _ends(engine) - MARKS_PER_TOPIC * len(CHECKPOINT_TOPICS)
    emit(
        "rows checkpointed in one transaction, Kafka",
        rows / took_s,
        "rows/s",
        watch.stop(),
        rows=rows,
        checkpoint_s=round(took_s, 2),
        n=runs,
        copies=given.copies,
        loop=LOOP,
    )


async def _ends(engine: Engine) -> int:
    """The sum of the ends of the compacted topics."""
    return sum([await engine.log.end_offset(group_topic(engine.group, which), 0) for which in CHECKPOINT_TOPICS])


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--runs", type=int, nargs="+", default=[20_000, 80_000])
    flags.add_argument("--copies", type=int, default=1, help="of each record; as many brokers are started")
    flags.add_argument("--brokers", default="")
    run(main, flags.parse_args())
