"""Upkeep of a lane beside its turns: flush to the local store, checkpoint to the topics, trim what nobody needs.

Each works on what is acknowledged only; the turns go on meanwhile. None of it is needed for correctness at any one
moment: a crash anywhere in here costs time at the next restore, never data (lanes.md rules 10 to 14).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from penstock.errors import Busy, LogUnavailable
from penstock.lane.parts import LaneParts
from penstock.log.port import Produced, Transaction
from penstock.model.messages import group_topic
from penstock.state.checkpoint import Checkpoint
from penstock.state.marker import Marker
from penstock.state.tables import LaneTables


class Checkpointed(NamedTuple):
    """A committed checkpoint: the journal offset it stands for, the inbox position in it, when it was committed."""

    offset: int
    inbox: int
    at_ms: int


class Upkeep:
    """Flush, checkpoint and trim one lane. ``marker`` gives the last acknowledged record, None before the first."""

    def __init__(
        self,
        parts: LaneParts,
        tables: LaneTables,
        marker: Callable[[], Marker | None],
    ) -> None:
        self._log = parts.log
        self._tables = tables
        self._settings = parts.settings
        self._now_ms = parts.surroundings.now_ms
        self._marker = marker
        self._place = parts.place
        self._transaction = f"{parts.worker}-{parts.place.group}-{parts.place.lane}"
        self._flushed_at_ms = self._checkpointed_at_ms = self._trimmed_at_ms = self._now_ms()
        self._done: deque[Checkpointed] = deque(maxlen=1_000)
        self._last: Marker | None = None
        self.facts_since_checkpoint = 0

    @property
    def checkpoint_age_ms(self) -> int:
        """How long ago the last checkpoint was committed."""
        return self._now_ms() - self._checkpointed_at_ms

    async def tend(self) -> None:
        """Do what is due. Called every few hundred milliseconds by one task."""
        settings, now_ms = self._settings, self._now_ms()
        rows = self._tables.overlay_rows
        if rows >= settings.flush_rows or (rows and now_ms - self._flushed_at_ms >= settings.flush_after_ms):
            await self.flush()
        since_ms = now_ms - self._checkpointed_at_ms
        due = self.facts_since_checkpoint >= settings.checkpoint_facts or since_ms >= settings.checkpoint_after_ms
        if due and since_ms >= settings.checkpoint_gap_ms and self.facts_since_checkpoint:
            await self.checkpoint()
        if now_ms - self._trimmed_at_ms >= settings.trim_every_ms:
            self._trimmed_at_ms = now_ms
            await self.trim()

    async def flush(self) -> None:
        """Everything acknowledged goes to the local store."""
        marker = self._marker()
        if marker is None:
            return
        self._flushed_at_ms = self._now_ms()
        await self._tables.flush(marker)

    async def checkpoint(self) -> None:
        """The rows as they are at the last acknowledged record go to the compacted topics, all or none."""
        marker = self._marker()
        if marker is None or marker == self._last:
            return
        self._checkpointed_at_ms = self._now_ms()
        try:
            # Begun before the rows are looked at: if the lane is lost from here on, it is refused.
            transaction = await self._log.transaction(self._transaction)
        except LogUnavailable:
            return
        try:
            await self._fill(transaction)
        except BaseException as error:
            await transaction.abort()
            if isinstance(error, LogUnavailable | Busy):
                return  # Not a loss: the next one holds these rows too.
            raise

    async def _fill(self, transaction: Transaction) -> None:
        """Everything into the transaction, and commit it."""
        marker = self._marker()
        if marker is None:  # The lane is being taken over again at this moment.
            await transaction.abort()
            return
        facts = self.facts_since_checkpoint
        held = self._tables.durable.positions.get((group_topic(self._place.group, "inbox"), self._place.lane))
        position = held.offset if held is not None else 0
        checkpoint = await Checkpoint.begin(self._tables, marker)
        try:
            async for which, rows in checkpoint.chunks():
                topic = group_topic(self._place.group, which)
                transaction.send(topic, self._place.lane, [Produced(value, key) for key, value in rows])
                if self._tables.overlay_rows >= self._settings.flush_rows:
                    await self.flush()  # The snapshot stays as it is; memory must not wait for the last chunk.
            await transaction.commit({self._place.lane: position})
            await checkpoint.committed()
        finally:
            checkpoint.abandoned()  # Lets go of the snapshot; what is committed stays so.
        self.facts_since_checkpoint -= facts
        self._last = marker
        self._done.append(Checkpointed(marker.offset, position, self._checkpointed_at_ms))

    async def trim(self) -> None:
        """Cut journal and inbox behind the last but one checkpoint that is older than the lag and the history."""
        now_ms = self._now_ms()
        old: Checkpointed | None = None
        while len(self._done) >= 2 and self._done[0].at_ms <= now_ms - self._settings.trim_lag_ms:
            old = self._done.popleft()
        if old is None:
            return
        self._done.appendleft(old)  # Until it is done with: a round that fails is made up for by the next.
        journal, inbox = (group_topic(self._place.group, which) for which in ("journal", "inbox"))
        try:
            kept_from = await self._log.offset_at(journal, self._place.lane, now_ms - self._settings.history_ms)
            await self._log.trim(journal, self._place.lane, min(old.offset, kept_from))
            await self._log.trim(inbox, self._place.lane, old.inbox)
        except LogUnavailable:
            return
        if kept_from >= old.offset and self._done[0] is old:
            self._done.popleft()
