"""Events that no function subscribes to: how many a second a lane reads and passes over.

    python -m bench.skipping [--events 300000] [--bytes 1000]
    python -m bench.skipping --kafka                  on a broker that is started; --brokers HOST:PORT: on yours

The topic is filled first; then a worker with one lane starts on it and reads to its end. Nothing is recorded for such
an event but, twice a second, how far the topic is read. ``cpu_us_per_event`` is the processor time of the whole
process, start included: with other load on the machine it is the figure to compare.

Caveats: one lane in one process. The embedded log reads back from its file; on Kafka the records come from the broker's
page cache, the consumer's own threads are within the CPU figure, and the broker shares the cores. Every event has one
name. The start of the worker, joining its group included, is within the time: more events make it matter less.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path

from confluent_kafka import Producer

from bench.rig.brokers import brokers
from bench.rig.engine import Engine
from bench.rig.figures import Stopwatch, emit
from bench.rig.functions import NOBODY
from bench.rig.loop import LOOP, parser, run
from bench.rig.roles import Group
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.port import Produced, TopicSpec
from millstream.model.event import Envelope
from millstream.model.ids import encode_ulid
from millstream.wire.messages import encode_envelope

BATCH = 1_000
EVENTS = "events"


def _events(first: int, behind: int, size: int) -> list[bytes]:
    now_ms = time.time_ns() // 1_000_000
    data = b'{"n":"%s"}' % (b"x" * max(size - 8, 0))
    ids = [encode_ulid(now_ms << 80 | number) for number in range(first, behind)]
    return [encode_envelope(Envelope(id, id, False, NOBODY, data, now_ms, now_ms)) for id in ids]


async def fill(directory: Path, events: int, size: int) -> None:
    """So many events into the topic of an embedded log."""
    log = await EmbeddedLog.open(directory / "log", durability="os")
    await log.create_topics([TopicSpec(EVENTS, 1)])
    writer = log.writer(EVENTS, 0)
    for first in range(0, events, BATCH):
        await writer.append([Produced(value) for value in _events(first, min(first + BATCH, events), size)])
    await writer.close()
    await log.close()


def fill_kafka(servers: str, topic: str, events: int, size: int) -> None:
    """The same on Kafka."""
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 5})
    for first in range(0, events, BATCH):
        for value in _events(first, min(first + BATCH, events), size):
            producer.produce(topic, value, partition=0)
        producer.flush()


async def main(given: argparse.Namespace, directory: Path) -> None:
    """Fill the topic, then let a worker pass over it."""
    if not given.kafka and not given.brokers:
        await fill(directory, given.events, given.bytes)
        await _passed(given, Engine(directory, lambda facts, at_ms: None, durability="os"), "")
        return
    with brokers(given.brokers, directory / "brokers") as (servers, _):
        group = Group(servers, directory, lanes=1, copies=1)
        await asyncio.to_thread(fill_kafka, servers, f"{group.name}-events", given.events, given.bytes)
        engine = Engine(directory, lambda facts, at_ms: None, brokers=servers, group=group.name)
        await _passed(given, engine, ", Kafka")


async def _passed(given: argparse.Namespace, engine: Engine, where: str) -> None:
    watch = Stopwatch([os.getpid()])
    async with engine:
        positions = engine.worker.lanes[0].tables.durable.positions
        while (row := positions.get((engine.events_topic, 0))) is None or row.offset < given.events:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        lap = watch.stop()
    emit(
        f"events that no function subscribes to, passed over{where}",
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
    flags.add_argument("--kafka", action="store_true")
    flags.add_argument("--brokers", default="")
    run(main, flags.parse_args())
