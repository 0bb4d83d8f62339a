"""Lanes read from outside: each lane's journal, and the tables it folds into.

Works while a server writes, and on what a crash left. Nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from millstream.errors import Corruption, OffsetOutOfRange
from millstream.group_note import Made
from millstream.lane.ownership.restore import Reached, restore
from millstream.log.embedded.verify import Finding
from millstream.log.port import Log, Record
from millstream.log.records import record_missing
from millstream.model.facts import LaneFenced
from millstream.model.messages import group_topic
from millstream.model.place import Place
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from millstream.wire.journal import Validity, decode_record

READ_RECORDS_MAX: Final = 1_000
READ_BYTES_MAX: Final = 16 * 1024 * 1024
READ_WAIT_S: Final = 15.0
FINDINGS_PER_LANE_MAX: Final = 100


@dataclass(slots=True)
class Walked:
    """What a walk over a lane's journal saw. ``void``: records that lost the race for the lane, which is lawful."""

    topic: str
    lane: int
    start: int = 0
    end: int = 0
    records: int = 0
    void: int = 0
    facts: int = 0
    fences: int = 0
    owner: str = ""
    worker: str = ""
    seq: int = -1
    at_ms: int = 0
    findings: list[Finding] = field(default_factory=list)

    def find(self, offset: int, problem: str) -> None:
        """Note a finding; at most ``FINDINGS_PER_LANE_MAX`` are kept."""
        if len(self.findings) < FINDINGS_PER_LANE_MAX:
            self.findings.append(Finding(self.topic, self.lane, offset, problem))


async def walk(log: Log, group: str, lane: int) -> Walked:
    """Decode every record of a lane's journal and see which count."""
    topic = group_topic(group, "journal")
    seen = Walked(topic, lane, await log.start_offset(topic, lane), await log.end_offset(topic, lane))
    validity: Validity | None = None
    reader = log.reader(topic, lane, seen.start)
    expected = seen.start
    try:
        while reader.position < seen.end:
            try:
                page = await reader.read(max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=READ_WAIT_S)
            except OffsetOutOfRange as gone:
                reader.seek(gone.start)  # Trimmed while we read.
                seen.start, validity, expected = gone.start, None, gone.start
                continue
            except Corruption as error:
                seen.find(reader.position, f"the journal cannot be read any further: {error}")
                break
            if not page and reader.position < seen.end:
                seen.find(reader.position, f"expected records up to {seen.end}, got none")
                break
            for record in page:
                if record.offset < seen.end:
                    if record.offset != expected:
                        seen.find(record.offset, str(record_missing(topic, lane, expected, record.offset)))
                    expected = record.offset + 1
                    validity = _take(seen, record, validity)
    finally:
        await reader.close()
    if validity is not None:
        seen.owner, seen.seq = validity.owner.hex(), validity.seq
    return seen


async def tables_of(log: Log, made: Made, lane: int) -> tuple[LaneTables, Reached]:
    """The lane's tables as the topics say, in memory. Raises Corruption, and whatever a fold that fails raises."""
    return await restore(log, place_of(made, lane), MemoryStore(), lambda facts, left: None)


def place_of(made: Made, lane: int) -> Place:
    """The place of a lane of the directory."""
    return Place(made.group, lane, made.lanes, "events", -1)


def _take(seen: Walked, found: Record, validity: Validity | None) -> Validity | None:
    seen.records += 1
    try:
        if found.value is None:
            raise Corruption("expected a record, got a tombstone")
        record = decode_record(found.value)
    except Corruption as error:
        seen.find(found.offset, str(error))
        return validity
    if validity is None:
        # Behind a trimmed start the fence is gone: the first record there counts, it was kept for being needed.
        fresh = record.seq == 0 and record.facts and isinstance(record.facts[0], LaneFenced)
        validity = Validity() if fresh or seen.start == 0 else Validity(record.owner, record.seq - 1)
    before = validity.parts_held
    try:
        complete = validity.take(record)
    except Corruption as error:
        seen.find(found.offset, str(error))
        return validity
    if complete is None:
        seen.void += validity.parts_held <= before
        return validity
    seen.facts += len(complete.facts)
    seen.at_ms = complete.at_ms
    for fact in complete.facts:
        if isinstance(fact, LaneFenced):
            seen.fences += 1
            seen.worker = fact.worker
    return validity
