"""Upkeep of a lane beside its turns: flush to the local store, checkpoint to the topics, trim what no restore needs.

Each works on what is acknowledged only; the turns go on meanwhile. None of it is needed for correctness at any one
moment: a crash anywhere in here costs time at the next restore, never data (lanes.md rules 10 to 14).

What it does is due by times that outlive the process: the last checkpoint's (the journal's beginning where there is
none) and those of the checkpoints at which the journal may be cut (``state/checkpointed.py``). A server that is
restarted every few seconds checkpoints and trims as often as any other.

A checkpoint waits for others: for its turn, where lanes share a producer, and for the log. What was acknowledged is
flushed meanwhile as ever: memory waits for no checkpoint (``Upkeep._while_flushing``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from millstream.errors import LogUnavailable, OffsetOutOfRange
from millstream.lane.parts import LaneParts
from millstream.log.port import Produced, Transaction
from millstream.model.messages import group_topic
from millstream.state.checkpoint import Checkpoint
from millstream.state.checkpointed import Checkpointed, cut_at, kept
from millstream.state.marker import Marker
from millstream.state.tables import LaneTables

FLUSH_LOOK_S: Final = 0.1
"""How often a checkpoint that waits looks whether a flush is due."""

T = TypeVar("T")


class Upkeep:
    """Flush, checkpoint and trim one lane.

    ``marker`` gives the last acknowledged record, None before the first; ``is_fenced`` looks whether another owner has
    written behind it.
    """

    def __init__(
        self,
        parts: LaneParts,
        tables: LaneTables,
        marker: Callable[[], Marker | None],
        is_fenced: Callable[[], Awaitable[bool]],
    ) -> None:
        self._log = parts.log
        self._tables = tables
        self._settings = parts.settings
        self._now_ms = parts.surroundings.now_ms
        self._marker = marker
        self._is_fenced = is_fenced
        self._place = parts.place
        self._transaction = f"{parts.worker}-{parts.place.group}-{parts.place.lane}"
        self._flushed_at_ms = self._now_ms()
        self._trimmed_at_ms = self._tried_at_ms = 0
        self._done = list(tables.checkpointed)
        self._last: Marker | None = self._done[-1].marker if self._done else None
        self._checkpointed_at_ms: int | None = self._done[-1].at_ms if self._done else None
        self._cut: dict[str, int] = {}  # Topic → where this process has cut it already.
        self.facts_since_checkpoint = 0

    @property
    def checkpoint_age_ms(self) -> int:
        """How long ago the last checkpoint was begun; 0 while that is not known, or nothing was recorded since."""
        if self._checkpointed_at_ms is None or self._marker() == self._last:
            return 0
        return self._now_ms() - self._checkpointed_at_ms

    @property
    def checkpointed_at(self) -> int:
        """The journal record that the last committed checkpoint stands for; −1 where there is none."""
        return self._done[-1].offset if self._done else -1

    async def tend(self) -> None:
        """Do what is due. Called every few hundred milliseconds by one task."""
        settings, now_ms = self._settings, self._now_ms()
        self._follow_clock(now_ms)
        await self._flush_if_due()
        if self._checkpointed_at_ms is None:
            self._checkpointed_at_ms = await self._began_ms()
        age_ms, since_ms = now_ms - self._checkpointed_at_ms, now_ms - max(self._tried_at_ms, self._checkpointed_at_ms)
        due = self.facts_since_checkpoint >= settings.checkpoint_facts or age_ms >= settings.checkpoint_after_ms
        if due and since_ms >= settings.checkpoint_gap_ms:
            await self.checkpoint()
        if now_ms - self._trimmed_at_ms >= settings.trim_every_ms:
            self._trimmed_at_ms = now_ms
            await self.trim()

    def _follow_clock(self, now_ms: int) -> None:
        """Where the clock was set back, ages count from now: nothing waits until it shows the old time again."""
        self._flushed_at_ms, self._trimmed_at_ms = min(self._flushed_at_ms, now_ms), min(self._trimmed_at_ms, now_ms)
        self._tried_at_ms = min(self._tried_at_ms, now_ms)
        if self._checkpointed_at_ms is not None:
            self._checkpointed_at_ms = min(self._checkpointed_at_ms, now_ms)

    async def _began_ms(self) -> int:
        """When the first record was written of a journal that was never checkpointed."""
        journal = group_topic(self._place.group, "journal")
        try:
            start = await self._log.start_offset(journal, self._place.lane)
            reader = self._log.reader(journal, self._place.lane, start)
            try:
                first = await reader.read(max_records=1, max_bytes=1, wait_s=0)
            finally:
                await reader.close()
        except (LogUnavailable, OffsetOutOfRange):
            first = ()
        return min(first[0].at_ms, self._now_ms()) if first else self._now_ms()

    async def _flush_if_due(self) -> None:
        settings, rows = self._settings, self._tables.overlay_rows
        old = self._now_ms() - self._flushed_at_ms >= settings.flush_after_ms
        if rows >= settings.flush_rows or (rows and old):
            await self.flush()

    async def _while_flushing(self, work: Coroutine[Any, Any, T]) -> T:
        """What a checkpoint waits for, with flushes beside it. The rows of its snapshot stay as they are."""
        task = asyncio.get_running_loop().create_task(work)
        try:
            while not (await asyncio.wait([task], timeout=FLUSH_LOOK_S))[0]:
                await self._flush_if_due()
        except BaseException:
            task.cancel()
            await asyncio.wait([task])
            raise
        return task.result()

    async def flush(self) -> None:
        """Everything acknowledged goes to the local store."""
        marker = self._marker()
        if marker is None:
            return
        began_ms = self._now_ms()
        await self._tables.flush(marker)
        self._flushed_at_ms = began_ms  # One that failed is due again at once.

    async def checkpoint(self) -> None:
        """The rows as they are at the last acknowledged record go to the compacted topics, all or none."""
        marker = self._marker()
        if marker is None or marker == self._last:
            return
        self._tried_at_ms = self._now_ms()
        try:
            # Begun before the rows are looked at: if the lane is lost from here on, it is refused.
            transaction = await self._while_flushing(self._log.transaction(self._transaction))
        except LogUnavailable:
            return
        try:
            await self._fill(transaction)
        except BaseException as error:
            await transaction.abort()
            if isinstance(error, LogUnavailable):
                return  # Not a loss: the next one holds these rows too.
            raise

    async def _fill(self, transaction: Transaction) -> None:
        """Everything into the transaction, and commit it."""
        # The transaction is refused to who loses the lane from here on, and not to who lost it before and has been
        # given it again without noticing: that one's rows are older than those that the topics may hold by now.
        if await self._is_fenced():
            await transaction.abort()
            return
        marker = self._marker()
        if marker is None:  # The lane is being taken over again at this moment.
            await transaction.abort()
            return
        facts = self.facts_since_checkpoint
        held = self._tables.durable.positions.get((group_topic(self._place.group, "inbox"), self._place.lane))
        position = held.offset if held is not None else 0
        settings, now_ms = self._settings, self._now_ms()
        done = [*self._done, Checkpointed(marker, position, now_ms)]
        done = kept(done, now_ms, settings.trim_lag_ms, settings.history_ms)
        checkpoint = await Checkpoint.begin(self._tables, marker, done)
        try:
            async for which, rows in checkpoint.chunks():
                topic = group_topic(self._place.group, which)
                records = [Produced(value, key) for key, value in rows]
                await self._while_flushing(transaction.send(topic, self._place.lane, records))
                await self._flush_if_due()
            await self._while_flushing(transaction.commit({self._place.lane: position}))
            self._done, self._checkpointed_at_ms = done, now_ms
            await checkpoint.committed(self._flush_if_due)
        finally:
            checkpoint.abandoned()  # Lets go of the snapshot; what is committed stays so.
        self.facts_since_checkpoint -= facts
        self._last = marker

    async def trim(self) -> None:
        """Cut the inbox at a checkpoint that is not the last and older than the lag; the journal, at one that is older
        than the history as well."""
        settings, now_ms = self._settings, self._now_ms()
        behind_ms = max(settings.trim_lag_ms, settings.history_ms)
        inbox, journal = (cut_at(self._done, now_ms - age_ms) for age_ms in (settings.trim_lag_ms, behind_ms))
        if inbox is not None:
            await self._cut_at("inbox", inbox.inbox)
        if journal is not None:
            await self._cut_at("journal", journal.offset)

    async def _cut_at(self, which: str, offset: int) -> None:
        if self._cut.get(which, -1) >= offset:
            return
        try:
            await self._log.trim(group_topic(self._place.group, which), self._place.lane, offset)
        except LogUnavailable:
            return  # The next round makes up for it.
        self._cut[which] = offset
