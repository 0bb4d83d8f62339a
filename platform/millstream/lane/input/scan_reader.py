"""The scan reader: a page, the command that moves the scan on, and the next page once that is durable.

A scan has its own reader, waits for capacity like any source, reads at most ``scan_records_per_s`` of a lane's records
a second, and ``SCANS_AT_ONCE_MAX`` scans of a lane read at a time: the live sources go first. Nothing here is
remembered: ``core/intake/scans.py`` owes the next page as an effect, and the row says where it begins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from millstream.core.tables import ScanKey, Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.core.waits.interests import SEEK
from millstream.errors import Corruption, OffsetOutOfRange, OperatorError
from millstream.lane.input.foreign import Foreign, ForeignReader, printable
from millstream.lane.input.subscriptions import offset_since
from millstream.lane.parts import LaneParts
from millstream.log.port import Record
from millstream.model.commands import AdvanceScan, ReadRecord
from millstream.model.effects import Scan
from millstream.model.function import Reading
from millstream.model.rows import ScanRow
from millstream.telemetry import say
from millstream.wire.events_topic import Written, read_event

LOG: Final = logging.getLogger("millstream.lane.scans")
PAGE_RECORDS_MAX: Final = 100
PAGE_BYTES_MAX: Final = 256 * 1024
READ_WAIT_S: Final = 1.0
RETRY_S: Final = 1.0
LOST_AFTER_S: Final = 5.0
"""Time after which a page without effect is read again: its function is gone, or its record was void."""
SCANS_AT_ONCE_MAX: Final = 2


class ScanReader:
    """Reads for the scans of one lane. ``submit`` queues a command."""

    def __init__(
        self,
        parts: LaneParts,
        tables: Tables,
        submit: Callable[[AdvanceScan], None],
        wait_to_accept_work: Callable[[], Awaitable[None]],
    ) -> None:
        self._log = parts.log
        self._foreign = ForeignReader(parts.schemas, parts.telemetry, parts.place.lane)
        self._events_topic = parts.place.events_topic
        self._records_per_s = parts.settings.scan_records_per_s
        self._sleep = parts.surroundings.sleep
        self._durable = tables
        self._submit = submit
        self._wait_to_accept_work = wait_to_accept_work
        self._slots = asyncio.Semaphore(SCANS_AT_ONCE_MAX)
        self._tasks: dict[ScanKey, asyncio.Task[None]] = {}
        self._moved: dict[ScanKey, asyncio.Event] = {}
        self._event_schemas = parts.event_schemas
        self._group: asyncio.TaskGroup | None = None
        self._waiting: set[ScanKey] = set()
        self._held: set[ScanKey] = set()

    @property
    def open_scans(self) -> int:
        """The number of open scans."""
        return len(self._tasks)

    @property
    def records_left(self) -> int:
        """The number of records they have yet to read, estimated."""
        rows = (self._durable.scans.get(key) for key in self._tasks)
        return sum(max(row.upto - max(row.at, 0), 0) for row in rows if row is not None)

    @property
    def idle(self) -> bool:
        """Whether every open scan waits for its function to be deployed."""
        return self._tasks.keys() <= self._waiting

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start reading scans, as tasks of the group."""
        self._group = tasks

    def close(self) -> None:
        """Read no more. Open scans go on with the next owner."""
        self._group = None
        for task in self._tasks.values():
            task.cancel()

    def read_on(self, effect: Scan) -> None:
        """Read on: the scan is new, or its position is durable now. A second call does no harm."""
        if self._group is None:
            return
        key = (effect.scan, effect.partition)
        if key in self._tasks:
            self._moved[key].set()
        elif self._durable.scans.get(key) is not None:
            self._moved[key] = asyncio.Event()
            self._tasks[key] = self._group.create_task(self._scan(key))

    async def _scan(self, key: ScanKey) -> None:
        moved = self._moved[key]
        try:
            while (row := self._durable.scans.get(key)) is not None:
                moved.clear()
                reading = self._reading(row)
                if reading is None:
                    self._waiting.add(key)
                    await self._sleep(RETRY_S)
                    continue
                self._waiting.discard(key)
                async with self._slots:
                    await self._wait_to_accept_work()
                    command = await self._next(row, reading)
                    if command is None:
                        await self._sleep(RETRY_S)
                        continue
                    self._submit(command)
                    if self._records_per_s and command.reads:
                        await self._sleep(len(command.reads) / self._records_per_s)
                if self._durable.scans.get(key) == row:
                    await self._wait_moved(moved)
        finally:
            del self._tasks[key], self._moved[key]
            self._waiting.discard(key)
            self._held.discard(key)

    async def _wait_moved(self, moved: asyncio.Event) -> None:
        timeout = asyncio.ensure_future(self._sleep(LOST_AFTER_S))
        waiting = asyncio.ensure_future(moved.wait())
        try:
            await asyncio.wait([timeout, waiting], return_when="FIRST_COMPLETED")
        finally:
            timeout.cancel()
            waiting.cancel()

    def _reading(self, row: ScanRow) -> Reading | None:
        """How the scan's function reads the topic; None while it is not deployed, or does not subscribe any more."""
        if row.purpose == SEEK:
            return Reading()
        known = catalogue(self._durable)
        if row.topic == self._events_topic:
            return Reading() if row.function in known.functions else None
        return next((t.reading for f, t in known.subscribers(row.topic) if f.slug == row.function), None)

    async def _next(self, row: ScanRow, reading: Reading) -> AdvanceScan | None:
        """The next page as a command; None: not now."""
        try:
            if row.at < 0:
                first = await offset_since(self._log, row.topic, row.partition, row.since_ms)
                upto = row.upto if row.upto >= 0 else await self._log.end_offset(row.topic, row.partition)
                return AdvanceScan(row.scan, row.partition, row.at, min(first, upto), (), upto)
            return await self._page(row, reading)
        except OffsetOutOfRange as gap:
            # Trimmed away before it was read; or the topic was made anew, and nothing of the range is left.
            at = min(gap.start, row.upto) if row.at < gap.start else row.upto
            say(LOG, "records lost", level=logging.ERROR, scan=row.scan, partition=row.partition, first=row.at, end=at)
            return AdvanceScan(row.scan, row.partition, row.at, at)
        except OperatorError as error:
            if isinstance(error, Corruption):
                raise
            say(LOG, "scan waits", level=logging.WARNING, scan=row.scan, partition=row.partition, why=str(error))
            return None

    async def _page(self, row: ScanRow, reading: Reading) -> AdvanceScan | None:
        reader = self._log.reader(row.topic, row.partition, row.at)
        try:
            page = await reader.read(max_records=PAGE_RECORDS_MAX, max_bytes=PAGE_BYTES_MAX, wait_s=READ_WAIT_S)
            to = min(reader.position, row.upto)
        finally:
            await reader.close()
        if to <= row.at:
            end = await self._log.end_offset(row.topic, row.partition)
            if end >= row.upto:
                return None  # It is there, and comes with the next read.
            to = row.upto  # It was cut off in between: nothing up to there will ever come.
        mine = [record for record in page if record.offset < row.upto]
        if row.topic != self._events_topic:
            for record in mine:
                why = await self._foreign.missing((reading,), Foreign(row.topic, row.partition, record))
                if why:  # Others may read meanwhile.
                    self._say_held(row, why)
                    return None
            self._held.discard((row.scan, row.partition))
        found = (self._read(row, reading, record) for record in mine)
        reads = tuple(read for read in found if read is not None)
        return AdvanceScan(row.scan, row.partition, row.at, to, reads)

    def _say_held(self, row: ScanRow, why: str) -> None:
        key = (row.scan, row.partition)
        if key not in self._held:
            self._held.add(key)
            say(LOG, "scan held", level=logging.ERROR, topic=row.topic, scan=row.scan, partition=row.partition, why=why)

    def _read(self, row: ScanRow, reading: Reading, record: Record) -> ReadRecord | None:
        if row.topic != self._events_topic:
            return self._foreign.read(reading, Foreign(row.topic, row.partition, record))
        try:
            at = Written(row.topic, row.partition, record.offset, record.at_ms)
            event = read_event(at, record.value or b"", self._event_schemas)
            return ReadRecord(record.offset, reading, event)
        except Corruption as error:
            reason = printable(f"the record is no event: {error}")
            return ReadRecord(record.offset, reading, None, reason, record.key, record.value, record.headers)
