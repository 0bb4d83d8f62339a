"""`millstream lanes list | inspect | verify` on a group's topics."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from millstream import App, Context
from millstream.log.group_topics import GroupShape, topics_of
from millstream.log.kafka.log import KafkaLog, KafkaOptions
from millstream.log.port import Produced
from millstream.model.event import Envelope
from millstream.model.ids import lane_of_source, ulid
from millstream.state.memory import MemoryStore
from millstream.wire.messages import encode_envelope
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker
from tests.cli.program import millstream
from tests.kafka.broker import Broker, fresh
from tests.kafka.logs import SOON_S, settings_for, until

LANES = 2
AT_MS = 1_795_356_850_000


def app_of(group: str, done: list[int]) -> App:
    app = App(group)

    @app.function(on="lane/asked")
    async def answer(ctx: Context) -> None:
        done.append(await ctx.step.run("count", lambda: ctx.event.data["n"]))

    return app


async def test_a_group_on_kafka_is_looked_into_from_outside(kafka: Broker, tmp_path: Path) -> None:
    group, done = fresh("seen"), list[int]()
    shape = GroupShape(group=group, lanes=LANES, events_topic=f"{group}-events")

    def source_of(row: Any) -> str:
        partition = next(p for p in range(LANES) if lane_of_source(shape.events_topic, p, LANES) == row["lane"])
        return f"{shape.events_topic}/{partition}"

    log = await KafkaLog.open(settings_for(kafka, "classic"), KafkaOptions(name="wanda"))
    await log.create_topics(topics_of(shape))
    worker = Worker(
        WorkerParts(
            log=log, group=group, lanes=LANES, apps=[app_of(group, done)], make_store=lambda lane: MemoryStore(),
            name="wanda", events_topic=shape.events_topic, events_retention_ms=shape.kept_ms,
        )
    )  # fmt: skip
    await worker.start()
    try:
        for partition in range(LANES):
            writer = log.writer(shape.events_topic, partition)
            id = ulid(AT_MS, partition.to_bytes(10, "big"))
            event = Envelope(id, id, False, "lane/asked", b'{"n": %d}' % partition, AT_MS, AT_MS)
            await writer.append([Produced(encode_envelope(event))])
            await writer.close()
        await until(lambda: sorted(done) == list(range(LANES)))
        call = ("--brokers", kafka.bootstrap, "--group", group)
        rows: list[Any] = []
        async with asyncio.timeout(SOON_S):
            # Positions are committed once a second, those of a lane's own source with the others or later.
            while len(rows) < LANES or any(row["lag"] or source_of(row) not in row["lags"] for row in rows):
                rows = (await asyncio.to_thread(millstream, "lanes", "list", *call, cwd=tmp_path)).rows
        assert [(row["lane"], row["owner"]) for row in rows] == [(0, "wanda"), (1, "wanda")]
        for row in rows:
            assert row["since"] > "2026"
            assert row["journal"] >= 3
            assert row["lags"][source_of(row)] == 0
            assert row["lag"] == 0
        seen = (await asyncio.to_thread(millstream, "lanes", "inspect", *call, cwd=tmp_path)).rows
        assert [(row["fences"], row["worker"], row["open_runs"]) for row in seen] == [(1, "wanda", 0)] * LANES
        verified = await asyncio.to_thread(millstream, "lanes", "verify", *call, cwd=tmp_path)
        assert (verified.code, "no problems" in verified.err) == (0, True)
        nobody = await asyncio.to_thread(millstream, "lanes", "list", *call[:-1], fresh("none"), cwd=tmp_path)
        assert (nobody.code, "it has no journal" in nobody.err) == (2, True)
    finally:
        await worker.stop(5)
        await log.close()
