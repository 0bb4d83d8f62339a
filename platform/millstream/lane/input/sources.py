"""The intake of a lane: records of its sources, its inbox and the catalogue, each read by a task of its own.

Every record becomes an item of the lane's queue together with the position behind it, so that one journal record holds
both the facts it led to and the position: a restart goes on exactly there. A source pauses while the queue is full.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from millstream.core.triggers.catalogue import Catalogue
from millstream.errors import Corruption, LogUnavailable, OffsetOutOfRange
from millstream.lane.input.foreign import Foreign, ForeignReader, printable
from millstream.lane.parts import Source
from millstream.log.port import Log, Membership, Reader, Record
from millstream.model.commands import (
    AcceptEvent,
    Command,
    LaneMessage,
    NoteGap,
    RefuseRecord,
    SeeCatalogue,
    StillRunning,
    TakeMessage,
)
from millstream.model.event import Envelope
from millstream.model.gates.overrides import SeeLimits
from millstream.model.journal import Position
from millstream.model.messages import group_topic
from millstream.model.place import Place
from millstream.model.run_requests import CancelRun
from millstream.telemetry import say
from millstream.wire.callback_key import is_groups_own
from millstream.wire.events_topic import Written, peek_event, read_event
from millstream.wire.limits_record import decode_limits, is_limits
from millstream.wire.messages import decode_app, decode_inbox
from millstream.wire.schemas import EventSchemas

LOG: Final = logging.getLogger("millstream.lane.sources")
READ_RECORDS_MAX: Final = 1_000
READ_BYTES_MAX: Final = 4 * 1024 * 1024
READ_WAIT_S: Final = 5.0
RETRY_S: Final = 0.2
CATALOGUE_LOOK_S: Final = 0.01


class PositionedCommand(NamedTuple):
    """An item of the queue: a command from a topic, and the position behind it. None: only the position moves."""

    command: Command | None
    position: Position


Item = Command | PositionedCommand | Foreign


class Intake:
    """Reads everything a lane takes in. ``submit`` queues an item.

    ``current_catalogue`` gives the catalogue that decides an item queued now; None while that is about to change.
    ``is_awaited`` tells whether somebody is known to wait for events of a name.

    Inbox and sources are read as the group's member, and ``reading`` names those that are; the catalogue has no owner.
    ``wait_to_accept_work`` waits until the lane can accept new work, ``wait_for_queue_capacity`` only for the queue:
    a run must be cancellable while as many run as can. ``on_page`` is told what was read of a source.
    """

    def __init__(
        self,
        log: Log,
        membership: Membership,
        place: Place,
        submit: Callable[[Item], None],
        *,
        current_catalogue: Callable[[], Catalogue | None],
        is_awaited: Callable[[str], bool],
        foreign: ForeignReader,
        schemas: EventSchemas,
        wait_to_accept_work: Callable[[], Awaitable[None]],
        wait_for_queue_capacity: Callable[[], Awaitable[None]],
        on_still_running: Callable[[StillRunning], None],
        on_page: Callable[[str, int, Sequence[Record]], None],
    ) -> None:
        self._on_page = on_page
        self._on_still_running = on_still_running
        self._log = log
        self._membership = membership
        self._functions = group_topic(place.group, "functions")
        self._inbox = group_topic(place.group, "inbox")
        self._lane = place.lane
        self._events_topic = place.events_topic
        self._current_catalogue = current_catalogue
        self._is_awaited = is_awaited
        self._foreign = foreign
        self._schemas = schemas
        self.reading: set[tuple[str, int]] = set()
        self.inbox_read = 0
        """The offset up to which the lane's inbox is queued."""
        self._submit = submit
        self._wait_to_accept_work = wait_to_accept_work
        self._wait_for_queue_capacity = wait_for_queue_capacity
        self.catalogue_offset = 0  # The functions topic is queued up to here.
        self._catalogue_moved = asyncio.Event()

    async def run_source(self, topic: str, partition: int, offset: int) -> None:
        """Read a source for ever; one record that can't be read never stops it."""
        if topic == self._events_topic:
            await self._run_events(partition, offset)
            return
        async with aclosing(self._member_pages(topic, partition, offset, self._wait_to_accept_work)) as pages:
            async for page, _ in pages:
                self._on_page(topic, partition, page)
                for record in page:
                    item = Foreign(topic, partition, record)
                    await self._learn(item)
                    self._submit(item)

    async def _learn(self, item: Foreign) -> None:
        """Get the schemas for every way in which the record will be read when it is decided.

        A catalogue that is about to change, or has while a schema was fetched, may ask for other ways.
        """
        while True:
            catalogue = self._current_catalogue()
            if catalogue is None:
                await asyncio.sleep(CATALOGUE_LOOK_S)
                continue
            await self._foreign.learn([reader.reading for reader in catalogue.readers(item.topic)], item)
            if self._current_catalogue() is catalogue:
                return

    async def _run_events(self, partition: int, offset: int) -> None:
        """Read the events topic. An event without subscribers costs a look at its name, a page of them one position."""
        topic, submit = self._events_topic, self._submit
        async with aclosing(self._member_pages(topic, partition, offset, self._wait_to_accept_work)) as pages:
            async for page, _ in pages:
                self._on_page(topic, partition, page)
                catalogue = self._current_catalogue()
                skipped = 0
                for record in page:
                    value = record.value
                    if catalogue is not None and value is not None:
                        peeked = peek_event(value)
                        if peeked and peeked[1] <= self.catalogue_offset and not self._is_heeded(catalogue, peeked[0]):
                            skipped = record.offset + 1
                            continue
                    try:
                        at = Written(topic, partition, record.offset, record.at_ms)
                        event = await self._event(at, value or b"")
                    except Corruption as error:
                        reason = f"the record is no event: {error}" if value is not None else "the record has no value"
                        submit(_refused((topic, partition), record, reason))
                        skipped = 0
                        continue
                    if event.catalogue > self.catalogue_offset:
                        await self._wait_for_catalogue(event.catalogue)
                        catalogue = self._current_catalogue()
                    if catalogue is not None and not self._is_heeded(catalogue, event.name):
                        skipped = record.offset + 1
                        continue
                    submit(AcceptEvent(event, topic, partition, record.offset))
                    skipped = 0
                if skipped:
                    submit(PositionedCommand(None, Position(topic, partition, skipped)))

    async def _event(self, at: Written, value: bytes) -> Envelope:
        """The event of a record, once its schema can be known. Raises Corruption."""
        held = False
        while True:
            try:
                return read_event(at, value, self._schemas)
            except LogUnavailable as unknown:
                if not held:
                    held = True
                    say(LOG, "partition held", level=logging.ERROR, topic=at.topic, partition=at.partition,
                        offset=at.offset, why=str(unknown))  # fmt: skip
                await asyncio.sleep(RETRY_S)

    def _is_heeded(self, catalogue: Catalogue, name: str) -> bool:
        """Whether an event of this name can lead to anything. One passed over just before somebody waits for it is
        found by the scan that the wait asks for."""
        return bool(catalogue.subscriptions(name)) or self._is_awaited(name)

    async def run_catalogue(self, offset: int) -> None:
        """Read the functions topic for ever. An app that can't be read is refused, and stays as it was before."""
        self.catalogue_offset = offset
        async with aclosing(
            self._pages(self._log.reader(self._functions, 0, offset), self._functions, 0, self._wait_for_queue_capacity)
        ) as pages:
            async for page, behind in pages:
                for record in page:
                    behind_it = Position(self._functions, 0, record.offset + 1)
                    command = self._of_catalogue(record)
                    self._submit(PositionedCommand(command, behind_it))
                if behind > (page[-1].offset + 1 if page else self.catalogue_offset):
                    # Compaction left nothing in between, and no more will come: a door may have seen that far.
                    self._submit(PositionedCommand(None, Position(self._functions, 0, behind)))
                self.catalogue_offset = max(behind, self.catalogue_offset)
                self._catalogue_moved.set()
                self._catalogue_moved = asyncio.Event()

    def _of_catalogue(self, record: Record) -> Command | None:
        """What a record of the functions topic says; None where it is the group's own, and nothing to lanes."""
        key = record.key or b""
        try:
            if is_limits(key):
                limits = decode_limits(key, record.value)
                return SeeLimits(limits.function, limits.overrides, record.offset)
            if is_groups_own(key):
                return None
            app = decode_app(record.value) if record.value is not None else None
        except Corruption as error:
            what = "limits" if is_limits(key) else "app"
            return _refused((self._functions, 0), record, f"the record is no {what}: {error}")
        return SeeCatalogue(key.decode("utf-8", "replace"), app, record.offset)

    async def _wait_for_catalogue(self, offset: int) -> None:
        """Wait until the catalogue is queued up to the offset that a door stamped on an event.

        A stamp beyond the topic's end counts as its end: no door can have seen more.
        """
        while self.catalogue_offset < offset:
            moved = self._catalogue_moved
            try:
                offset = min(offset, await self._log.end_offset(self._functions, 0))
            except LogUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            if self.catalogue_offset < offset:
                await moved.wait()

    async def run_inbox(self, offset: int) -> None:
        """Read the lane's inbox for ever."""
        async with aclosing(
            self._member_pages(self._inbox, self._lane, offset, self._wait_for_queue_capacity)
        ) as pages:
            async for page, behind in pages:
                for record in page:
                    self._message(record)
                self.inbox_read = behind

    def _message(self, record: Record) -> None:
        behind = Position(self._inbox, self._lane, record.offset + 1)
        try:
            found = decode_inbox(record.value or b"")
        except Corruption as error:
            sender = _sender(record.key)
            if sender is not None:
                # Its sender knows it to be delivered, and will not send it again: count it as taken, or those behind
                # it would wait for ever. What it was is in the dead letters.
                nothing = TakeMessage(*sender, CancelRun("", "the message could not be read"))
                self._submit(PositionedCommand(nothing, Position(self._inbox, self._lane, record.offset)))
            refused = _refused((self._inbox, self._lane), record, f"the record is no message: {error}")
            self._submit(PositionedCommand(refused, behind))
            return
        message = found.message
        if isinstance(message, StillRunning):
            self._on_still_running(message)
        if found.from_lane >= 0 and isinstance(message, LaneMessage):
            self._submit(PositionedCommand(TakeMessage(found.from_lane, found.seq, message), behind))
        else:
            self._submit(PositionedCommand(message, behind))

    async def _member_pages(
        self, topic: str, partition: int, offset: int, wait: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[tuple[Sequence[Record], int], None]:
        """The pages of a partition that this lane's owner reads as the group's member."""
        reader = self._membership.reader(topic, partition, offset)
        self.reading.add((topic, partition))
        try:
            async with aclosing(self._pages(reader, topic, partition, wait)) as pages:
                async for page in pages:
                    yield page
        finally:
            self.reading.discard((topic, partition))

    async def _pages(
        self, reader: Reader, topic: str, partition: int, wait: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[tuple[Sequence[Record], int], None]:
        """Every record from a reader's position on, in pages with the position behind each; goes on after a failure.

        A position that is not there is a gap: it was trimmed away, or the topic was made anew (never one of our own).
        """
        try:
            while True:
                await wait()
                try:
                    page = await reader.read(max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=READ_WAIT_S)
                except OffsetOutOfRange as error:
                    anew = reader.position > error.end
                    if anew and topic in (self._functions, self._inbox):
                        raise
                    say(
                        LOG,
                        "records lost",
                        level=logging.ERROR,
                        topic=topic,
                        partition=partition,
                        first=reader.position,
                        end=error.start,
                        why="the topic was made anew" if anew else "they were removed before this lane had read them",
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


def _refused(source: Source, record: Record, reason: str) -> RefuseRecord:
    return RefuseRecord(*source, record.offset, printable(reason), record.key, record.value, record.headers)


def _sender(key: bytes | None) -> tuple[int, int] | None:
    """The lane and number in a message's key (``outbox.message_key``), or None."""
    lane, colon, seq = (key or b"").partition(b":")
    return (int(lane), int(seq)) if colon and lane.isdigit() and seq.isdigit() else None
