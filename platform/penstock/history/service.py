"""The follower: reads every lane's journal and the events topics, folds them, and stores rows and positions together.

    reader (one per topic partition) ──bounded──> batch ──fold──> one transaction of the index

What a reader found waits in one bounded list, so that a busy moment makes larger batches, not more work. A record is
visible to readers of the index about one poll of the log plus one transaction after it became durable.

A reader that falls off the start of its partition goes on at the start that is left: what was trimmed was past the
history's retention, or the history was away for longer than that. (Runs that began in the gap show from their next
fact on only in their trail; beginning again from the compacted topics comes with them.) A partition that ends before
the stored position is another log than the one that was folded: the index is cleared and everything is folded afresh.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from penstock.errors import Corruption, LogUnavailable, OffsetOutOfRange
from penstock.history.fold import Changes, Notice
from penstock.history.index import Folded, Index
from penstock.log.port import Log, Reader, Record
from penstock.model.limits import DAY_MS
from penstock.model.messages import group_topic
from penstock.wire.journal import Validity, decode_record
from penstock.wire.messages import decode_envelope

READ_RECORDS_MAX: Final = 2_000
READ_BYTES_MAX: Final = 4 << 20
READ_WAIT_S: Final = 1.0
WAITING_READS_MAX: Final = 16
TIDY_EVERY_S: Final = 1.0
TIDY_CHUNKS_MAX: Final = 100
TRY_AGAIN_S: Final = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Follows:
    """What is followed and for how long it is kept. ``events`` are topics of our envelopes with their partitions."""

    group: str
    lanes: int
    events: tuple[tuple[str, int], ...] = ()
    retention_ms: int = DAY_MS
    now_ms: Callable[[], int] = field(default=lambda: time.time_ns() // 1_000_000)

    @property
    def journal(self) -> str:
        """The name of the journal topic."""
        return group_topic(self.group, "journal")

    def partitions(self) -> list[tuple[str, int]]:
        """Every topic partition to read."""
        journals = [(self.journal, lane) for lane in range(self.lanes)]
        return journals + [(topic, number) for topic, count in self.events for number in range(count)]


class _Source:
    """One topic partition: what counts in it, and from where to go on after a restart."""

    def __init__(self, at: Folded, *, is_journal: bool) -> None:
        self.folded = at
        self.is_journal = is_journal
        self.validity = Validity(at.owner, at.seq)

    def take(self, records: Sequence[Record], changes: Changes) -> None:
        """Fold records in order into the changes."""
        if self.is_journal:
            self._take_journal(records, changes)
            return
        topic, partition = self.folded.topic, self.folded.partition
        for record in records:
            if record.value is None:
                continue
            try:
                event = decode_envelope(record.value)
            except Corruption as broken:  # Others may write here; the lane makes it a dead letter.
                subject = f"{topic}/{partition}/{record.offset}"
                changes.notices.append(Notice("refused", record.at_ms, subject, "", f"no event: {broken}"))
                continue
            changes.add_event(event, topic, partition, record.offset)
        self.folded = Folded(topic, partition, records[-1].offset + 1)

    def _take_journal(self, records: Sequence[Record], changes: Changes) -> None:
        validity = self.validity
        for record in records:
            if record.value is not None:
                whole = validity.take(decode_record(record.value))
                if whole is not None:
                    changes.fold(whole)
            if not validity.parts_held:
                place = (self.folded.topic, self.folded.partition, record.offset + 1)
                self.folded = Folded(*place, validity.owner, validity.seq)


class History:
    """Follows a log into an index until cancelled. ``run`` returns only by cancellation or an error."""

    def __init__(self, log: Log, index: Index, follows: Follows) -> None:
        self._log = log
        self._index = index
        self._follows = follows
        self._waiting: list[tuple[_Source, Sequence[Record]]] = []
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._sources: list[_Source] = []

    async def run(self) -> None:
        """Follow for ever. Raises Corruption where the journal is damaged, LogUnavailable where it cannot be opened."""
        await self._place_sources()
        async with asyncio.TaskGroup() as tasks:
            for source in self._sources:
                tasks.create_task(self._read(source))
            tasks.create_task(self._store())
            tasks.create_task(self._tidy())

    async def catch_up(self) -> None:
        """Fold everything that is durable now, then return: for tests and offline use instead of ``run``."""
        await self._place_sources()
        for source in self._sources:
            end = await self._log.end_offset(source.folded.topic, source.folded.partition)
            reader = self._log.reader(source.folded.topic, source.folded.partition, source.folded.position)
            while reader.position < end:
                await self._read_once(source, reader, wait_s=0)
                await self._store_waiting()
            await reader.close()

    async def _place_sources(self) -> None:
        stored = {(at.topic, at.partition): at for at in self._index.positions()}
        for place in self._follows.partitions():
            at = stored.get(place)
            if at is not None and await self._log.end_offset(*place) < at.position:
                _log.warning("another log found behind the history, folding it afresh topic=%s partition=%d", *place)
                self._index.clear()
                stored = {}
                break
        self._sources = []
        for topic, partition in self._follows.partitions():
            at = stored.get((topic, partition))
            if at is None:
                at = Folded(topic, partition, await self._log.start_offset(topic, partition))
            self._sources.append(_Source(at, is_journal=topic == self._follows.journal))

    async def _read(self, source: _Source) -> None:
        reader = self._log.reader(source.folded.topic, source.folded.partition, source.folded.position)
        try:
            while True:
                await self._room.wait()
                await self._read_once(source, reader, wait_s=READ_WAIT_S)
        finally:
            await reader.close()

    async def _read_once(self, source: _Source, reader: Reader, *, wait_s: float) -> None:
        try:
            records = await reader.read(max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=wait_s)
        except OffsetOutOfRange as gap:
            lost = (source.folded.topic, source.folded.partition, reader.position, gap.start)
            _log.warning("history fell off the log topic=%s partition=%d from=%d to=%d", *lost)
            reader.seek(gap.start)
            return
        except Corruption:
            raise
        except LogUnavailable as passing:
            _log.warning("log not readable now, trying again: %s", passing)
            await asyncio.sleep(TRY_AGAIN_S)
            return
        if records:
            self._waiting.append((source, records))
            self._arrived.set()
            if len(self._waiting) >= WAITING_READS_MAX:
                self._room.clear()

    async def _store(self) -> None:
        while True:
            await self._arrived.wait()
            await self._store_waiting()

    async def _store_waiting(self) -> None:
        """Fold and store what waits. A full disk is tried again: the positions have not moved."""
        self._arrived.clear()
        batch, self._waiting = self._waiting, []
        self._room.set()
        if not batch:
            return
        changes = Changes(frozenset(topic for topic, _ in self._follows.events))
        touched: dict[int, _Source] = {}
        for source, records in batch:
            source.take(records, changes)
            touched[id(source)] = source
        positions = [source.folded for source in touched.values()]
        while True:
            try:
                self._index.apply(changes, positions)
                return
            except LogUnavailable as passing:
                _log.warning("history not stored now, trying again: %s", passing)
                await asyncio.sleep(TRY_AGAIN_S)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            before_ms = self._follows.now_ms() - self._follows.retention_ms
            for _ in range(TIDY_CHUNKS_MAX):
                try:
                    gone = self._index.forget(before_ms)
                except LogUnavailable as passing:
                    _log.warning("history not tidied now: %s", passing)
                    break
                if not gone:
                    break
                await asyncio.sleep(0)  # Between chunks the readers go on.
