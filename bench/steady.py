"""Minutes of full load with a short retention: memory, disk and topics must stay flat.

    python -m bench.steady [--minutes 10] [--outstanding 1000]
    python -m bench.steady --kafka --lanes 4       on a broker that is started; --brokers HOST:PORT: on yours

The closed loop of ``runs_http`` against the dev composition, with history, retention and trim lag set to a minute. A
line every minute: runs a second, resident size of server and history, what the data directory takes. Growing until
retention first bites is right; the last line compares the end with the third minute (or the half, if shorter).

On Kafka: the closed loop of ``runs`` with the same times, a history process that follows it, and what each topic holds
in records besides.

Caveats: the seen ids of ten minutes are kept whatever the retention is (that is how dedupe works): some growth of
state/ and memory up to the tenth minute is theirs. SQLite's files do not shrink at once; they are used again. What is
kept grows with the rate: on a machine that does other work, compare sizes by runs. Kafka removes whole segments, so
that a topic's size goes up and down by one; records below the start are gone for readers at once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from bench.rig.brokers import brokers
from bench.rig.engine import ClosedLoop, Engine
from bench.rig.figures import Stopwatch, directory_mb, emit, resident_mb
from bench.rig.loop import LOOP, parser, run
from bench.rig.served import Server
from bench.runs_http import Poster
from millstream.history.child import Child
from millstream.history.process import Options
from millstream.history.service import Follows
from millstream.lane.settings import LaneSettings
from millstream.log.kafka.settings import KafkaSettings

MINUTE_MS = 60_000
EVENTS_PER_POST = 100
ENDLESS = 1 << 40
TOPICS = ("journal", "inbox", "steps", "timers", "keys", "replies", "dead-letters")


async def main(given: argparse.Namespace, directory: Path) -> None:
    """So many minutes, on the embedded log or on Kafka."""
    if given.kafka or given.brokers:
        with brokers(given.brokers, directory / "brokers") as (servers, pids):
            await _on_kafka(given, directory, servers, pids)
        return
    settings = {"history_ms": MINUTE_MS, "trim_lag_ms": MINUTE_MS}
    server = Server(directory / "data", durability=given.durability, settings=settings)
    await server.start()
    try:
        poster = Poster(server, EVENTS_PER_POST, given.outstanding)
        await poster.open(server.url)
        posting = asyncio.ensure_future(poster.run(ENDLESS, within_s=given.minutes * 60 + 60))
        seen: list[tuple[float, float]] = []
        for minute in range(1, given.minutes + 1):
            seen.append(await _minute(given, server, poster, minute))
            if posting.done():
                posting.result()
        posting.cancel()
        _compare(given, seen)
    finally:
        server.stop()


def _compare(given: argparse.Namespace, seen: Sequence[tuple[float, float]]) -> None:
    """The end with the third minute: memory, and disk or records kept."""
    early = seen[min(2, len(seen) // 2)]
    memory, kept = (seen[-1][which] / max(early[which], 1.0) for which in (0, 1))
    emit(
        f"growth from minute {seen.index(early) + 1} to {given.minutes} of full load",
        max(memory, kept),
        "times",
        Stopwatch().stop(),
        memory_times=round(memory, 2),
        kept_times=round(kept, 2),
        c=given.outstanding,
        durability="acks=all" if given.kafka or given.brokers else given.durability,
        loop=LOOP,
    )


async def _minute(given: argparse.Namespace, server: Server, poster: Poster, minute: int) -> tuple[float, float]:
    watch, before = Stopwatch(server.pids, [os.getpid()]), poster.ended
    poster.latencies_s.clear()
    await asyncio.sleep(60)
    lap, runs = watch.stop(), poster.ended - before
    pids = server.pids
    memory, disk = resident_mb(pids[0]), directory_mb(server.data)
    parts = {f"{path.name}_mb": round(directory_mb(path)) for path in sorted(server.data.iterdir()) if path.is_dir()}
    emit(
        f"full load, minute {minute}",
        runs / lap.took_s,
        "runs/s",
        lap,
        latencies_s=poster.latencies_s,
        server_mb=round(memory),
        history_mb=round(sum(resident_mb(pid) for pid in pids[1:])),
        disk_mb=round(disk),
        **parts,
        c=given.outstanding,
        n=runs,
        runs=runs,
        durability=given.durability,
        loop=LOOP,
    )
    return memory, disk


async def _on_kafka(given: argparse.Namespace, directory: Path, servers: str, broker_pids: Sequence[int]) -> None:
    loop = ClosedLoop(given.outstanding)
    settings = LaneSettings(history_ms=MINUTE_MS, trim_lag_ms=MINUTE_MS)
    async with Engine(directory, loop.on_facts, lanes=given.lanes, brokers=servers, settings=settings) as engine:
        loop.engine = engine
        follows = Follows(group=engine.group, lanes=given.lanes, events=(engine.events_topic,), retention_ms=MINUTE_MS)
        kafka = KafkaSettings(brokers=servers, replication_factor=1, min_insync=1)
        child = Child(Options(index=directory / "history.db", follows=follows, kafka=kafka))
        child.start()
        running = asyncio.ensure_future(loop.run(ENDLESS, within_s=given.minutes * 60 + 60))
        seen: list[tuple[float, float]] = []
        try:
            for minute in range(1, given.minutes + 1):
                seen.append(await _kafka_minute(given, engine, loop, (minute, child.pid, *broker_pids)))
                child.check()
                if running.done():
                    running.result()
        finally:
            running.cancel()
            await child.stop()
        _compare(given, seen)


async def _kafka_minute(
    given: argparse.Namespace, engine: Engine, loop: ClosedLoop, numbers: tuple[int, ...]
) -> tuple[float, float]:
    minute, history, *broker_pids = numbers
    watch, before = Stopwatch([os.getpid(), history, *broker_pids]), loop.ended
    loop.latencies_s.clear()
    await asyncio.sleep(60)
    lap, runs = watch.stop(), loop.ended - before
    kept = {which: await _kept(engine, f"{engine.group}.{which}") for which in TOPICS}
    memory, index = resident_mb(os.getpid()), engine.directory / "history.db"
    emit(
        f"full load on Kafka, minute {minute}",
        runs / lap.took_s,
        "runs/s",
        lap,
        latencies_s=loop.latencies_s,
        server_mb=round(memory),
        history_mb=round(resident_mb(history)),
        index_mb=round(index.stat().st_size / 1e6) if index.exists() else 0,
        state_mb=round(directory_mb(engine.directory / "state")),
        brokers_mb=None if given.brokers else round(directory_mb(engine.directory / "brokers")),
        records_kept=kept,
        c=given.outstanding,
        n=runs,
        runs=runs,
        durability="acks=all",
        loop=LOOP,
    )
    return memory, float(kept["journal"])


async def _kept(engine: Engine, topic: str) -> int:
    """Records, or for a compacted topic offsets, between the start and the end of all its partitions."""
    spec = await engine.log.topic(topic)
    total = 0
    for partition in range(spec.partitions if spec is not None else 0):
        total += await engine.log.end_offset(topic, partition) - await engine.log.start_offset(topic, partition)
    return total


if __name__ == "__main__":
    flags = parser(__doc__)
    flags.add_argument("--minutes", type=int, default=10)
    flags.add_argument("--outstanding", type=int, default=1_000)
    flags.add_argument("--durability", default="fsync")
    flags.add_argument("--kafka", action="store_true")
    flags.add_argument("--brokers", default="")
    flags.add_argument("--lanes", type=int, default=4, help="on Kafka")
    run(main, flags.parse_args())
