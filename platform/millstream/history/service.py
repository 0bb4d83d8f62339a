"""The follower: reads every lane's journal and the events topics, folds them, and stores rows and positions together.

    reader (one per topic partition) ──bounded──> batch ──fold──> one transaction of the index

What a reader found waits in one bounded list, so that a busy moment makes larger batches, not more work. A record is
visible to readers of the index about one poll of the log plus one transaction after it became durable.

A reader of events that falls off the start of its partition goes on at the start that is left: what was trimmed was
past its retention. A journal that no longer holds what comes next is begun again from its lane's checkpoint
(``rebuild.py``). A partition that ends before the stored position is another log than the one that was folded: the
index is cleared and everything is folded afresh.

Events topics may get more partitions at any time, and may come to be later than the history: looked at now and then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from millstream.errors import Corruption, LogUnavailable, OffsetOutOfRange
from millstream.history import rebuild
from millstream.history.fold import Changes, Notice
from millstream.history.index import Folded, Index
from millstream.log.port import Log, Reader, Record
from millstream.log.records import record_missing
from millstream.model.limits import DAY_MS
from millstream.model.messages import group_topic
from millstream.state.memory import MemoryStore
from millstream.state.store import Store
from millstream.wire.events_topic import Written, read_event
from millstream.wire.journal import Validity, decode_if_ours

READ_RECORDS_MAX: Final = 2_000
READ_BYTES_MAX: Final = 4 << 20
READ_WAIT_S: Final = 1.0
WAITING_READS_MAX: Final = 16
TIDY_EVERY_S: Final = 1.0
TIDY_CHUNKS_MAX: Final = 100
TRY_AGAIN_S: Final = 0.5
LOOK_AGAIN_S: Final = 30.0
EVENTS_LOOK_S: Final = 0.02

MakeStore = Callable[[], Store]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Follows:
    """What is followed and for how long it is kept. ``events`` are topics of our envelopes, all their partitions."""

    group: str
    lanes: int
    events: tuple[str, ...] = ()
    retention_ms: int = DAY_MS
    now_ms: Callable[[], int] = field(default=lambda: time.time_ns() // 1_000_000)

    @property
    def journal(self) -> str:
        """The name of the journal topic."""
        return group_topic(self.group, "journal")


FOREIGN: Final = "no record of this journal: somebody else has written it; it is passed over"


class _Source:
    """One topic partition: what counts in it, and from where to go on after a restart."""

    def __init__(self, at: Folded, *, is_journal: bool) -> None:
        self.folded = at
        self.is_journal = is_journal
        self.next = at.position
        """The offset that is taken next: ahead of what is folded while parts of a decision are held."""
        self.validity = Validity(at.owner, at.seq)

    def restart(self, at: Folded) -> None:
        """Go on from another place."""
        self.folded = at
        self.next = at.position
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
                event = read_event(Written(topic, partition, record.offset, record.at_ms), record.value)
            except Corruption as broken:  # Others may write here; the lane makes it a dead letter.
                subject = f"{topic}/{partition}/{record.offset}"
                changes.notices.append(Notice("refused", record.at_ms, subject, "", f"no event: {broken}"))
                continue
            changes.add_event(event, topic, partition, record.offset)
        self.folded = Folded(topic, partition, records[-1].offset + 1)

    def _take_journal(self, records: Sequence[Record], changes: Changes) -> None:
        validity = self.validity
        for record in records:
            if record.offset != self.next:
                raise record_missing(self.folded.topic, self.folded.partition, self.next, record.offset)
            self.next += 1
            decoded = decode_if_ours(record.value)
            if decoded is None:
                validity.pass_over()
                subject = f"{self.folded.topic}/{self.folded.partition}/{record.offset}"
                changes.notices.append(Notice("refused", record.at_ms, subject, "", FOREIGN))
            else:
                complete = validity.take(decoded)
                if complete is not None:
                    changes.fold(complete)
            if not validity.parts_held:
                place = (self.folded.topic, self.folded.partition, record.offset + 1)
                self.folded = Folded(*place, validity.owner, validity.seq)


class History:
    """Follows a log into an index until cancelled. ``run`` returns only by cancellation or an error.

    ``make_store`` makes the scratch store that a lane's checkpoint is read into; it is wiped and closed afterwards.
    """

    def __init__(self, log: Log, index: Index, follows: Follows, make_store: MakeStore = MemoryStore) -> None:
        self._log = log
        self._index = index
        self._follows = follows
        self._make_store = make_store
        self._waiting: list[tuple[_Source, Sequence[Record]]] = []
        self._arrived = asyncio.Event()
        self._capacity_freed = asyncio.Event()
        self._capacity_freed.set()
        self._storing = asyncio.Lock()
        self._rebuilding = asyncio.Lock()  # One scratch store at a time.
        self._sources: dict[tuple[str, int], _Source] = {}

    async def run(self) -> None:
        """Follow for ever. Raises Corruption where the journal is damaged, LogUnavailable where it cannot be opened."""
        async with asyncio.TaskGroup() as tasks:
            for source in await self._place_sources():
                tasks.create_task(self._read(source))
            tasks.create_task(self._store())
            tasks.create_task(self._tidy())
            tasks.create_task(self._look_for_more(tasks))

    async def catch_up(self) -> None:
        """Fold everything that is durable now, then return: for tests and offline use instead of ``run``."""
        await self._place_sources()
        for source in sorted(self._sources.values(), key=lambda source: source.is_journal):  # Events come first.
            while not await self._caught_up(source):
                pass  # It fell off the journal's start while it was read: begin again from the checkpoint.

    async def _caught_up(self, source: _Source) -> bool:
        await self._ensure_readable(source)
        at = source.folded
        end = await self._log.end_offset(at.topic, at.partition)
        reader = self._reader(source)
        try:
            while reader.position < end:
                reading_on = await self._read_once(source, reader, wait_s=0)
                await self._store_waiting()
                if not reading_on:
                    return False
        finally:
            await reader.close()
        return True

    # --- where to read ------------------------------------------------------------------------

    async def _place_sources(self) -> list[_Source]:
        """The partitions that were not known before, each from where it is folded to."""
        stored = {(at.topic, at.partition): at for at in self._index.positions()}
        places = [place for place in await self._partitions() if place not in self._sources]
        for place in places:
            at = stored.get(place)
            if at is not None and await self._log.end_offset(*place) < at.position:
                if self._sources:  # A topic of events that was made anew meanwhile; the others go on.
                    del stored[place]
                    continue
                _log.warning("another log found behind the history, folding it afresh topic=%s partition=%d", *place)
                self._index.clear()
                stored = {}
                break
        new = []
        for topic, partition in places:
            is_journal = topic == self._follows.journal
            at = stored.get((topic, partition))
            if at is None:
                at = Folded(topic, partition, 0 if is_journal else await self._log.start_offset(topic, partition))
            new.append(_Source(at, is_journal=is_journal))
            self._sources[topic, partition] = new[-1]
        return new

    async def _partitions(self) -> list[tuple[str, int]]:
        found = [(self._follows.journal, lane) for lane in range(self._follows.lanes)]
        for topic in self._follows.events:
            spec = await self._log.topic(topic)
            found += [(topic, number) for number in range(spec.partitions if spec is not None else 0)]
        return found

    async def _look_for_more(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                more = await self._place_sources()
            except LogUnavailable as passing:
                _log.warning("topics not looked at now: %s", passing)
                continue
            for source in more:
                place = (source.folded.topic, source.folded.partition)
                _log.info("partition found topic=%s partition=%d", *place)
                tasks.create_task(self._read(source))

    async def _ensure_readable(self, source: _Source) -> None:
        """Make sure that the journal holds what comes next; else begin again from the lane's checkpoint."""
        at = source.folded
        if not source.is_journal or at.position >= await self._log.start_offset(at.topic, at.partition):
            return
        async with self._rebuilding:
            await self._store_waiting()
            store = self._make_store()
            try:
                base = await rebuild.load(self._log, self._follows.group, at.partition, store)
                if base is None:
                    raise Corruption(
                        f"journal {at.topic}/{at.partition} begins behind offset {at.position}, which is folded next: "
                        "expected a checkpoint in the compacted topics that makes up for what is gone, found none. "
                        "Look at them with: millstream lanes verify."
                    )
                await self._wait_for_events()
                source.restart(await rebuild.merge(self._index, base, store, source.folded, self._follows.lanes))
            finally:
                store.wipe()
                store.close()

    async def _wait_for_events(self) -> None:
        """Until every event that a checkpoint just read can speak of is in the index: it knows them by that."""
        ends = {}
        for place, source in self._sources.items():
            if not source.is_journal:
                ends[place] = await self._log.end_offset(*place)
        while any(self._sources[at].folded.position < end for at, end in ends.items()):  # noqa: ASYNC110 - rare
            await asyncio.sleep(EVENTS_LOOK_S)

    # --- reading and storing ------------------------------------------------------------------

    async def _read(self, source: _Source) -> None:
        while True:
            try:
                await self._ensure_readable(source)
            except Corruption:
                raise
            except LogUnavailable as passing:
                _log.warning("log not readable now, trying again: %s", passing)
                await asyncio.sleep(TRY_AGAIN_S)
                continue
            reader = self._reader(source)
            try:
                while await self._read_once(source, reader, wait_s=READ_WAIT_S):
                    await self._capacity_freed.wait()
            finally:
                await reader.close()

    def _reader(self, source: _Source) -> Reader:
        """From where it is folded to; nothing that was read before waits any more."""
        at = source.folded
        source.next = at.position
        return self._log.reader(at.topic, at.partition, at.position)

    async def _read_once(self, source: _Source, reader: Reader, *, wait_s: float) -> bool:
        """Read a page; False where the reader is to be opened anew."""
        try:
            records = await reader.read(max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=wait_s)
        except OffsetOutOfRange as gap:
            lost = (source.folded.topic, source.folded.partition, reader.position, gap.start)
            _log.warning("history fell off the log topic=%s partition=%d from=%d to=%d", *lost)
            if source.is_journal:
                await self._store_waiting()
                return False
            reader.seek(gap.start)
            return True
        except Corruption:
            raise
        except LogUnavailable as passing:
            _log.warning("log not readable now, trying again: %s", passing)
            await asyncio.sleep(TRY_AGAIN_S)
            return True
        if records:
            self._waiting.append((source, records))
            self._arrived.set()
            if len(self._waiting) >= WAITING_READS_MAX:
                self._capacity_freed.clear()
        return True

    async def _store(self) -> None:
        while True:
            await self._arrived.wait()
            await self._store_waiting()

    async def _store_waiting(self) -> None:
        """Fold and store what waits. A full disk is tried again: the positions have not moved."""
        async with self._storing:
            self._arrived.clear()
            batch, self._waiting = self._waiting, []
            self._capacity_freed.set()
            if not batch:
                return
            changes = Changes(frozenset(self._follows.events))
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
