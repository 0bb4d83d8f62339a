"""``held_partitions``: the partitions of a group's foreign topics that wait for a schema, seen from outside workers.

A lane keeps to itself that it holds a partition. From outside it shows so: the position that the group has committed
does not move, a record lies there, and with the same schemas it cannot be read either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from millstream.core.triggers.catalogue import Catalogue
from millstream.errors import Corruption, OffsetOutOfRange
from millstream.lane.input.foreign import Foreign, ForeignReader
from millstream.lane.maintenance.offsets import COMMIT_EVERY_S
from millstream.lane.port import Schemas
from millstream.log.port import Log
from millstream.log.read_all import read_all
from millstream.model.function import AppSpec
from millstream.model.messages import group_topic
from millstream.telemetry import Telemetry
from millstream.wire.messages import decode_app

STANDS_AFTER_S: Final = 3 * COMMIT_EVERY_S
PARTITIONS_MAX: Final = 1_000
READ_S: Final = 5.0
Positions = Mapping[tuple[str, int], int]


async def held_partitions(
    log: Log, group: str, events_topic: str, schemas: Schemas, committed: Callable[[], Positions]
) -> AsyncIterator[str]:
    """A line for each. ``committed`` asks for the group's positions, and may block. Raises what reading a log does."""
    if await log.topic(group_topic(group, "functions")) is None:
        return
    catalogue = await _catalogue(log, group, events_topic)
    foreign = catalogue.topics - {events_topic}
    before = {place: at for place, at in (await asyncio.to_thread(committed)).items() if place[0] in foreign}
    reader = ForeignReader(schemas, Telemetry(), 0)
    waiting: dict[tuple[str, int], str] = {}
    for place in sorted(before)[:PARTITIONS_MAX]:
        why = await _missing(log, place, before[place], catalogue, reader)
        if why:
            waiting[place] = why
    if not waiting:
        return
    await asyncio.sleep(STANDS_AFTER_S)
    after = await asyncio.to_thread(committed)
    for place, why in waiting.items():
        if after.get(place) == before[place]:
            yield f"topic {place[0]!r} partition {place[1]} is held at offset {before[place]}: {why}"


async def _catalogue(log: Log, group: str, events_topic: str) -> Catalogue:
    apps: dict[bytes | None, AppSpec] = {}
    async for page in read_all(log, group_topic(group, "functions"), 0):
        for record in page:
            apps.pop(record.key, None)
            try:
                if record.value is not None:
                    apps[record.key] = decode_app(record.value)
            except Corruption:
                continue  # Lanes refuse it, too.
    return Catalogue(tuple(function for app in apps.values() for function in app.functions), events_topic)


async def _missing(log: Log, place: tuple[str, int], at: int, catalogue: Catalogue, foreign: ForeignReader) -> str:
    """Why the record at a position cannot be read; nothing where it can be, or none is there."""
    topic, partition = place
    if await log.topic(topic) is None or await log.end_offset(topic, partition) <= at:
        return ""
    reader = log.reader(topic, partition, at)
    try:
        page = await reader.read(max_records=1, max_bytes=1, wait_s=READ_S)
    except OffsetOutOfRange:
        return ""  # Trimmed away: the lane says so.
    finally:
        await reader.close()
    readings = [one.reading for one in catalogue.readers(topic)]
    return await foreign.missing(readings, Foreign(topic, partition, page[0])) if page else ""
