"""Membership and transactions on one machine.

One process owns every lane for as long as it holds the directory's lock, so the group is that process. The rules of
the port hold all the same: a transaction begun under one membership is refused under the next, and a position is
durable before ``still_owns`` says yes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from millstream.errors import LogUnavailable
from millstream.log.embedded.jobs import InboxPositions, Job, Stage, Staged
from millstream.log.embedded.partition import Partition
from millstream.log.port import LanesChanged, Produced, Reader, TransactionRefused

PART_ROWS: Final = 2_000
PART_BYTES: Final = 4 << 20
"""Bytes that a transaction keeps in memory before it writes them, invisible, to the file."""


class Grouped(Protocol):
    """What membership and transactions need of their log."""

    member: EmbeddedMembership | None

    @property
    def alive(self) -> bool: ...

    async def store(self, inbox: InboxPositions) -> None: ...

    def reader(self, topic: str, partition: int, offset: int) -> Reader: ...

    async def run_job(self, job: Job) -> object: ...

    def partition_for(self, topic: str, partition: int, records: Sequence[Produced]) -> Partition: ...


class EmbeddedMembership:
    """All lanes, from ``join`` to ``leave``. See the port's ``Membership``."""

    def __init__(self, log: Grouped, group: str, lanes: int) -> None:
        self.group = group
        self._log = log
        self._lanes = frozenset(range(lanes))
        self._on_revoked: LanesChanged | None = None

    @property
    def live(self) -> bool:
        """See the port."""
        return self._log.member is self

    async def join(self, *, on_assigned: LanesChanged, on_revoked: LanesChanged) -> None:
        """See the port. Every lane is assigned before this returns."""
        if not self._log.alive:
            raise LogUnavailable("this log cannot be written, so its lanes cannot be owned")
        if self._log.member is not None:
            raise LogUnavailable(
                f"this process is already a member of group {self._log.member.group!r}; leave it first"
            )
        self._log.member = self
        self._on_revoked = on_revoked
        await on_assigned(self._lanes)

    async def still_owns(self, lane: int, *, inbox_position: int) -> bool:
        """See the port. The position is durable when this says True."""
        if self._log.member is not self or lane not in self._lanes or not self._log.alive:
            return False
        try:
            await self._log.store(InboxPositions(self.group, {lane: inbox_position}))
        except LogUnavailable:
            return False
        return self._log.member is self

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        """See the port."""
        return self._log.reader(topic, partition, offset)

    async def commit(self, positions: Mapping[tuple[str, int], int]) -> None:
        """See the port. Nothing is stored: no tool watches this group from outside, and the journal has it all."""
        if self._log.member is not self or not self._log.alive:
            raise LogUnavailable("positions were not committed: this process is no member of the group. Join it first.")

    async def leave(self) -> None:
        """See the port."""
        if self._log.member is not self:
            return
        self._log.member = None
        if self._on_revoked is not None:
            await self._on_revoked(self._lanes)


class EmbeddedTransaction:
    """Rows of compacted topics that become visible together. See the port's ``Transaction``."""

    def __init__(self, log: Grouped, member: EmbeddedMembership | None) -> None:
        self._log = log
        self._member = member
        self._records: list[tuple[Partition, Sequence[Produced]]] = []
        self._rows = self._bytes = 0
        self._staged = Staged()
        self._over = False

    async def send(self, topic: str, partition: int, records: Sequence[Produced]) -> None:
        """See the port. What is more than a part is written, in steps beside the appends of others."""
        if self._over:
            raise TransactionRefused("this transaction is over; begin another one")
        if not records:
            return
        self._records.append((self._log.partition_for(topic, partition, records), records))
        self._rows += len(records)
        self._bytes += sum(len(record.value or b"") for record in records)
        if self._rows >= PART_ROWS or self._bytes >= PART_BYTES:
            await self._write(None, last=False)

    async def commit(self, inbox_positions: Mapping[int, int]) -> None:
        """See the port. The rest is written; all of it is visible at once with the last step."""
        refused = self._refusal()
        if refused is None and inbox_positions and self._member is None:
            refused = TransactionRefused("inbox positions need a membership; join the group before you begin")
        if refused is not None:
            self._over = True
            raise refused
        await self._write(
            None if self._member is None else InboxPositions(self._member.group, dict(inbox_positions)), last=True
        )
        self._over = True

    async def _write(self, inbox: InboxPositions | None, *, last: bool) -> None:
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        job = Stage(self._records, inbox, done, permitted=self._refusal, staged=self._staged, last=last)
        self._records = []
        self._rows = self._bytes = 0
        try:
            await self._log.run_job(job)
        except BaseException:  # Where this is cancelled too: nobody would go on.
            self._over = True
            raise

    async def abort(self) -> None:
        """See the port."""
        self._over = True
        self._records = []

    def _refusal(self) -> TransactionRefused | None:
        """Also asked on the writer thread, in the transaction that would make the rows visible."""
        if self._over:
            return TransactionRefused("this transaction was aborted, or another of its name was begun")
        if self._log.member is not self._member:
            return TransactionRefused(
                "the membership this transaction was begun with has ended; nothing of it is visible"
            )
        return None
