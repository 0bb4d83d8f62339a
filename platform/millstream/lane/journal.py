"""Appending to the journal, and being sure (lanes.md rules 1, 2 and 5).

One append at a time. An append that is acknowledged at exactly the expected offset proves that nobody else has written,
so what was decided on top of it may take effect. Anything else is looked into:

    acknowledged as expected ─> Appended
    refused ──────────────────> Refused: certainly not there; the same record may be tried again
    else, look at the log:
        own record there, valid ─> Appended, with a new expectation
        a newer fence ───────────> Fenced: another owner
        neither ─────────────────> Void: fence again, then decide again

A record that was reported void may still turn up before the next fence. A new owner therefore folds everything valid
below its fence first; the commands are decided again on top of that, and every command is safe to decide twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from millstream.errors import Busy, LogUnavailable, OffsetOutOfRange
from millstream.log.port import Log, OutcomeUnknown, Produced, Record, Writer
from millstream.log.records import record_missing
from millstream.model.facts import Fact, LaneFenced
from millstream.model.journal import JournalRecord, Position
from millstream.wire.journal import Validity, decode_if_ours, encode_parts, encode_record

READ_RECORDS_MAX = 1_000
READ_BYTES_MAX = 8 * 1024 * 1024
APPEND_BYTES_MAX = 8 * 1024 * 1024
"""Parts handed over at once: a log takes no batch of any size. One part may go beyond it."""


class Void(Exception):
    """The record is not in the journal, or must not count: fence, then decide its commands again."""


class Fenced(Exception):
    """Another owner has fenced this lane."""


class Refused(Exception):
    """The log refused the record: it is certainly not there. The same may be tried again."""


class Unencodable(Exception):
    """The facts are not what the schema says: nothing was written. One of the turn's commands is to blame."""


class Fence(NamedTuple):
    """Where a fence lies in the journal, and the log's time of it."""

    offset: int
    at_ms: int


class Journal:
    """A lane's own journal partition, as its owner sees it.

    ``expected`` is the offset the next record must get; ``owner`` and ``seq`` are those of the last record that counts.
    """

    def __init__(self, log: Log, topic: str, lane: int, *, watchdog_s: float) -> None:
        self._log = log
        self._topic = topic
        self._lane = lane
        self._watchdog_s = watchdog_s
        self._writer: Writer = log.writer(topic, lane)
        self.expected = 0
        self.owner = b""
        self.seq = -1

    async def append(self, facts: tuple[Fact, ...], positions: tuple[Position, ...], at_ms: int) -> int:
        """Append one decision; return its bytes once it is durable and counts.

        Raises Void, Fenced, Refused, or Unencodable.

        ``expected`` and ``seq`` move when all parts are there: until then the place to go on from is before the first.
        """
        record = JournalRecord(self.owner, self.seq + 1, at_ms, facts, positions)
        try:
            parts = encode_parts(record)
        except Exception as error:
            raise Unencodable(f"{type(error).__name__}: {error}") from error
        expected, seq = self.expected, self.seq
        for batch in _batches(parts):
            seq += len(batch)
            offset: int | None = None
            unknown = False
            try:
                offset = await self._writer.append([Produced(part) for part in batch])
            except OutcomeUnknown:
                unknown = True
            except (LogUnavailable, Busy) as error:
                if expected == self.expected:
                    raise Refused(str(error)) from error
                raise Void from error  # The parts before these are there, and are void without them.
            expected = expected + len(batch) if offset == expected else await self._look(seq)
            if unknown:
                await self._renew()
        self.expected, self.seq = expected, seq
        return sum(map(len, parts))

    async def _look(self, seq: int) -> int:
        """Find out what became of records whose acknowledgement was odd; return the offset behind the one with this
        seq.

        When the log can't be read the outcome stays unknown: never the same seq again, so Void and not Refused.
        """
        validity = Validity(self.owner, self.seq)
        try:
            end = await self._log.end_offset(self._topic, self._lane)
            found = await self.read(self.expected, end)
        except (LogUnavailable, OffsetOutOfRange) as error:
            raise Void from error
        for one in found:
            _take(validity, one)
            if validity.owner != self.owner:
                raise Fenced
            if validity.seq == seq:
                return one.offset + 1
        raise Void

    async def fence(self, worker: str, owner: bytes, at_ms: int) -> Fence:
        """Append a fence with a new writer and owner; say where the log has it.

        Raises Refused when it is certainly not there, Void when nobody knows.
        """
        fence = JournalRecord(owner, 0, at_ms, (LaneFenced(worker),))
        unknown = False
        try:
            await self._renew()
            before = await self._log.end_offset(self._topic, self._lane)
            try:
                await self._writer.append([Produced(encode_record(fence))])
            except OutcomeUnknown:
                unknown = True
        except (LogUnavailable, Busy) as error:
            raise Refused(str(error)) from error
        try:
            end = await self._log.end_offset(self._topic, self._lane)
            found = await self.read(before, end)
        except (LogUnavailable, OffsetOutOfRange) as error:
            raise Void from error
        for one in found:
            record = decode_if_ours(one.value)
            if record is not None and record.owner == owner:
                if unknown:
                    await self._renew()
                return Fence(one.offset, one.at_ms)
        raise Void

    async def is_fenced(self) -> bool:
        """Whether a fence lies behind our last record. Raises LogUnavailable."""
        validity, owner, start = Validity(self.owner, self.seq), self.owner, self.expected
        end = await self._log.end_offset(self._topic, self._lane)
        try:
            found = await self.read(start, end) if start < end else ()
        except OffsetOutOfRange:
            return True  # Only an owner trims what lies behind our last record.
        for one in found:
            _take(validity, one)
        return validity.owner != owner

    async def _renew(self) -> None:
        """A new writer: one that had an unknown outcome takes no more, also where its record was found to be there."""
        await self._writer.close()
        self._writer = self._log.writer(self._topic, self._lane)

    def own(self, owner: bytes, fence_offset: int) -> None:
        """From here on: the owner whose fence lies at this offset."""
        self.owner, self.seq, self.expected = owner, 0, fence_offset + 1

    async def read(self, start: int, end: int) -> list[Record]:
        """The records [start, end), which are durable. For the few after an odd append, never for a restore.

        Raises LogUnavailable when the log does not give them in time, OffsetOutOfRange when they were trimmed,
        Corruption when one is missing.
        """
        records: list[Record] = []
        reader = self._log.reader(self._topic, self._lane, start)
        try:
            while reader.position < end:
                page = await reader.read(
                    max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=self._watchdog_s
                )
                if not page:
                    raise LogUnavailable(
                        f"{self._topic}/{self._lane} gave no record at offset {reader.position} within "
                        f"{self._watchdog_s:g} s: expected one, since the log says that it ends at {end}."
                    )
                for record in page:
                    if record.offset >= end:
                        break
                    if record.offset != start + len(records):
                        raise record_missing(self._topic, self._lane, start + len(records), record.offset)
                    records.append(record)
        finally:
            await reader.close()
        return records

    async def close(self) -> None:
        """Close the writer; nothing of it turns up in the journal afterwards."""
        await self._writer.close()


def _batches(parts: list[bytes]) -> Iterator[list[bytes]]:
    """The parts in order, as many at once as a log takes."""
    batch: list[bytes] = []
    size = 0
    for part in parts:
        if batch and size + len(part) > APPEND_BYTES_MAX:
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += len(part)
    yield batch


def _take(validity: Validity, found: Record) -> None:
    record = decode_if_ours(found.value)
    if record is None:
        validity.pass_over()  # Said when the lane is restored.
    else:
        validity.take(record)
