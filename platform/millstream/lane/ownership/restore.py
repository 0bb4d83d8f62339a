"""Restore: a lane's tables as its journal says they are (lanes.md rules 5, 10, 12, 14).

the local store knows a position, and the journal has that very record there ─> go on from it
else: wipe the store; rows of the last checkpoint from the compacted topics ───> go on behind it
then: fold every valid record up to the end
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from millstream.core.fold import fold
from millstream.core.settle import cannot_fold
from millstream.core.tables import Tables
from millstream.errors import Corruption, LogUnavailable, OffsetOutOfRange, StoreFailed
from millstream.lane.ownership.checkpoints import complete_topics, last_markers
from millstream.lane.ownership.evidence import Evidence
from millstream.log.port import Log
from millstream.log.read_all import read_all
from millstream.log.records import record_missing
from millstream.losses import Losses
from millstream.model.backoff import doubling_s
from millstream.model.journal import JournalRecord
from millstream.model.messages import group_topic
from millstream.model.place import Place
from millstream.model.rows import PositionRow
from millstream.state.keyspace import CHECKPOINT_TOPICS
from millstream.state.marker import Marker, journal_of
from millstream.state.restore import Restore
from millstream.state.store import Store
from millstream.state.tables import LaneTables
from millstream.telemetry import say
from millstream.wire.journal import Validity, decode_if_ours, decode_record

LOG: Final = logging.getLogger("millstream.lane")
READ_RECORDS_MAX: Final = 2_000
READ_BYTES_MAX: Final = 16 * 1024 * 1024
READ_WAIT_S: Final = 5.0
FLUSH_ROWS: Final = 50_000
TRIES_MAX: Final = 11
RETRY_S: Final = 0.2
RETRY_S_MAX: Final = 10.0
TRIES_S: Final = sum(doubling_s(RETRY_S, n, RETRY_S_MAX) for n in range(TRIES_MAX - 1))
"""From the first try to the last: longer than the death of a worker hides its checkpoint (on Kafka, 45 s)."""
TURN_S: Final = 0.005
UNKNOWN: Final = -1
POSITIONS_MAX: Final = 100_000


class Reached(NamedTuple):
    """How far a lane is folded: the next offset, whose records count there, the last record's time."""

    offset: int
    validity: Validity
    at_ms: int
    facts: int


def apply(tables: Tables, record: JournalRecord) -> None:
    """Fold a valid record. Its effects are not released: the tables say what is still owed."""
    for fact in record.facts:
        try:
            fold(tables, fact, record.at_ms)
        except StoreFailed:
            raise
        except Exception as error:
            raise cannot_fold(tables, fact, error) from error
    for p in record.positions:
        held = tables.positions.get((p.topic, p.partition))
        assert held is None or held.offset <= p.offset, (
            f"record {record.seq} of the journal puts source {p.topic}/{p.partition} back from {held.offset} to "
            f"{p.offset}: positions go forward, or back by a SourceGap"
        )
        tables.positions.put((p.topic, p.partition), PositionRow(p.topic, p.partition, p.offset))


async def restore(
    log: Log, place: Place, store: Store, progress: Callable[[int, int], None], losses: Losses | None = None
) -> tuple[LaneTables, Reached]:
    """The lane's tables, at the journal's end.

    ``progress`` is told (rows taken, UNKNOWN) while it reads a checkpoint, then (facts folded, records left).

    Raises AcknowledgedLost when store or checkpoint hold more than the journal and ``losses`` does not accept that,
    Corruption when the topics can't be what this lane wrote.
    """
    evidence = Evidence(log, place, losses or Losses(), await log.topic_identity(_journal(place)))
    for n in range(TRIES_MAX):
        found = await _restored_to_marker(evidence, store, progress)
        if found is None:
            # A checkpoint is being written, or trimmed to, at this moment; or its writer has died.
            await asyncio.sleep(doubling_s(RETRY_S, n, RETRY_S_MAX))
            continue
        tables, reached = found
        try:
            end = await log.end_offset(_journal(place), place.lane)
            reached = await fold_upto(log, tables, reached, end, progress)
            await evidence.check_positions(row for _, row in tables.positions.scan(limit=POSITIONS_MAX))
            return tables, reached
        except OffsetOutOfRange:
            store.wipe()
    markers = await last_markers(log, place.group, place.lane)
    shown = ", ".join(
        f"{group_topic(place.group, which)} {'none' if marker is None else f'that of record {marker.offset}'}"
        for which, marker in markers.items()
    )
    start, end = await log.start_offset(_journal(place), place.lane), await log.end_offset(_journal(place), place.lane)
    raise Corruption(
        f"lane {place.lane} could not be restored in {TRIES_MAX} tries: the compacted topics of group "
        f"{place.group!r} do not show one checkpoint behind which the journal goes on: {shown}; the journal holds "
        f"{start} to {end}. A topic that shows none, or an older one, was deleted and made anew or is an older copy: "
        "bring it back from a backup, or start a worker whose disk still has this lane, which writes it again. "
        "Look at them with: millstream lanes verify."
    )


async def _restored_to_marker(
    evidence: Evidence, store: Store, progress: Callable[[int, int], None]
) -> tuple[LaneTables, Reached] | None:
    """Tables, and where to fold on from; None: the topics are not at rest, look again."""
    log, place = evidence.log, evidence.place
    topic = _journal(place)
    tables = _tables(evidence, store)
    if tables.marker is not None:
        reached = await _reached_marker(log, topic, place.lane, tables.marker)
        if reached is not None:
            await complete_topics(evidence, tables)
            return tables, reached
        await evidence.check(tables.marker, "the lane's store")
    rows = Restore(store)  # Empties it: rows are never layered over others of an unknown past.
    await _read_checkpoint(log, place, rows, progress)
    marker = rows.marker()
    start = await log.start_offset(topic, place.lane)
    if marker is None and not (rows.empty and start == 0):
        return None
    await rows.finish()
    tables = _tables(evidence, store)
    if marker is None:
        return tables, Reached(0, Validity(), 0, 0)
    reached = await _reached_marker(log, topic, place.lane, marker)
    if reached is None and marker.offset + 1 == start:
        # The checkpoint's own record was trimmed, all behind it is there.
        reached = Reached(start, Validity(marker.owner, marker.seq), 0, 0)
    if reached is None:
        await evidence.check(marker, "the lane's checkpoint")
    return None if reached is None else (tables, reached)


def _tables(evidence: Evidence, store: Store) -> LaneTables:
    tables = LaneTables(evidence.place, store)
    tables.journal = journal_of(_journal(evidence.place), evidence.place.lane, evidence.journal_identity)
    return tables


async def _read_checkpoint(log: Log, place: Place, rows: Restore, progress: Callable[[int, int], None]) -> None:
    """All rows of the compacted topics. They are fetched side by side: a broker's first answer takes its time."""
    writing = asyncio.Lock()

    async def take(which: str) -> None:
        async for page in read_all(log, group_topic(place.group, which), place.lane):
            async with writing:
                await rows.take(which, [(record.key or b"", record.value) for record in page])
            progress(rows.rows, UNKNOWN)

    taking = [asyncio.ensure_future(take(which)) for which in CHECKPOINT_TOPICS]
    try:
        await asyncio.gather(*taking)
    finally:
        for task in taking:
            task.cancel()
        await asyncio.gather(*taking, return_exceptions=True)


async def _reached_marker(log: Log, topic: str, lane: int, marker: Marker) -> Reached | None:
    """The place behind a marker, if the journal still has the marker's record there."""
    start, end = await log.start_offset(topic, lane), await log.end_offset(topic, lane)
    if not start <= marker.offset < end:
        return None
    reader = log.reader(topic, lane, marker.offset)
    try:
        page = await reader.read(max_records=1, max_bytes=1, wait_s=READ_WAIT_S)
    except OffsetOutOfRange:
        return None
    finally:
        await reader.close()
    if not page or page[0].offset != marker.offset:
        return None
    record = decode_record(page[0].value or b"")
    if (record.owner, record.seq) != (marker.owner, marker.seq):
        return None
    return Reached(marker.offset + 1, Validity(marker.owner, marker.seq), record.at_ms, 0)


async def fold_upto(
    log: Log, tables: LaneTables, reached: Reached, end: int, progress: Callable[[int, int], None]
) -> Reached:
    """Fold every valid record in [reached.offset, end). Raises OffsetOutOfRange when they were trimmed meanwhile,
    Corruption when one is missing."""
    topic, lane = _journal(tables.place), tables.place.lane
    offset, validity, at_ms, facts = reached
    reader = log.reader(topic, lane, offset)
    time = asyncio.get_running_loop().time
    yielded_s = time()
    try:
        while reader.position < end:
            try:
                page = await reader.read(max_records=READ_RECORDS_MAX, max_bytes=READ_BYTES_MAX, wait_s=READ_WAIT_S)
            except LogUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            for found in page:
                if found.offset >= end:
                    break
                if found.offset != offset:
                    raise record_missing(topic, lane, offset, found.offset)
                decoded = decode_if_ours(found.value)
                offset = found.offset + 1
                if decoded is None:
                    validity.pass_over()
                    place = f"{topic}/{lane}@{found.offset}"
                    say(
                        LOG,
                        "foreign record passed over",
                        level=logging.ERROR,
                        place=place,
                        bytes=len(found.value or b""),
                    )
                    continue
                record = validity.take(decoded)
                if time() - yielded_s > TURN_S:
                    await asyncio.sleep(0)  # Other lanes of this worker live on meanwhile.
                    yielded_s = time()
                if record is None:
                    continue
                tables.mark_history_unknown()
                apply(tables, record)
                tables.promote(len(found.value or b""))
                at_ms = max(at_ms, record.at_ms)
                facts += len(record.facts)
                if tables.overlay_rows > FLUSH_ROWS:
                    await tables.flush(Marker(tables.journal, found.offset, record.owner, record.seq))
            progress(facts, end - offset)
            await asyncio.sleep(0)
    finally:
        await reader.close()
    if offset < end:
        raise record_missing(topic, lane, offset, end)
    return Reached(offset, validity, at_ms, facts)


def _journal(place: Place) -> str:
    return group_topic(place.group, "journal")
