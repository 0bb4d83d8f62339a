"""Appending to the journal, and being sure (lanes.md rules 1, 2 and 5).

One append at a time. An append that is acknowledged at exactly the expected offset proves that nobody else has written,
so what was decided on top of it may take effect. Anything else is looked into:

    acknowledged as expected ─> Appended
    refused ──────────────────> Refused: certainly not there; the same record may be tried again
    else, look at the log:
        own record there, valid ─> Appended, with a new expectation
        a newer fence ───────────> Fenced: another owner
        neither ─────────────────> Void: fence again, then decide again

A record that was reported void may still turn up before the next fence. Whoever fences therefore folds everything valid
below the fence first; the commands are decided again on top of that, and every command is safe to decide twice.
"""

from __future__ import annotations

from contextlib import suppress

from penstock.errors import LogUnavailable, OffsetOutOfRange
from penstock.log.port import Log, OutcomeUnknown, Produced, Record, Writer
from penstock.model.facts import Fact, LaneFenced
from penstock.model.journal import JournalRecord, Position
from penstock.wire.journal import Validity, decode_record, encode_parts, encode_record

READ_RECORDS_MAX = 1_000
READ_BYTES_MAX = 8 * 1024 * 1024


class Void(Exception):
    """The record is not in the journal, or must not count: fence, then decide its commands again."""


class Fenced(Exception):
    """Another owner has fenced this lane."""


class Refused(Exception):
    """The log refused the record: it is certainly not there. The same may be tried again."""


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
        """Append one decision; return its bytes once it is durable and counts. Raises Void, Fenced or Refused."""
        record = JournalRecord(self.owner, self.seq + 1, at_ms, facts, positions)
        parts = encode_parts(record)
        offset: int | None = None
        try:
            offset = await self._writer.append([Produced(part) for part in parts])
        except OutcomeUnknown:
            pass
        except LogUnavailable as error:
            raise Refused(str(error)) from error
        if offset == self.expected:
            self.expected += len(parts)
            self.seq += len(parts)
        else:
            await self._look(record, len(parts))
        return sum(map(len, parts))

    async def _look(self, record: JournalRecord, parts: int) -> None:
        """Find out what became of a record whose acknowledgement was odd."""
        validity = Validity(self.owner, self.seq)
        try:
            end = await self._log.end_offset(self._topic, self._lane)
            records = await self.read(self.expected, end)
        except (LogUnavailable, Refused) as error:
            # It may be there all the same: never "refused", or another record would follow under the same number.
            raise Void from error
        for found in records:
            taken = validity.take(decode_record(_value(found)))
            if validity.owner != self.owner:
                raise Fenced
            if taken is not None and taken.seq == record.seq + parts - 1:
                self.expected, self.seq = found.offset + 1, taken.seq
                return
        raise Void

    async def fence(self, worker: str, owner: bytes, at_ms: int) -> int:
        """Append a fence with a new writer and owner; return its offset.

        Raises Void or Refused when it is not known to be there; should it turn up later, it is a fence like another's.
        """
        await self._writer.close()
        self._writer = self._log.writer(self._topic, self._lane)
        record = JournalRecord(owner, 0, at_ms, (LaneFenced(worker),))
        try:
            before = await self._log.end_offset(self._topic, self._lane)
            with suppress(OutcomeUnknown):
                await self._writer.append([Produced(encode_record(record))])
            end = await self._log.end_offset(self._topic, self._lane)
            records = await self.read(before, end)
        except LogUnavailable as error:
            raise Refused(str(error)) from error
        for found in records:
            if decode_record(_value(found)).owner == owner:
                return found.offset
        raise Void

    def own(self, owner: bytes, fence_offset: int) -> None:
        """From here on: the owner whose fence lies at this offset."""
        self.owner, self.seq, self.expected = owner, 0, fence_offset + 1

    async def read(self, start: int, end: int) -> list[Record]:
        """The records [start, end), which are durable. For the few after an odd append, never for a restore."""
        records: list[Record] = []
        reader = self._log.reader(self._topic, self._lane, start)
        try:
            while reader.position < end:
                page = await reader.read(
                    max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=self._watchdog_s
                )
                if not page:
                    raise Refused(
                        f"{self._topic}/{self._lane} gave no record at offset {reader.position} below its end {end}"
                    )
                records += [r for r in page if r.offset < end]
        except OffsetOutOfRange as error:
            raise Void from error
        finally:
            await reader.close()
        return records

    async def close(self) -> None:
        """Let go of the writer; nothing of it turns up afterwards."""
        await self._writer.close()


def _value(record: Record) -> bytes:
    assert record.value is not None, f"journal record at {record.offset} has no value"
    return record.value
