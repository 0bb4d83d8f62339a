"""What callers hold of a memory log: writer, reader, transaction.

An append has two moments, when it is written and when it is answered, and a verdict for both (``faults.py``). Both
come in the order of appending, whatever the delays: a later append waits for an earlier one. Timers of one instant
fire in any order, so a timer names no append but its instant: everything due by then is done, oldest first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from millstream.errors import DiskFull, LimitExceeded, LogUnavailable
from millstream.log.memory.faults import ACKNOWLEDGED, Fate, Faults, Verdict
from millstream.log.memory.group import Held, MemoryMembership
from millstream.log.memory.partition import MemoryPartition
from millstream.log.port import OutcomeUnknown, Produced, Record, TopicKind, TransactionRefused
from millstream.log.records import check_shape


class MemoryClient(Protocol):
    """What the ends need of their log."""

    name: str
    faults: Faults | None

    def must_be_alive(self) -> None: ...

    def now_ms(self) -> int: ...

    def take(self, records: Sequence[Produced]) -> int: ...

    def give_back(self, size: int) -> None: ...

    def find(self, topic: str, partition: int) -> MemoryPartition: ...


@dataclass(slots=True, eq=False)
class _Append:
    records: Sequence[Produced]
    size: int
    verdict: Verdict
    future: asyncio.Future[int | None]
    written_at: float = 0.0
    answered_at: float = 0.0
    first: int | None = None
    dropped: bool = False


class MemoryWriter:
    """Appends to one partition. See the port's ``Writer``."""

    def __init__(self, log: MemoryClient, partition: MemoryPartition) -> None:
        self._log = log
        self._partition = partition
        self._unwritten: deque[_Append] = deque()
        self._unanswered: deque[_Append] = deque()
        self._written_at = 0.0
        self._answered_at = 0.0
        self._closed = False
        self._lost = False  # It had an unknown outcome: what is handed over now could overtake that.

    @property
    def over(self) -> bool:
        """True when it was closed and nothing of it can turn up any more."""
        return self._closed and not self._unwritten

    def append(self, records: Sequence[Produced]) -> asyncio.Future[int | None]:
        """See the port."""
        self._log.must_be_alive()
        if self._closed or self._lost:
            why = "was closed" if self._closed else "had an append with an unknown outcome"
            raise LogUnavailable(f"this writer {why}; nothing was written. Close it and open a new one.")
        spec, number = self._partition.spec, self._partition.number
        if not records:
            raise ValueError("an append needs at least one record")
        check_shape(records, spec.kind)
        largest = max(len(record.value or b"") + len(record.key or b"") for record in records)
        if 0 <= spec.record_bytes_max < largest:
            raise LimitExceeded(
                f"a record of {largest} bytes is too large for topic {spec.name!r}: at most {spec.record_bytes_max} "
                "are taken. Send less."
            )
        size = self._log.take(records)
        faults = self._log.faults
        verdict = ACKNOWLEDGED if faults is None else faults.on_append(self._log.name, spec.name, number)
        loop = asyncio.get_running_loop()
        append = _Append(records, size, verdict, loop.create_future())
        self._plan(loop, append)
        return append.future

    def _plan(self, loop: asyncio.AbstractEventLoop, append: _Append) -> None:
        verdict, now_s = append.verdict, loop.time()
        append.answered_at = now_s + verdict.answered_after_s
        if verdict.written_after_s is not None:
            append.written_at = self._written_at = max(self._written_at, now_s + verdict.written_after_s)
            self._unwritten.append(append)
            _at(loop, append.written_at, self._write)
            if verdict.fate is not Fate.UNKNOWN:
                append.answered_at = max(append.answered_at, append.written_at)
        append.answered_at = self._answered_at = max(self._answered_at, append.answered_at)
        self._unanswered.append(append)
        _at(loop, append.answered_at, self._answer)

    def _write(self, due: float) -> None:
        while self._unwritten and self._unwritten[0].written_at <= due:
            self._write_one(self._unwritten.popleft())

    def _write_one(self, append: _Append) -> None:
        if not append.dropped:
            append.first = self._partition.append(append.records, self._log.now_ms())

    def _answer(self, due: float) -> None:
        self._write(due)  # What is acknowledged at this instant is written first.
        while self._unanswered and self._unanswered[0].answered_at <= due:
            append = self._unanswered.popleft()
            self._log.give_back(append.size)
            self._answer_one(append)

    def _answer_one(self, append: _Append) -> None:
        if append.future.done():
            return
        match append.verdict.fate:
            case Fate.ACKNOWLEDGED:
                append.future.set_result(append.first)
            case Fate.WITHOUT_OFFSET:
                append.future.set_result(None)
            case Fate.WRONG_OFFSET:
                append.future.set_result(0 if append.first else -1)  # Never the offset that somebody may expect.
            case Fate.REFUSED:
                append.future.set_exception(LogUnavailable("the log refused this append; nothing was written"))
            case Fate.NO_ROOM:
                append.future.set_exception(DiskFull("no room on the disk; nothing was written"))
            case Fate.UNKNOWN:
                self._lost = True
                append.future.set_exception(OutcomeUnknown("no answer: the record may be in the log, or turn up later"))

    async def drain(self) -> None:
        """Wait until everything handed over is answered."""
        await asyncio.gather(*(append.future for append in self._unanswered), return_exceptions=True)

    async def close(self) -> None:
        """See the port. What is on the wire already (``outlives_writer``) turns up all the same."""
        self._closed = True
        for append in self._unwritten:
            append.dropped = not append.verdict.outlives_writer
        gone = OutcomeUnknown("the writer was closed before this was answered")
        while self._unanswered:
            append = self._unanswered.popleft()
            self._log.give_back(append.size)
            if not append.future.done():
                append.future.set_exception(gone)

    def crash(self) -> None:
        """The process dies: appends under way are written or lost as the faults decide, and never answered."""
        self._closed = True
        faults, spec = self._log.faults, self._partition.spec
        while self._unwritten:
            append = self._unwritten.popleft()
            place = self._log.name, spec.name, self._partition.number
            surviving = 0 if faults is None else faults.survives_crash(*place, len(append.records))
            if surviving:
                append.records = append.records[:surviving]
                self._write_one(append)
        while self._unanswered:
            self._unanswered.popleft().future.cancel()

    def break_down(self, is_lost: Callable[[], bool]) -> None:
        """The producer fails: nothing that is under way has a known outcome. What is not written yet never will be
        where ``is_lost`` says so, which is asked once for each append."""
        for append in self._unanswered:
            append.verdict = replace(append.verdict, fate=Fate.UNKNOWN)
        for append in self._unwritten:
            append.dropped = append.dropped or is_lost()


class MemoryReader:
    """Reads one partition. See the port's ``Reader``."""

    def __init__(self, log: MemoryClient, partition: MemoryPartition, offset: int) -> None:
        self.position = offset
        self._log = log
        self._partition = partition

    def seek(self, offset: int) -> None:
        """Read from ``offset`` next."""
        self.position = offset

    async def read(self, *, max_records: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """See the port. Suspends only at the end."""
        self._log.must_be_alive()
        records, self.position = self._partition.read(self.position, max_records, max_bytes)
        if records or wait_s <= 0:
            return records
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while not records and loop.time() < deadline:
            await self._wait(loop, deadline)
            self._log.must_be_alive()
            records, self.position = self._partition.read(self.position, max_records, max_bytes)
        return records

    async def _wait(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        moved: asyncio.Future[None] = loop.create_future()
        self._partition.waiting = [other for other in self._partition.waiting if not other.done()]
        self._partition.waiting.append(moved)
        timer = loop.call_at(deadline, _give_up, moved)
        try:
            await moved
        finally:
            timer.cancel()

    async def close(self) -> None:
        """See the port. There is nothing to give back."""


def _give_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _at(loop: asyncio.AbstractEventLoop, due: float, action: Callable[[float], None]) -> None:
    if due > loop.time():
        loop.call_at(due, action, due)
    else:
        loop.call_soon(action, due)


class MemoryTransaction:
    """Rows that become visible together. See the port's ``Transaction``."""

    def __init__(self, log: MemoryClient, name: str, membership: MemoryMembership | None) -> None:
        self.over = False
        self._log = log
        self._name = name
        self._membership = membership
        self._member = None if membership is None else membership.member
        self._held: Held = {} if self._member is None else dict(self._member.known_epochs)
        self._records: list[tuple[MemoryPartition, Sequence[Produced]]] = []

    async def send(self, topic: str, partition: int, records: Sequence[Produced]) -> None:
        """See the port. Never waits."""
        self._must_go_on()
        found = self._log.find(topic, partition)
        if found.spec.kind is not TopicKind.COMPACTED:
            raise ValueError(f"topic {topic!r} is a stream: a transaction writes compacted topics only")
        check_shape(records, found.spec.kind)
        self._records.append((found, records))

    async def commit(self, inbox_positions: Mapping[int, int]) -> None:
        """See the port. The faults' verdict decides when, whether, and what is answered."""
        self._must_go_on()
        faults = self._log.faults
        verdict = ACKNOWLEDGED if faults is None else faults.on_transaction(self._log.name, self._name)
        positions = dict(inbox_positions)
        try:
            if verdict.written_after_s is not None:
                await asyncio.sleep(verdict.written_after_s)
                self._write(positions)
            await asyncio.sleep(max(0.0, verdict.answered_after_s - (verdict.written_after_s or 0.0)))
            self._log.must_be_alive()
        finally:
            self.over = True
        if verdict.fate is Fate.REFUSED:
            raise LogUnavailable("the log refused this transaction; nothing of it is visible")
        if verdict.fate is Fate.NO_ROOM:
            raise DiskFull("no room on the disk; nothing of this transaction is visible")
        if verdict.fate is Fate.UNKNOWN:
            raise OutcomeUnknown("no answer: the transaction may be visible")

    def _write(self, inbox_positions: Mapping[int, int]) -> None:
        self._must_go_on()
        if inbox_positions:
            if self._membership is None or self._member is None:
                raise TransactionRefused("inbox positions need a membership; join the group before you begin")
            if not self._membership.group.still_held(self._member, self._held, inbox_positions):
                raise TransactionRefused(f"lanes {sorted(inbox_positions)} are no longer held as when this was begun")
            self._membership.group.positions |= inbox_positions
        elif self._member is not None and self._member.gone:
            raise TransactionRefused("the membership this transaction was begun with has ended")
        for partition, records in self._records:
            partition.append(records, self._log.now_ms())

    def _must_go_on(self) -> None:
        self._log.must_be_alive()
        if self.over:
            raise TransactionRefused("this transaction is over, or another of its name was begun; begin another one")

    async def abort(self) -> None:
        """See the port."""
        self.over = True
