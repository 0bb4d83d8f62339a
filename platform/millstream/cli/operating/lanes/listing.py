"""``millstream lanes list``: who owns each lane and since when, how far behind it is, how long its journal is.

Cheap, also of a journal of a day: only ends are read. The last record of a journal says its number since the fence that
began its owner's time, so the fence is that many records before it (a few more where a zombie wrote in between). A
fence that has been trimmed away took the owner's name with it: then the owner is an id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from millstream.cli.operating.lanes.access import LaneAccess, lane_access
from millstream.cli.operating.lanes.inspection import time_text
from millstream.cli.support.exits import OK
from millstream.cli.support.output import show_rows
from millstream.config import Settings
from millstream.errors import Corruption, OffsetOutOfRange
from millstream.log.port import Log, Record
from millstream.model.facts import LaneFenced
from millstream.model.journal import JournalRecord
from millstream.model.messages import group_topic
from millstream.state.keyspace import MARKER_KEY, TIMERS
from millstream.state.marker import decode_marker
from millstream.wire.journal import decode_record

COLUMNS: Final = ("lane", "owner", "since", "lag", "journal", "last_checkpoint", "since_checkpoint")
TAIL_RECORDS: Final = 64
STEPS_BACK_MAX: Final = 200
READ_BYTES_MAX: Final = 32 << 20
READ_WAIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Fence:
    """Where an owner's time began. ``worker`` is empty and the time 0 where the fence is not there any more."""

    owner: str
    worker: str = ""
    offset: int = -1
    at_ms: int = 0


def list_lanes(settings: Settings) -> int:
    """Print a row for each lane."""
    show_rows(settings, asyncio.run(_rows(settings)), COLUMNS)
    return OK


async def _rows(settings: Settings) -> list[dict[str, Any]]:
    async with lane_access(settings) as access:
        return [await _row(access, lane) for lane in range(access.made.lanes)]


async def _row(access: LaneAccess, lane: int) -> dict[str, Any]:
    log, group = access.log, access.made.group
    journal = group_topic(group, "journal")
    start, end = await log.start_offset(journal, lane), await log.end_offset(journal, lane)
    fence = await last_fence(log, journal, lane)
    marked, marked_at_ms = await last_checkpoint(log, group_topic(group, TIMERS), lane)
    positions = await access.positions(lane)
    lags = {
        f"{topic}/{partition}": max(0, await log.end_offset(topic, partition) - offset)
        for (topic, partition), offset in sorted(positions.items())
    }
    return {
        "group": group,
        "lane": lane,
        "owner": None if fence is None else fence.worker or fence.owner,
        "owner_id": None if fence is None else fence.owner,
        "since": None if fence is None else time_text(fence.at_ms),
        "lag": sum(lags.values()),
        "lags": lags,
        "journal": end - start,
        "journal_start": start,
        "journal_end": end,
        "last_checkpoint": time_text(marked_at_ms),
        "since_checkpoint": end - marked - 1 if marked >= 0 else end - start,
    }


async def last_fence(log: Log, topic: str, lane: int) -> Fence | None:
    """The fence of the lane's owner; None for a journal without records."""
    start, end = await log.start_offset(topic, lane), await log.end_offset(topic, lane)
    found: dict[bytes, Fence] = {}
    async for record, read in _journal(log, topic, lane, max(start, end - TAIL_RECORDS)):
        if read.owner not in found:
            found[read.owner] = await _fence_of(log, topic, lane, (record, read))
    return max(found.values(), key=lambda fence: fence.offset, default=None)


async def _fence_of(log: Log, topic: str, lane: int, last: tuple[Record, JournalRecord]) -> Fence:
    """Walk back from one of its records: ``seq`` records at a time, one at a time over those of others."""
    record, read = last
    owner = read.owner
    for _ in range(STEPS_BACK_MAX):
        if read.owner == owner and read.seq == 0:
            fact = read.facts[0] if read.facts else None
            worker = fact.worker if isinstance(fact, LaneFenced) else ""
            return Fence(owner.hex(), worker, record.offset, record.at_ms)
        before = record.offset - (max(read.seq, 1) if read.owner == owner else 1)
        if before < await log.start_offset(topic, lane):
            break
        async with aclosing(_journal(log, topic, lane, before)) as records:
            found = await anext(records, None)
        if found is None:
            break
        record, read = found
    return Fence(owner.hex())


async def last_checkpoint(log: Log, topic: str, lane: int) -> tuple[int, int]:
    """The journal record that the last checkpoint speaks of, and when it was made; −1 and 0 for none.

    A checkpoint ends with its marker in each topic, so that is at the end of the topic that has the fewest rows.
    """
    start, end = await log.start_offset(topic, lane), await log.end_offset(topic, lane)
    back = TAIL_RECORDS
    while True:
        begin = max(start, end - back)
        found = (-1, 0)
        async for record in _records(log, topic, lane, begin):
            if record.key == MARKER_KEY and record.value is not None:
                found = (decode_marker(record.value).offset, record.at_ms)
        if found[0] >= 0 or begin <= start:
            return found
        back *= 16


async def _journal(log: Log, topic: str, lane: int, offset: int) -> AsyncGenerator[tuple[Record, JournalRecord], None]:
    async for record in _records(log, topic, lane, offset):
        try:
            yield record, decode_record(record.value or b"")
        except Corruption:
            continue  # `lanes verify` says what is wrong with it.


async def _records(log: Log, topic: str, lane: int, offset: int) -> AsyncGenerator[Record, None]:
    """The records from an offset up to the end as it is now."""
    end = await log.end_offset(topic, lane)
    reader = log.reader(topic, lane, offset)
    try:
        while reader.position < end:
            try:
                page = await reader.read(max_records=1_000, max_bytes=READ_BYTES_MAX, wait_s=READ_WAIT_S)
            except OffsetOutOfRange as gone:
                reader.seek(max(gone.start, reader.position) if reader.position < gone.end else gone.end)
                continue
            if not page and reader.position < end:
                return
            for record in page:
                yield record
    finally:
        await reader.close()
