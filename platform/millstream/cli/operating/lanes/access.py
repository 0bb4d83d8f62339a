"""Read access to the lanes of a data directory (`--data`), or of a group on Kafka (`--brokers`).

    async with lane_access(settings) as access:     access.log, access.made        nothing is ever changed
    await access.positions(lane)                    how far the lane's inbox and sources are read

On Kafka, positions are those that the group has committed, about a second old; those of a data directory are folded
from the lane's journal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from millstream.cli.operating.lanes.journal import tables_of
from millstream.cli.support.kafka_group import kafka_of, shape_of
from millstream.config import Settings
from millstream.errors import ConfigError
from millstream.group_note import Made, made_with
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.kafka.admin.client import Admin
from millstream.log.kafka.log import KafkaLog
from millstream.log.port import Log
from millstream.model.ids import lane_of_source
from millstream.model.messages import group_topic

Positions = dict[tuple[str, int], int]
ROWS_MAX: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class LaneAccess:
    """A log to read, and the settings of its group. ``files``: its data directory; None: it is on Kafka."""

    log: Log
    made: Made
    files: Path | None
    positions: Callable[[int], Awaitable[Positions]]


@contextlib.asynccontextmanager
async def lane_access(settings: Settings) -> AsyncIterator[LaneAccess]:
    """Open it to read. Raises ConfigError where there is none."""
    if not settings.is_default("brokers"):
        async with _on_kafka(settings) as access:
            yield access
        return
    data = Path(settings.text("data"))
    made = made_with(data)
    if made is None:
        raise ConfigError(
            f"{data} is no data directory of millstream dev. Name one with --data, or a group on Kafka with --brokers."
        )
    log = await EmbeddedLog.open(data / "log", readonly=True)

    async def positions(lane: int) -> Positions:
        tables, _ = await tables_of(log, made, lane)
        return {key: row.offset for key, row in tables.positions.scan(limit=ROWS_MAX)}

    try:
        yield LaneAccess(log, made, data, positions)
    finally:
        await log.close()


@contextlib.asynccontextmanager
async def _on_kafka(settings: Settings) -> AsyncIterator[LaneAccess]:
    kafka, shape = kafka_of(settings), shape_of(settings)
    log = await KafkaLog.open(kafka)
    try:
        journal = await log.topic(group_topic(shape.group, "journal"))
        if journal is None:
            raise ConfigError(
                f"there is no group {shape.group!r} at {kafka.brokers}: it has no journal. "
                "Name another one with --group."
            )
        made = Made(shape.group, journal.partitions)
        inbox = group_topic(shape.group, "inbox")

        async def positions(lane: int) -> Positions:
            committed = await asyncio.to_thread(lambda: Admin(kafka).committed(shape.group))
            return {
                (topic, partition): offset
                for (topic, partition), offset in committed.items()
                if (partition if topic == inbox else lane_of_source(topic, partition, made.lanes)) == lane
            }

        yield LaneAccess(log, made, None, positions)
    finally:
        await log.close()
