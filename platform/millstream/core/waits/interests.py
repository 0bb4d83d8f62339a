"""Where events are read: what this lane forwards to the homes of those who wait, and how it looks for earlier events.

    SeekEvents ─> InterestSeen: from this record on such events are forwarded as they are read
               ─> SeekStarted, a scan of each partition: those that were read before ─> SeekPassed … ─> EventsSought

The scan's end is looked up after the interest is durable, so whatever the reader has passed over before lies inside. An
event may be found by both ways: its home knows it by its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core.handles import Handles
from millstream.core.intake import seen
from millstream.core.intake.topics import opened
from millstream.core.messages import MessageKind
from millstream.core.tables import Tables
from millstream.core.triggers.readable import readable
from millstream.core.waits.places import places_of
from millstream.errors import BadRequest
from millstream.model import limits
from millstream.model.awaited import home_of_place
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

SEEK: Final = "seek"
"""The purpose of a scan that looks for events that somebody waits for."""
FROM_TIME: Final = -1
UNBOUNDED: Final = -1
"""The end of a scan that its reader looks up."""
SLACK_MS: Final = limits.MINUTE_MS
"""Scans begin so much earlier: the times of records are clocks of several machines."""
KEPT_MS: Final = 7 * limits.DAY_MS
"""An interest that its home has not asked for again for so long is dropped."""
ROWS_MAX: Final = 100_000


def forward(tables: Tables, event: Envelope, paths: tuple[str, ...], *, only_to: int = -1) -> list[Fact]:
    """The messages that bring the event to the homes of its places; ``only_to``: to this lane alone."""
    try:
        value = readable(event)
    except BadRequest:
        return []  # No JSON: its producer went past the door, and nothing in it can be asked for.
    lanes = tables.place.lanes
    by_home: dict[int, list[str]] = {}
    for place in places_of(event.name, value, paths):
        home = home_of_place(place, lanes)
        if only_to < 0 or home == only_to:
            by_home.setdefault(home, []).append(place)
    return [Post(home, TakeEvent(event, tuple(places))) for home, places in by_home.items()]


def noted(event: Envelope, topic: str, partition: int, hash: bytes) -> EventNoted:
    """The fact by which the id of an event is remembered that starts nothing, and is waited for."""
    return EventNoted(
        event.internal_id, event.id, event.id_is_clients, event.name, event.received_at_ms, topic, partition, hash
    )


def seek(tables: Tables, command: SeekEvents, now_ms: int) -> list[Fact]:
    """A home asks for events, from now on and from before."""
    place = tables.place
    facts: list[Fact] = [InterestSeen(command.event, command.path)]
    if command.since_ms < 0:
        return facts
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
            facts += forward(tables, read.event, (request.path,), only_to=request.home)
    at = min(command.to_offset, upto)
    facts.append(ScanAdvanced(row.scan, row.partition, at, 0))
    if at >= upto:
        facts += (ScanEnded(row.scan, row.partition, False, 0), SeekPassed(row.scan))
        if request.left == 1:
            facts.append(_sought(tables, request.event, request.path, request.home, request.seek))
    return facts


def expired(tables: Tables, now_ms: int) -> Iterator[Fact]:
    """Forward no more what has not been asked for for long."""
    for _, row in tables.interests.scan(limit=ROWS_MAX):
        if row.asked_at_ms < now_ms - KEPT_MS:
            yield InterestDropped(row.event, row.path)


SEEK_EVENTS = MessageKind(message=SeekEvents, decide=seek, answers=False)


# --- fold -----------------------------------------------------------------------------------------


def interest_seen(tables: Tables, f: InterestSeen, at_ms: int) -> Sequence[Effect]:
    """Such events are forwarded."""
    tables.interests.put((f.event, f.path), InterestRow(f.event, f.path, at_ms))
    return ()


def interest_dropped(tables: Tables, f: InterestDropped, at_ms: int) -> Sequence[Effect]:
    """They are not any more."""
    tables.interests.delete((f.event, f.path))
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
