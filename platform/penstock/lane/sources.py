"""What comes into a lane: records of its sources, of its inbox, of the catalogue; each read by a task of its own.

Every record becomes an item of the lane's queue together with the position behind it, so that the journal record that
holds what came of it also holds the position: a restart goes on exactly there. A source pauses while the queue is full.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from penstock.errors import Corruption, LogUnavailable, OffsetOutOfRange
from penstock.log.port import Log, Membership, Reader, Record
from penstock.model.commands import (
    AcceptEvent,
    CancelRun,
    Command,
    InvokeFunction,
    NoteGap,
    RefuseRecord,
    SeeCatalogue,
    StillRunning,
    TakeMessage,
)
from penstock.model.journal import Position
from penstock.model.messages import group_topic
from penstock.model.place import Place
from penstock.telemetry import say
from penstock.wire.messages import decode_app, decode_envelope, decode_inbox

LOG: Final = logging.getLogger("penstock.lane.sources")
READ_RECORDS_MAX: Final = 1_000
READ_BYTES_MAX: Final = 4 * 1024 * 1024
READ_WAIT_S: Final = 5.0
RETRY_S: Final = 0.2


class Taken(NamedTuple):
    """An item of the lane's queue: a command (or none) that came from a topic, and the position behind it."""

    command: Command | None
    position: Position


class Intake:
    """Reads everything a lane takes in. ``submit`` queues an item.

    Inbox and sources are read as the group's member, and ``reading`` names those that are; the catalogue belongs to
    nobody. ``room`` waits until new work may come in, ``space`` only until the queue has room: cancelling a run must
    be possible while as many run as can.
    """

    def __init__(
        self,
        log: Log,
        membership: Membership,
        place: Place,
        submit: Callable[[Command | Taken], None],
        *,
        room: Callable[[], Awaitable[None]],
        space: Callable[[], Awaitable[None]],
        heard: Callable[[StillRunning], None],
    ) -> None:
        self._heard = heard
        self._log = log
        self._membership = membership
        self._functions = group_topic(place.group, "functions")
        self._inbox = group_topic(place.group, "inbox")
        self._lane = place.lane
        self.reading: set[tuple[str, int]] = set()
        self._submit = submit
        self._room = room
        self._space = space
        self._catalogue = 0  # How much of the functions topic has been queued.
        self._catalogue_moved = asyncio.Event()

    async def run_source(self, topic: str, partition: int, offset: int) -> None:
        """Read a source for ever; one record that can't be read never stops it."""
        submit = self._submit
        async with aclosing(self._member_pages(topic, partition, offset, self._room)) as pages:
            async for page, _ in pages:
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
        """Read the functions topic for ever. An app that can't be read is refused, and stays as it was before."""
        self._catalogue = offset
        async with aclosing(
            self._pages(self._log.reader(self._functions, 0, offset), self._functions, 0, self._space)
        ) as pages:
            async for page, behind in pages:
                for record in page:
                    self._submit(Taken(self._app(record), Position(self._functions, 0, record.offset + 1)))
                if behind > (page[-1].offset + 1 if page else self._catalogue):
                    # Compaction left nothing in between, and no more will come: a door may have seen that far.
                    self._submit(Taken(None, Position(self._functions, 0, behind)))
                self._catalogue = max(behind, self._catalogue)
                self._catalogue_moved.set()
                self._catalogue_moved = asyncio.Event()

    def _app(self, record: Record) -> Command:
        key = record.key or b""
        try:
            app = decode_app(record.value) if record.value is not None else None
        except Corruption as error:
            reason = f"the record is no app: {error}"
            return RefuseRecord(self._functions, 0, record.offset, reason, key, record.value or b"")
        return SeeCatalogue(key.decode("utf-8", "replace"), app, record.offset)

    async def _catalogue_at(self, offset: int) -> None:
        """Wait until everything a door had seen when it stamped an event is queued before that event.

        No door can have seen what is not there: a stamp beyond the topic's end is taken for its end.
        """
        while self._catalogue < offset:
            moved = self._catalogue_moved
            try:
                offset = min(offset, await self._log.end_offset(self._functions, 0))
            except LogUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            if self._catalogue < offset:
                await moved.wait()

    async def run_inbox(self, offset: int) -> None:
        """Read the lane's inbox for ever."""
        async with aclosing(self._member_pages(self._inbox, self._lane, offset, self._space)) as pages:
            async for page, _ in pages:
                for record in page:
                    self._message(record)

    def _message(self, record: Record) -> None:
        behind = Position(self._inbox, self._lane, record.offset + 1)
        value = record.value or b""
        try:
            found = decode_inbox(value)
        except Corruption as error:
            sender = _sender(record.key)
            if sender is not None:
                # Its sender knows it to be delivered, and will not send it again: count it as taken, or those behind
                # it would wait for ever. What it was is in the dead letters.
                nothing = TakeMessage(*sender, CancelRun("", "the message could not be read"))
                self._submit(Taken(nothing, Position(self._inbox, self._lane, record.offset)))
            reason = f"the record is no message: {error}"
            self._submit(
                Taken(RefuseRecord(self._inbox, self._lane, record.offset, reason, record.key or b"", value), behind)
            )
            return
        message = found.message
        if isinstance(message, StillRunning):
            self._heard(message)
        if found.from_lane >= 0 and isinstance(message, CancelRun | InvokeFunction):
            self._submit(Taken(TakeMessage(found.from_lane, found.seq, message), behind))
        else:
            self._submit(Taken(message, behind))

    async def _member_pages(
        self, topic: str, partition: int, offset: int, room: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[tuple[Sequence[Record], int], None]:
        """The pages of a partition that this lane's owner reads as the group's member."""
        reader = self._membership.reader(topic, partition, offset)
        self.reading.add((topic, partition))
        try:
            async with aclosing(self._pages(reader, topic, partition, room)) as pages:
                async for page in pages:
                    yield page
        finally:
            self.reading.discard((topic, partition))

    async def _pages(
        self, reader: Reader, topic: str, partition: int, room: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[tuple[Sequence[Record], int], None]:
        """Every record from a reader's position on, in pages with the position behind each; goes on after a failure."""
        try:
            while True:
                await room()
                try:
                    page = await reader.read(max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=READ_WAIT_S)
                except OffsetOutOfRange as error:
                    if reader.position > error.end:
                        raise
                    say(
                        LOG,
                        "records lost",
                        level=logging.ERROR,
                        topic=topic,
                        partition=partition,
                        first=reader.position,
                        end=error.start,
                        why="they were removed before this lane had read them",
                    )
                    self._submit(NoteGap(topic, partition, reader.position, error.start))
                    reader.seek(error.start)
                    continue
                except LogUnavailable:
                    await asyncio.sleep(RETRY_S)
                    continue
                yield page, reader.position
        finally:
            await reader.close()


def _sender(key: bytes | None) -> tuple[int, int] | None:
    """The lane and number in a message's key (``outbox.message_key``), or None."""
    lane, colon, seq = (key or b"").partition(b":")
    return (int(lane), int(seq)) if colon and lane.isdigit() and seq.isdigit() else None
