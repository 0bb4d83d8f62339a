"""Records of foreign topics as commands: read as events when they are decided, once for each format asked for.

Reading needs no waiting, with one exception: a schema that is not known yet. ``learn`` gets such schemas before a
record is queued, so that deciding never waits.

The rule: a topic whose schema is not known is *held*, whether its registry is away, the registry has no subject of that
name, or nobody gave ``--schemas``: that is no fault of its records, and each would become a dead letter. It is said
once and counted in ``millstream_partitions_held``, and the partition goes on when the schema is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.errors import Corruption, OperatorError
from millstream.lane.port import Schemas
from millstream.log.port import Record
from millstream.model import limits
from millstream.model.commands import AcceptRecord, ReadRecord
from millstream.model.function import Reading
from millstream.telemetry import Telemetry, say
from millstream.wire.foreign import read_record
from millstream.wire.formats.content import ForeignRecord, SchemaWanted
from millstream.wire.formats.reading import may_want_schema

LOG: Final = logging.getLogger("millstream.lane.sources")
FETCH_AGAIN_S: Final = 1.0
SCHEMAS_OF_A_RECORD_MAX: Final = 8


class Foreign(NamedTuple):
    """An item of the lane's queue: a record of a foreign topic."""

    topic: str
    partition: int
    record: Record


class ForeignReader:
    """Reads with the schemas that are known. ``lane`` is the label of its metrics."""

    def __init__(self, schemas: Schemas, telemetry: Telemetry, lane: int) -> None:
        self._schemas = schemas
        self._telemetry = telemetry
        self._lane = lane
        self._held: set[tuple[str, int]] = set()
        self._count_held()

    def command(self, tables: Tables, item: Foreign) -> AcceptRecord | None:
        """The record read in each format that its functions ask for; None where that makes no event."""
        reads = (self.read(reader.reading, item) for reader in catalogue(tables).readers(item.topic))
        found = tuple(read for read in reads if read is not None)
        return AcceptRecord(item.topic, item.partition, item.record.offset, found) if found else None

    def read(self, reading: Reading, item: Foreign) -> ReadRecord | None:
        """The event of a record, or why there is none; None for a tombstone."""
        record = item.record
        try:
            event = read_record(reading, _foreign_record(item), self._schemas.known)
        except (Corruption, SchemaWanted) as error:
            reason = printable(f"topic {item.topic!r}: {error}")
            return ReadRecord(record.offset, reading, None, reason, record.key, record.value, record.headers)
        if event is None:
            return None
        return ReadRecord(record.offset, reading, event, "", record.key, record.value, record.headers)

    async def learn(self, readings: Iterable[Reading], item: Foreign) -> None:
        """Get the schemas that the record needs; holds its partition for as long as it takes."""
        readings = tuple(readings)
        why = await self.missing(readings, item)
        if not why:
            return
        async with self._holding(item, why):
            while why:
                await asyncio.sleep(FETCH_AGAIN_S)
                why = await self.missing(readings, item)

    async def missing(self, readings: Iterable[Reading], item: Foreign) -> str:
        """Ask once for the schemas that the record needs; why one of them cannot be had now, or nothing."""
        record = _foreign_record(item)
        for reading in readings:
            if not may_want_schema(reading.format, reading.schema, record):
                continue
            for _ in range(SCHEMAS_OF_A_RECORD_MAX):
                try:
                    read_record(reading, record, self._schemas.known)
                except SchemaWanted as wanted:
                    try:
                        await self._schemas.fetch(wanted.ref)
                    except OperatorError as error:
                        return str(error)
                except Corruption:
                    break  # It will be refused.
                else:
                    break
        return ""

    @asynccontextmanager
    async def _holding(self, item: Foreign, why: str) -> AsyncIterator[None]:
        """Say that a partition is held, once, and that it goes on."""
        topic, partition, offset = item.topic, item.partition, item.record.offset
        say(LOG, "partition held", level=logging.ERROR, topic=topic, partition=partition, offset=offset, why=why)
        self._held.add((topic, partition))
        self._count_held()
        try:
            yield
            say(LOG, "partition goes on", topic=topic, partition=partition, offset=offset)
        finally:
            self._held.discard((topic, partition))
            self._count_held()

    def _count_held(self) -> None:
        self._telemetry.set("millstream_partitions_held", len(self._held), str(self._lane))


def printable(reason: str) -> str:
    """A reason that any log, header or journal can carry: it may have bytes of the record in it."""
    return reason.encode("utf-8", "backslashreplace").decode()[: limits.ERROR_MESSAGE_CHARS_MAX]


def _foreign_record(item: Foreign) -> ForeignRecord:
    record = item.record
    return ForeignRecord(
        item.topic, item.partition, record.offset, record.at_ms, record.key, record.value, record.headers
    )
