"""Brokers that die and come back: does a client find out who leads a partition now, however often that changes?"""

from __future__ import annotations

import asyncio
from pathlib import Path

from millstream.errors import LogUnavailable
from millstream.log.kafka.log import KafkaLog
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import Produced, TopicSpec
from tests.kafka.broker import own_broker

PARTITIONS = 6
SOON_S = 120.0


async def test_ends_are_told_again_whichever_broker_has_died_and_come_back(tmp_path: Path) -> None:
    with own_broker(tmp_path, 3) as cluster:
        log = await KafkaLog.open(KafkaSettings(brokers=cluster.bootstrap))
        try:
            await log.create_topics([TopicSpec("things", PARTITIONS)])
            for number, node in enumerate((1, 2)):
                await asyncio.to_thread(cluster.kill, node)
                await _ends(log, number)  # New leaders.
                await asyncio.to_thread(cluster.revive, node)
                await _ends(log, number)
                for partition in range(PARTITIONS):
                    await _appended(log, partition)
        finally:
            await log.close()


async def _ends(log: KafkaLog, expected: int) -> None:
    async with asyncio.timeout(SOON_S):
        for partition in range(PARTITIONS):
            while True:
                try:
                    assert await log.end_offset("things", partition) == expected
                    break
                except LogUnavailable:
                    await asyncio.sleep(0.1)


async def _appended(log: KafkaLog, partition: int) -> None:
    async with asyncio.timeout(SOON_S):
        writer = log.writer("things", partition)
        await writer.append([Produced(b"x")])
        await writer.close()
