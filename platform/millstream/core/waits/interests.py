"""Where events are read: what this lane forwards to the homes of those who wait, and how it looks for earlier events.

    SeekEvents ─> InterestSeen: from this record on such events are forwarded as they are read
               ─> SeekStarted, a scan of each partition: those that were read before ─> SeekPassed … ─> EventsSought

The scan's end is looked up after the interest is durable, so whatever the reader has passed over before lies inside. An
event may be found by both ways: its home knows it by its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core.handles import Handles
from millstream.core.intake import seen
from millstream.core.intake.topics import opened
from millstream.core.messages import MessageKind
from millstream.core.tables import Tables
from millstream.core.triggers.readable import readable
from millstream.core.waits.awaited_names import Wanted
from millstream.core.waits.places import place_at
from millstream.errors import BadRequest
from millstream.model import limits
from millstream.model.commands import AdvanceScan, EventsSought, SeekEvents, TakeEvent
from millstream.model.effects import Effect
from millstream.model.event import Envelope
from millstream.model.facts import (
    EventNoted,
    Fact,
    InterestDropped,
    InterestSeen,
    Post,
    ScanAdvanced,
    ScanBounded,
    ScanEnded,
    ScanStarted,
    SeekPassed,
    SeekStarted,
)
from millstream.model.ids import lane_of_source
from millstream.model.rows import InterestRow, ScanRow, SeekRow
from millstream.model.waits.awaited import home_of_place

SEEK: Final = "seek"
"""The purpose of a scan that looks for events that somebody waits for."""
FROM_TIME: Final = -1
UNBOUNDED: Final = -1
"""The end of a scan that its reader looks up."""
SLACK_MS: Final = limits.MINUTE_MS
"""Scans begin so much earlier: the times of records are clocks of several machines."""
FORWARD_NO_MORE: Final = -1
"""The ``since_ms`` of a home that wants no more of what it has asked for."""


def forward(tables: Tables, event: Envelope, wanted: Wanted) -> list[Fact]:
    """The messages that bring the event to those homes of its places that want it."""
    try:
        value = readable(event)
    except BadRequest:
        return []  # No JSON: its producer went past the door, and nothing in it can be asked for.
    lanes = tables.place.lanes
    by_home: dict[int, list[str]] = {}
    for path, homes in wanted.items():
        place = place_at(event.name, value, path)
        if place and (home := home_of_place(place, lanes)) in homes:
            by_home.setdefault(home, []).append(place)
    return [Post(home, TakeEvent(event, tuple(places))) for home, places in by_home.items()]


def seek(tables: Tables, command: SeekEvents, now_ms: int) -> list[Fact]:
    """A home asks for events, from now on and from before."""
    place = tables.place
    facts: list[Fact] = []
    is_known = tables.interests.get((command.event, command.path, command.home)) is not None
    if command.since_ms == FORWARD_NO_MORE:
        return [InterestDropped(command.event, command.path, command.home)] if is_known else []
    if not is_known:
        facts.append(InterestSeen(command.event, command.path, command.home))
    topic = place.events_topic
    partitions = [row.partition for row in opened(tables, topic)]
    partitions = [p for p in partitions if lane_of_source(topic, p, place.lanes) == place.lane]
    if not partitions:
        return [*facts, _sought(tables, command.event, command.path, command.home, command.seek)]
    scan = f"{SEEK}:{command.home}:{command.seek}:{command.event}:{command.path}"
    facts.append(SeekStarted(scan, command.event, command.path, command.home, command.seek, len(partitions)))
    since_ms = max(command.since_ms - SLACK_MS, 0)
    facts += (ScanStarted(scan, p, "", topic, SEEK, "", since_ms, FROM_TIME, UNBOUNDED) for p in partitions)
    return facts


def _sought(tables: Tables, event: str, path: str, home: int, number: int) -> Post:
    return Post(home, EventsSought(event, path, tables.place.lane, number))


def advance(tables: Tables, row: ScanRow, command: AdvanceScan) -> list[Fact]:
    """Forward what a page holds of the events that are looked for, and move the scan on; both or neither."""
    request = tables.seeks.get(row.scan)
    assert request is not None, f"scan {row.scan} looks for events that nobody has asked for"
    facts: list[Fact] = []
    upto = row.upto
    if upto < 0:
        upto = command.upto
        facts.append(ScanBounded(row.scan, row.partition, upto))
    for read in command.reads:
        if read.event is not None and read.event.name == request.event:
            facts += forward(tables, read.event, {request.path: (request.home,)})
    at = min(command.to_offset, upto)
    facts.append(ScanAdvanced(row.scan, row.partition, at, 0))
    if at >= upto:
        facts += (ScanEnded(row.scan, row.partition, False, 0), SeekPassed(row.scan))
        if request.left == 1:
            facts.append(_sought(tables, request.event, request.path, request.home, request.seek))
    return facts


SEEK_EVENTS = MessageKind(message=SeekEvents, decide=seek, answers=False)


# --- fold -----------------------------------------------------------------------------------------


def interest_seen(tables: Tables, f: InterestSeen, at_ms: int) -> Sequence[Effect]:
    """Such events are forwarded."""
    tables.interests.put((f.event, f.path, f.home), InterestRow(f.event, f.path, f.home))
    return ()


def interest_dropped(tables: Tables, f: InterestDropped, at_ms: int) -> Sequence[Effect]:
    """They are not any more."""
    tables.interests.delete((f.event, f.path, f.home))
    return ()


def seek_started(tables: Tables, f: SeekStarted, at_ms: int) -> Sequence[Effect]:
    """Scans are under way for a home."""
    tables.seeks.put(f.scan, SeekRow(f.scan, f.event, f.path, f.home, f.seek, f.partitions))
    return ()


def seek_passed(tables: Tables, f: SeekPassed, at_ms: int) -> Sequence[Effect]:
    """One of them is through."""
    row = tables.seeks.get(f.scan)
    assert row is not None, f"scan {f.scan} has passed, and was not asked for"
    if row.left > 1:
        tables.seeks.put(f.scan, replace(row, left=row.left - 1))
    else:
        tables.seeks.delete(f.scan)
    return ()


def event_noted(tables: Tables, f: EventNoted, at_ms: int) -> Sequence[Effect]:
    """The event's id is remembered."""
    seen.remember(tables, f)
    return ()


HANDLES = Handles(
    facts={
        InterestSeen: interest_seen,
        InterestDropped: interest_dropped,
        SeekStarted: seek_started,
        SeekPassed: seek_passed,
        EventNoted: event_noted,
    }
)
