"""A lane's evidence that its journal has lost something: a marker beyond what the journal holds (lanes.md rule 10).

A store or a checkpoint speaks only for records that were acknowledged. So when the journal does not have the marker's
record, there are three cases:

    it was trimmed away ───────────────────────> old rows, nothing lost: restore from the checkpoint
    the journal ends before it ────────────────> acknowledged records are gone
    another record is there, or another journal ─> the journal was made anew, or replaced by an older copy

The last two refuse, because a restore would begin again somewhere earlier without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from millstream.log.port import Log
from millstream.losses import Losses
from millstream.model.messages import group_topic
from millstream.model.place import Place
from millstream.model.rows import PositionRow
from millstream.state.marker import Marker, journal_of

REMEDY: Final = (
    "Bring the topic back from a backup that is as new. Do not make it anew: what it held would be lost, and events "
    "that are still held would start functions again."
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Compares markers of one lane with its journal. ``losses`` decides what a contradiction means."""

    log: Log
    place: Place
    losses: Losses
    journal_identity: str

    async def check_positions(self, positions: Iterable[PositionRow]) -> None:
        """A lane has read no further than what was there. Foreign topics are their owners': a gap, and an alarm."""
        place = self.place
        ours = (place.events_topic, group_topic(place.group, "inbox"), group_topic(place.group, "functions"))
        read = [row for row in positions if row.topic in ours]
        ends = await asyncio.gather(*(self.log.end_offset(row.topic, row.partition) for row in read))
        for row, end in zip(read, ends, strict=True):
            if row.offset > end:
                self.losses.found(
                    f"lane {place.lane} of group {place.group!r} is refused: records are missing from topic "
                    f"{row.topic!r} partition {row.partition}: the lane has read it up to offset {row.offset}, and it "
                    f"ends at {end}. It was deleted and made anew, or replaced by an older copy.",
                    REMEDY,
                )

    async def check(self, marker: Marker, who: str) -> None:
        """``who`` speaks for a record that the journal does not have. Returns where that is no loss, or accepted."""
        topic = group_topic(self.place.group, "journal")
        lane = self.place.lane
        name, _, identity = marker.journal.partition("@")
        if name != journal_of(topic, lane, ""):
            return  # Of another group or lane: a cache of something else. Or of before 0.9, which does not say.
        start, end = await self.log.start_offset(topic, lane), await self.log.end_offset(topic, lane)
        what = ""
        if identity and self.journal_identity and identity != self.journal_identity:
            what = (
                f"topic {topic!r} was deleted and made anew: {who} stands on record {marker.offset} of "
                f"{marker.journal}, and its identity is {self.journal_identity} now."
            )
        elif marker.offset >= end:
            what = (
                f"acknowledged records are missing from topic {topic!r} partition {lane}: offsets {end} to "
                f"{marker.offset} at least. {who[0].upper()}{who[1:]} includes record {marker.offset}, and the topic "
                f"holds {start} to {end}."
            )
        elif marker.offset >= start:
            what = (
                f"topic {topic!r} partition {lane} is not what it was: {who} includes record {marker.offset} of owner "
                f"{marker.owner.hex()}, and another record is there. It was made anew, or replaced by an older copy."
            )
        if what:
            self.losses.found(f"lane {lane} of group {self.place.group!r} is refused: {what}", REMEDY)
