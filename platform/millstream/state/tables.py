"""``LaneTables``: all tables of a lane over its store; what the core decides on and folds into.

The life of a record, as the lane drives it:

    fold ──> rows in flight ──> append acknowledged: ``promote()``
                            └─> append void:         ``drop()``
    now and then: ``flush(marker)`` writes what is acknowledged into the store, with the marker of the last record

``durable`` shows the same tables without what is in flight: executors and apis read that, because what is in flight
may turn out never to have happened.

Opening wipes a store whose last flush was torn (``state/flush.py``): ``marker`` is None then, as in a new store, and
the lane restores from the topics. Where the marker does not match the journal, the restore calls ``store.wipe()`` and
makes new tables.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Final

from millstream.errors import Corruption
from millstream.model.gates.overrides import LimitsRow
from millstream.model.gates.rows import AskRow, BatchRow, GateRow, KeptStartRow, QueueRow, SingletonRow, StartsRow
from millstream.model.messages import group_topic
from millstream.model.place import Place
from millstream.model.rows import (
    AppRow,
    CancellationRow,
    CounterRow,
    CoverageRow,
    CronRow,
    EventRow,
    HeldRow,
    HolderRow,
    InboxCursorRow,
    InterestRow,
    KeptAtRow,
    KeptRow,
    OutboxCursorRow,
    OutboxRow,
    ParkedRow,
    PositionRow,
    PublishRow,
    RequestRow,
    Row,
    RunRow,
    ScanRow,
    SeekRow,
    SeenBucketRow,
    SeenChunkRow,
    SeenRow,
    SignalRow,
    StepRow,
    SubscriptionRow,
    TimerRow,
    TopicRow,
    WaiterRow,
)
from millstream.state.checkpointed import Checkpointed, decode_checkpointed
from millstream.state.flush import Flush, mark, write
from millstream.state.keys import Key
from millstream.state.keyspace import CHECKPOINTED_KEY, EPOCH_KEY, FLUSHING_KEY, KEYSPACE, MARKER_KEY, MARKS
from millstream.state.layers import DurableTable, LayeredTable
from millstream.state.marker import Marker, decode_marker, journal_of
from millstream.state.store import Store

log = logging.getLogger(__name__)

MARKED_ROWS: Final = 500
"""Rows marked in one turn of the loop."""
ROW_BYTES: Final = 800
"""What a row costs in an overlay beside its payload, roughly: the struct, its key, its texts and two dict entries."""


class LaneTables:
    """The tables of one lane. One user at a time: the lane's loop."""

    runs: LayeredTable[str, RunRow]
    steps: LayeredTable[tuple[str, str], StepRow]
    events: LayeredTable[str, EventRow]
    timers: LayeredTable[tuple[int, str, str, str], TimerRow]
    crons: LayeredTable[tuple[str, str], CronRow]
    apps: LayeredTable[str, AppRow]
    limits: LayeredTable[str, LimitsRow]
    positions: LayeredTable[tuple[str, int], PositionRow]
    topics: LayeredTable[str, TopicRow]
    subscriptions: LayeredTable[tuple[str, str], SubscriptionRow]
    scans: LayeredTable[tuple[str, int], ScanRow]
    seen: LayeredTable[bytes, SeenRow]
    seen_buckets: LayeredTable[tuple[str, bool, int], SeenBucketRow]
    seen_chunks: LayeredTable[tuple[str, bool, int, int], SeenChunkRow]
    requests: LayeredTable[str, RequestRow]
    outbox: LayeredTable[tuple[int, int], OutboxRow]
    outbox_cursors: LayeredTable[int, OutboxCursorRow]
    inbox_cursors: LayeredTable[int, InboxCursorRow]
    publishes: LayeredTable[int, PublishRow]
    parked: LayeredTable[tuple[str, str, str], ParkedRow]
    held: LayeredTable[tuple[str, str, str], HeldRow]
    counters: LayeredTable[str, CounterRow]
    holders: LayeredTable[str, HolderRow]
    waiters: LayeredTable[tuple[str, str, str, int], WaiterRow]
    kept: LayeredTable[tuple[int, str], KeptRow]
    kept_at: LayeredTable[tuple[str, int, str], KeptAtRow]
    coverage: LayeredTable[tuple[str, str], CoverageRow]
    interests: LayeredTable[tuple[str, str, int], InterestRow]
    seeks: LayeredTable[str, SeekRow]
    signals: LayeredTable[str, SignalRow]
    gates: LayeredTable[str, GateRow]
    asks: LayeredTable[tuple[str, str, str], AskRow]
    queues: LayeredTable[tuple[str, str, int, int], QueueRow]
    starts: LayeredTable[str, StartsRow]
    singletons: LayeredTable[str, SingletonRow]
    kept_starts: LayeredTable[str, KeptStartRow]
    batches: LayeredTable[str, BatchRow]
    cancellations: LayeredTable[str, CancellationRow]

    def __init__(self, place: Place, store: Store) -> None:
        self.place = place
        self.memo: dict[str, tuple[int, object]] = {}
        self.store = store
        if store.get(FLUSHING_KEY) is not None:
            log.warning("lane store wiped lane=%d reason=torn flush", place.lane)
            store.wipe()
        held = store.get(MARKER_KEY)
        self.journal = journal_of(group_topic(place.group, "journal"), place.lane, "")
        """What markers call the journal: with its identity where the log has one, as the restore finds it."""
        try:
            self.marker: Marker | None = None if held is None else decode_marker(held)
            """The last record that the store includes; None: the store is empty."""
            self.checkpointed: tuple[Checkpointed, ...] = decode_checkpointed(store.get(CHECKPOINTED_KEY))
        except Corruption as error:
            raise store.condemn(str(error)) from error
        """The checkpoints known to be committed when the store was opened, oldest first."""
        # A checkpoint may have been under way when the last owner ended: its epoch is not used again.
        self.epoch = int.from_bytes(store.get(EPOCH_KEY) or b"", "big") + 1
        self.history_unknown = False
        """Whether the overlay holds rows of records that another owner wrote; see ``Flush``."""
        self._flush: Flush | None = None
        self._payload_bytes = self._frozen_payload_bytes = 0
        tables: list[LayeredTable[Key, Row]] = []
        for spec in KEYSPACE:
            table: LayeredTable[Key, Row] = LayeredTable(spec, store)
            setattr(self, spec.name, table)
            tables.append(table)
        self.all = tuple(tables)
        """Every table, in the order of the key space."""
        self.durable = DurableTables(self)
        """The same tables as acknowledged records left them. To read only."""

    def promote(self, payload_bytes: int = 0) -> None:
        """The record in flight is acknowledged: its rows are durable now.

        ``payload_bytes`` says what its payloads take at most (the size of the record), for ``overlay_bytes``.
        """
        self._payload_bytes += payload_bytes
        for table in self.all:
            if table.flight:
                table.promote()

    def drop(self) -> None:
        """The record in flight is void: its rows never were."""
        for table in self.all:
            if table.flight:
                table.drop()

    def flush(self, marker: Marker) -> Coroutine[None, None, int]:
        """Write what is acknowledged into the store; ``marker`` names the last acknowledged record.

        Freezes what is to be written *in this call*, before anything is awaited: later promotes belong to the next
        flush, even where the result becomes a task first. The result must be awaited; it returns the number of rows
        written. While it runs the lane goes on; a second flush meanwhile is an InternalError. On an error (the
        store stays busy, the disk is full) or when cancelled nothing is lost: the next flush writes these rows as well.
        """
        if self._flush is not None:
            raise self._flush.refused()
        flush = self._flush = Flush(self.all, self.store, marker, self.epoch, history_unknown=self.history_unknown)
        self._set_history_unknown(False)
        self._frozen_payload_bytes, self._payload_bytes = self._payload_bytes, 0
        return self._run(flush)

    @property
    def flushing(self) -> bool:
        """Whether a flush is under way."""
        return self._flush is not None

    @property
    def overlay_rows(self) -> int:
        """How many rows the next flush has to look at. O(tables)."""
        return sum(len(table.overlay) for table in self.all)

    @property
    def overlay_bytes(self) -> int:
        """About how much memory they take; too high where payloads came and went. O(tables)."""
        return self.overlay_rows * ROW_BYTES + self._payload_bytes

    def mark_history_unknown(self) -> None:
        """Called before a record of another owner is folded: the topics may hold rows that this store never held."""
        if not self.history_unknown:
            self._set_history_unknown(True)
            self.next_epoch()

    async def mark_all(self, deleted: Sequence[bytes] = ()) -> int:
        """Mark every row of the store as changed, and these keys as deleted: the compacted topics do not have what the
        last checkpoint gave them. The next one holds all rows. How many were marked; before the lane lives only.

        A crash in between leaves the store's list of checkpoints, by which the next start finds the same.
        """
        changed, marked = mark(self.epoch, born=False), 0
        for spec in KEYSPACE:
            at = spec.prefix
            while not spec.derived and (page := self.store.scan(at, spec.end, MARKED_ROWS)):
                await write(self.store, [(MARKS + key, changed) for key, _ in page])
                marked += len(page)
                at = page[-1][0] + b"\x00"
                await asyncio.sleep(0)
        for begin in range(0, len(deleted), MARKED_ROWS):
            await write(self.store, [(MARKS + key, changed) for key in deleted[begin : begin + MARKED_ROWS]])
        await write(self.store, [(CHECKPOINTED_KEY, None)])
        self.checkpointed = ()
        return marked

    def _set_history_unknown(self, history_unknown: bool) -> None:
        self.history_unknown = history_unknown
        for table in self.all:
            table.history_unknown = history_unknown

    def next_epoch(self) -> None:
        """A checkpoint has taken its snapshot: marks made from here on are newer than what it holds."""
        self.epoch += 1

    async def _run(self, flush: Flush) -> int:
        try:
            written = await flush.run()
            self.marker = flush.marker
            await flush.forget_flushed()
        finally:
            if not flush.end():
                self._payload_bytes += self._frozen_payload_bytes
                if flush.history_unknown:
                    self._set_history_unknown(True)
            self._flush = None
        return written


class DurableTables:
    """The tables of a lane without what is in flight; the core's ``Tables``, but writing is an InternalError."""

    runs: DurableTable[str, RunRow]
    steps: DurableTable[tuple[str, str], StepRow]
    events: DurableTable[str, EventRow]
    timers: DurableTable[tuple[int, str, str, str], TimerRow]
    crons: DurableTable[tuple[str, str], CronRow]
    apps: DurableTable[str, AppRow]
    limits: DurableTable[str, LimitsRow]
    positions: DurableTable[tuple[str, int], PositionRow]
    topics: DurableTable[str, TopicRow]
    subscriptions: DurableTable[tuple[str, str], SubscriptionRow]
    scans: DurableTable[tuple[str, int], ScanRow]
    seen: DurableTable[bytes, SeenRow]
    seen_buckets: DurableTable[tuple[str, bool, int], SeenBucketRow]
    seen_chunks: DurableTable[tuple[str, bool, int, int], SeenChunkRow]
    requests: DurableTable[str, RequestRow]
    outbox: DurableTable[tuple[int, int], OutboxRow]
    outbox_cursors: DurableTable[int, OutboxCursorRow]
    inbox_cursors: DurableTable[int, InboxCursorRow]
    publishes: DurableTable[int, PublishRow]
    parked: DurableTable[tuple[str, str, str], ParkedRow]
    held: DurableTable[tuple[str, str, str], HeldRow]
    counters: DurableTable[str, CounterRow]
    holders: DurableTable[str, HolderRow]
    waiters: DurableTable[tuple[str, str, str, int], WaiterRow]
    kept: DurableTable[tuple[int, str], KeptRow]
    kept_at: DurableTable[tuple[str, int, str], KeptAtRow]
    coverage: DurableTable[tuple[str, str], CoverageRow]
    interests: DurableTable[tuple[str, str, int], InterestRow]
    seeks: DurableTable[str, SeekRow]
    signals: DurableTable[str, SignalRow]
    gates: DurableTable[str, GateRow]
    asks: DurableTable[tuple[str, str, str], AskRow]
    queues: DurableTable[tuple[str, str, int, int], QueueRow]
    starts: DurableTable[str, StartsRow]
    singletons: DurableTable[str, SingletonRow]
    kept_starts: DurableTable[str, KeptStartRow]
    batches: DurableTable[str, BatchRow]
    cancellations: DurableTable[str, CancellationRow]

    def __init__(self, tables: LaneTables) -> None:
        self.place = tables.place
        self.memo: dict[str, tuple[int, object]] = {}
        views: list[DurableTable[Key, Row]] = []
        for table in tables.all:
            view = DurableTable(table)
            setattr(self, table.spec.name, view)
            views.append(view)
        self.all = tuple(views)
        """Every table, in the order of the key space."""
