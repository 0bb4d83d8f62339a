"""Producing events straight to the events topic from Python: values made beforehand, and made on the way.

    python -m bench.producer [--events 400000] [--rounds 3] [--brokers HOST:PORT]

Each event is an envelope of 1 KB in Avro with a key, written with acks=all by an idempotent producer as
docs/how-to/produce-events.md shows; the clock stops when the last one is acknowledged. Made on the way means: an
``Event`` by ``millstream.event_record``, or the data by ``json`` and the envelope by fastavro as a program without
millstream would, one event at a time. Without ``--brokers`` a broker is started for it.

Caveats: the broker shares the cores (``generator_cores`` is what it took of them); a first round, which is not printed,
warms it up. There is one copy of each record: three cost the brokers three times as much. Delivery reports are
counted, not looked at one by one.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import fastavro
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from bench.rig.brokers import brokers
from bench.rig.figures import ROOT, Stopwatch, emit
from bench.rig.loop import parser, run
from millstream import Event, event_record

TOPIC: Final = "bench-events"
PARTITIONS: Final = 8
VALUE_BYTES: Final = 1_000
CUSTOMERS: Final = 1_000
WANTED: Final = {"made beforehand": 70_000, "made on the way": 40_000, "made on the way by fastavro": None}
POLL_EVERY: Final = 256
SCHEMA: Final = fastavro.parse_schema(json.loads((ROOT / "schemas" / "messages" / "event.avsc").read_text()))
DATA: Final = {"order": 4711, "amount": 99.5, "customer": "c-1234567890", "note": "x" * 868}


def envelope(n: int, now_ms: int) -> bytes:
    """An event as any program may write it, with nothing of millstream but its schema."""
    id = f"order-{n:012d}"
    target = io.BytesIO()
    fastavro.schemaless_writer(
        target,
        SCHEMA,
        {
            "internal_id": "", "id": id, "id_is_clients": True, "name": "order/placed",
            "data": json.dumps({**DATA, "n": n}).encode(), "ts_ms": now_ms, "received_at_ms": now_ms,
            "user": b"", "meta": b"",
        },
    )  # fmt: skip
    return target.getvalue()


def beforehand(values: list[bytes]) -> Iterator[bytes]:
    """Values that are there already."""
    return iter(values)


def on_the_way(events: int) -> Iterator[bytes]:
    """The same, each made when it is its turn."""
    return (event_record(Event("order/placed", {**DATA, "n": n}, id=f"order-{n:012d}")).value for n in range(events))


def by_fastavro(events: int) -> Iterator[bytes]:
    """The same without millstream."""
    return (envelope(n, time.time_ns() // 1_000_000) for n in range(events))


class Load:
    """A producer, and how many of its events were acknowledged."""

    def __init__(self, brokers: str) -> None:
        self.acknowledged = self.failed = 0
        self._keys = [f"customer-{n}".encode() for n in range(CUSTOMERS)]
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "partitioner": "murmur2_random",
                "batch.size": 1 << 20,
                "queue.buffering.max.messages": 200_000,
            }
        )

    def send(self, values: Iterator[bytes]) -> None:
        """Write them all; return when each is acknowledged or has failed."""
        producer, keys = self._producer, self._keys
        for n, value in enumerate(values):
            while True:
                try:
                    producer.produce(TOPIC, value, keys[n % CUSTOMERS], on_delivery=self._on_delivery)
                    break
                except BufferError:
                    producer.poll(0.01)  # Full: wait for reports.
            if n % POLL_EVERY == 0:
                producer.poll(0)
        producer.flush()

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.failed += 1


async def main(given: argparse.Namespace, directory: Path) -> None:
    """The ways in turns, so that the machine is the same for both."""
    with brokers(given.brokers, directory) as (servers, pids):
        await asyncio.to_thread(_measure, given, servers, pids)


def _measure(given: argparse.Namespace, servers: str, pids: list[int]) -> None:
    client = AdminClient({"bootstrap.servers": servers})
    client.create_topics([NewTopic(TOPIC, PARTITIONS, 1, config={"retention.bytes": "200000000"})])[TOPIC].result(30)
    values = [envelope(n, 1_795_356_850_000) for n in range(given.events)]
    assert abs(len(values[0]) - VALUE_BYTES) < 100, len(values[0])
    ways: dict[str, Callable[[], Iterator[bytes]]] = {
        "made beforehand": lambda: beforehand(values),
        "made on the way": lambda: on_the_way(given.events),
        "made on the way by fastavro": lambda: by_fastavro(given.events),
    }
    Load(servers).send(beforehand(values))
    for _ in range(given.rounds):
        for way, make in ways.items():
            load = Load(servers)
            watch = Stopwatch([os.getpid()], pids)
            load.send(make())
            lap = watch.stop()
            assert load.failed == 0, f"{load.failed} events were refused"
            emit(
                f"events produced directly, {len(values[0])} bytes, {way}",
                load.acknowledged / lap.took_s,
                "events/s",
                lap,
                n=load.acknowledged,
                wanted=WANTED[way],
                cpu_us_per_event=round(lap.cpu_s[0] / load.acknowledged * 1e6, 2),
            )


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--events", type=int, default=400_000)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--brokers", default="")
    run(main, flags.parse_args())
