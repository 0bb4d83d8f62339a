"""What comes into a lane: records of its sources, of its inbox, of the catalogue; each read by a task of its own.

Every record becomes an item of the lane's queue together with the position behind it, so that the journal record that
holds what came of it also holds the position: a restart goes on exactly there. A source pauses while the queue is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from penstock.errors import Corruption, LogUnavailable, OffsetOutOfRange
from penstock.log.port import Log, Reader, Record
from penstock.model.commands import AcceptEvent, Command, NoteGap, RefuseRecord, SeeCatalogue, TakeMessage
from penstock.model.journal import Position
from penstock.model.messages import group_topic
from penstock.wire.messages import decode_app, decode_envelope, decode_inbox

READ_RECORDS_MAX: Final = 1_000
READ_BYTES_MAX: Final = 4 * 1024 * 1024
READ_WAIT_S: Final = 5.0
RETRY_S: Final = 0.2


class Taken(NamedTuple):
    """An item of the lane's queue: a command (or none) that came from a topic, and the position behind it."""

    command: Command | None
    position: Position


class Intake:
    """Reads everything a lane takes in. ``submit`` queues an item; ``room`` waits until the queue has room."""

    def __init__(
        self,
        log: Log,
        group: str,
        lane: int,
        submit: Callable[[Command | Taken], None],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self._log = log
        self._functions = group_topic(group, "functions")
        self._inbox = group_topic(group, "inbox")
        self._lane = lane
        self._submit = submit
        self._room = room
        self._catalogue = 0  # How much of the functions topic has been queued.
        self._catalogue_moved = asyncio.Event()

    async def run_source(self, topic: str, partition: int, offset: int) -> None:
        """Read a source for ever; one record that can't be read never stops it."""
        submit = self._submit
        async for page in self._pages(topic, partition, offset):
            for record in page:
                value = record.value
                try:
                    event = decode_envelope(value if value is not None else b"")
                except Corruption as error:
                    reason = f"the record is no event: {error}" if value is not None else "the record has no value"
                    submit(RefuseRecord(topic, partition, record.offset, reason, record.key or b"", value or b""))
                    continue
                if event.catalogue > self._catalogue:
                    await self._catalogue_at(event.catalogue)
                submit(AcceptEvent(event, topic, partition, record.offset))

    async def run_catalogue(self, offset: int) -> None:
        """Read the functions topic for ever."""
        self._catalogue = offset
        async for page in self._pages(self._functions, 0, offset):
            for record in page:
                position = Position(self._functions, 0, record.offset + 1)
                app_id = (record.key or b"").decode("utf-8", "replace")
                app = decode_app(record.value) if record.value is not None else None
                self._submit(Taken(SeeCatalogue(app_id, app, record.offset), position))
                self._catalogue = record.offset + 1
            self._catalogue_moved.set()
            self._catalogue_moved = asyncio.Event()

    async def _catalogue_at(self, offset: int) -> None:
        """Wait until everything a door had seen when it stamped an event is queued before that event."""
        while self._catalogue < offset:
            await self._catalogue_moved.wait()

    async def run_inbox(self, offset: int) -> None:
        """Read the lane's inbox for ever."""
        async for page in self._pages(self._inbox, self._lane, offset):
            for record in page:
                position = Position(self._inbox, self._lane, record.offset + 1)
                self._submit(Taken(self._message(record), position))

    def _message(self, record: Record) -> Command:
        value = record.value or b""
        try:
            found = decode_inbox(value)
        except Corruption as error:
            reason = f"the record is no message: {error}"
            return RefuseRecord(self._inbox, self._lane, record.offset, reason, b"", value)
        return found.message if found.from_lane < 0 else TakeMessage(found.from_lane, found.seq, found.message)

    async def _pages(self, topic: str, partition: int, offset: int) -> AsyncIterator[Sequence[Record]]:
        """Every record from an offset on, in pages; pauses while the queue is full, reopens after a failure."""
        reader: Reader = self._log.reader(topic, partition, offset)
        try:
            while True:
                await self._room()
                try:
                    page = await reader.read(max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=READ_WAIT_S)
                except OffsetOutOfRange as error:
                    if reader.position > error.end:
                        raise
                    self._submit(NoteGap(topic, partition, reader.position, error.start))
                    reader.seek(error.start)
                    continue
                except LogUnavailable:
                    await asyncio.sleep(RETRY_S)
                    continue
                yield page
        finally:
            await reader.close()
