"""Records of foreign topics as commands: read as events when they are decided, once for each format asked for.

Reading needs no waiting, with one exception: a schema that only a registry has. ``learn`` fetches such schemas before a
record is queued, so that deciding never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple

from millstream.core.catalogue import catalogue
from millstream.core.tables import Tables
from millstream.errors import Corruption, OperatorError
from millstream.lane.port import Schemas
from millstream.log.port import Record
from millstream.model.commands import AcceptRecord, ReadRecord
from millstream.model.function import Reading
from millstream.wire.foreign import read_record
from millstream.wire.formats.content import ForeignRecord, SchemaWanted

FETCH_AGAIN_S: Final = 1.0
SCHEMAS_OF_A_RECORD_MAX: Final = 8


class Foreign(NamedTuple):
    """An item of the lane's queue: a record of a foreign topic."""

    topic: str
    partition: int
    record: Record


class ForeignReader:
    """Reads with the schemas that are known."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

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
            reason = f"topic {item.topic!r}: {error}"
            return ReadRecord(record.offset, reading, None, reason, record.key, record.value, record.headers)
        if event is None:
            return None
        return ReadRecord(record.offset, reading, event, "", record.key, record.value, record.headers)

    async def learn(self, readings: Iterable[Reading], item: Foreign) -> None:
        """Fetch the schemas that the record needs; waits for as long as it takes."""
        if not self._schemas.known.has_registry:
            return
        for reading in readings:
            for _ in range(SCHEMAS_OF_A_RECORD_MAX):
                try:
                    read_record(reading, _foreign_record(item), self._schemas.known)
                except SchemaWanted as wanted:
                    await self._fetch(wanted)
                except Corruption:
                    break  # It will be refused.
                else:
                    break

    async def _fetch(self, wanted: SchemaWanted) -> None:
        while True:
            try:
                await self._schemas.fetch(wanted.ref)
            except OperatorError:
                await asyncio.sleep(FETCH_AGAIN_S)
            else:
                return


def _foreign_record(item: Foreign) -> ForeignRecord:
    record = item.record
    return ForeignRecord(
        item.topic, item.partition, record.offset, record.at_ms, record.key, record.value, record.headers
    )
