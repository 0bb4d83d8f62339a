"""What the compacted topics show at a take-over, for a store that goes on by itself (lanes.md rule 12).

A store that matches its journal reads no checkpoint, and its next one writes the rows that changed since the last. So a
compacted topic that was deleted and made anew, or restored from an older copy, would get a marker that looks whole over
rows that are not there, and the next worker without this disk would restore half a lane. Hence each topic is asked for
its last marker, which is its last record:

    at least as new as the checkpoint that the store stands on ──> all is well
    older, or none ──> every row of the store is marked as changed, and every row that only the topic has as deleted;
                       the next checkpoint, due at once, writes all of it anew
    newer than the journal's end ──> the journal has lost something (``evidence.py``)
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from millstream.lane.ownership.evidence import Evidence
from millstream.log.port import Log
from millstream.log.read_all import read_all, read_rest
from millstream.model.messages import group_topic
from millstream.state.keyspace import BY_PREFIX, CHECKPOINT_TOPICS, CHECKPOINTED_KEY, MARKER_KEY
from millstream.state.marker import Marker, decode_marker
from millstream.state.tables import LaneTables
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.lane")
LOOKED_BACK: Final = 16
"""Offsets behind which the last marker usually lies; aborted transactions may put it further back."""
FURTHER: Final = 64


async def complete_topics(evidence: Evidence, tables: LaneTables) -> None:
    """Make sure that the next checkpoint leaves whole topics. Raises AcknowledgedLost where the journal ends early."""
    log, place = evidence.log, evidence.place
    shown = await last_markers(log, place.group, place.lane)
    end = await log.end_offset(group_topic(place.group, "journal"), place.lane)
    for marker in shown.values():
        if marker is not None and marker.offset >= end:
            await evidence.check(marker, "the lane's checkpoint")
    base = tables.checkpointed[-1].marker if tables.checkpointed else None
    if base is None:
        return  # No checkpoint has ever taken a mark away: every row is marked as it is.
    behind = [which for which, marker in shown.items() if marker is None or marker.offset < base.offset]
    if not behind:
        return
    stale: list[bytes] = []
    for which in behind:
        async for page in read_all(log, group_topic(place.group, which), place.lane):
            stale += [
                record.key
                for record in page
                if record.key is not None and record.key not in (MARKER_KEY, CHECKPOINTED_KEY)
                and record.key[:1] in BY_PREFIX and tables.store.get(record.key) is None
            ]  # fmt: skip
    rows = await tables.mark_all(stale)
    topics = ", ".join(group_topic(place.group, which) for which in behind)
    say(LOG, "checkpoint lost", level=logging.ERROR, lane=place.lane, topics=topics, expected=base.offset,
        shown=str({which: marker.offset if marker else None for which, marker in shown.items()}), rows=rows,
        meaning="the topics were made anew or are an older copy; every row is written again")  # fmt: skip


async def last_markers(log: Log, group: str, lane: int) -> dict[str, Marker | None]:
    """The last marker of each compacted topic of a lane, side by side; None where a topic has none."""
    found = await asyncio.gather(*(_last(log, group_topic(group, which), lane) for which in CHECKPOINT_TOPICS))
    return dict(zip(CHECKPOINT_TOPICS, found, strict=True))


async def _last(log: Log, topic: str, lane: int) -> Marker | None:
    start, end = await log.start_offset(topic, lane), await log.end_offset(topic, lane)
    look_back = LOOKED_BACK
    while start < end:
        begin = max(start, end - look_back)
        reader = log.reader(topic, lane, begin)
        marker: Marker | None = None
        try:
            async for page in read_rest(log, topic, lane, reader):
                for record in page:
                    if record.key == MARKER_KEY and record.value is not None:
                        marker = decode_marker(record.value)
        finally:
            await reader.close()
        if marker is not None or begin == start:
            return marker
        look_back *= FURTHER
    return None
