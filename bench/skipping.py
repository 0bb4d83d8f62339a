"""Events of the events topic that no function subscribes to, read and passed over by a lane.

    python -m bench.skipping [--events 300000] [--bytes 1000]

The topic is filled first; then a worker with one lane starts on it and reads to its end. Nothing is recorded for such
an event but, twice a second, how far the topic is read. ``cpu_us_per_event`` is the processor time of the whole
process, start included: with other load on the machine it is the figure to compare.

Caveats: one lane in one process on the embedded log, which reads back from its file; on Kafka the consumer's own
threads come on top. Every event has one name.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path

from bench.rig.engine import Engine
from bench.rig.figures import Stopwatch, emit
from bench.rig.functions import NOBODY
from bench.rig.loop import LOOP, parser, run
from penstock.log.embedded import EmbeddedLog
from penstock.log.port import Produced, TopicSpec
from penstock.model.event import Envelope
from penstock.model.ids import encode_ulid
from penstock.wire.messages import encode_envelope

BATCH = 1_000
EVENTS = "events"


async def fill(directory: Path, events: int, size: int) -> None:
    """So many events into the topic."""
    log = await EmbeddedLog.open(directory / "log", durability="os")
    await log.create_topics([TopicSpec(EVENTS, 1)])
    writer = log.writer(EVENTS, 0)
    now_ms = time.time_ns() // 1_000_000
    data = b'{"n":"%s"}' % (b"x" * max(size - 8, 0))
    for first in range(0, events, BATCH):
        ids = [encode_ulid(now_ms << 80 | number) for number in range(first, min(first + BATCH, events))]
        await writer.append(
            [Produced(encode_envelope(Envelope(id, id, False, NOBODY, data, now_ms, now_ms))) for id in ids]
        )
    await writer.close()
    await log.close()


async def main(given: argparse.Namespace, directory: Path) -> None:
    """Fill the topic, then let a worker pass over it."""
    await fill(directory, given.events, given.bytes)
    watch = Stopwatch([os.getpid()])
    async with Engine(directory, lambda facts, at_ms: None, durability="os") as engine:
        tables = engine.worker.lanes[0].tables.durable
        while (row := tables.positions.get((EVENTS, 0))) is None or row.offset < given.events:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        lap = watch.stop()
    emit(
        "events that no function subscribes to, passed over",
        given.events / lap.took_s,
        "events/s",
        lap,
        n=given.events,
        cpu_us_per_event=round(sum(lap.cpu_s) / given.events * 1e6, 2),
        events_per_cpu_s=round(given.events / sum(lap.cpu_s)),
        bytes=given.bytes,
        loop=LOOP,
    )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--events", type=int, default=300_000)
    flags.add_argument("--bytes", type=int, default=1_000)
    run(main, flags.parse_args())
