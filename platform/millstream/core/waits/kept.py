"""Events that a home keeps for waits that come later: all that were forwarded to it, within bounds.

    EventKept ─> the event, once, and a line at each of its places        KeptDropped ─> the oldest go

What is dropped is not lost to a wait that looks further back: ``coverage.py`` then has the topic read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from millstream.core.handles import Handles
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.effects import Effect
from millstream.model.event import Envelope
from millstream.model.facts import EventKept, Fact, KeptDropped
from millstream.model.rows import CounterRow, KeptAtRow, KeptRow

BYTES, EVENTS, FROM_MS = "kept_bytes", "kept_events", "kept_from_ms"
MATCHING = "kept_matching"
"""How many kept events have not met all who wait for them yet."""
KEPT_BESIDE_BYTES = 256
"""What a kept event costs beside its data, roughly."""
DROPPED_AT_ONCE_MAX = 500
SLACK_SHARE = 16
"""Kept events may go beyond their bounds by so many at once, and by this share of the bytes, until some go."""


def counter(tables: Tables, name: str) -> int:
    """A number of the lane."""
    row = tables.counters.get(name)
    return row.value if row is not None else 0


def kept_from_ms(tables: Tables) -> int:
    """Every forwarded event received from then on is still here."""
    return counter(tables, FROM_MS)


def size(event: Envelope) -> int:
    """What an event counts against the bounds."""
    return len(event.data) + len(event.meta) + len(event.user) + KEPT_BESIDE_BYTES


def crowded(tables: Tables, now_ms: int) -> list[Fact]:
    """What makes room for one more, where so much is kept beyond the bounds that it is worth a look.

    Events may come faster than the lane cleans up.
    """
    few = counter(tables, EVENTS) < limits.KEPT_EVENTS_MAX + DROPPED_AT_ONCE_MAX
    small = counter(tables, BYTES) < limits.KEPT_BYTES_MAX + limits.KEPT_BYTES_MAX // SLACK_SHARE
    return [] if few and small else list(expired(tables, now_ms))


def expired(tables: Tables, now_ms: int) -> Iterator[Fact]:
    """Let go of the oldest, where they are too old, too many or too large; a limited number at once.

    One that has not met all who wait for it yet stays, and all behind it.
    """
    events, held = counter(tables, EVENTS), counter(tables, BYTES)
    if not events:
        return
    too_many = events > limits.KEPT_EVENTS_MAX or held > limits.KEPT_BYTES_MAX
    rows = [row for _, row in tables.kept.scan(limit=DROPPED_AT_ONCE_MAX if too_many else 1)]
    if not too_many and rows[0].received_at_ms < now_ms - limits.KEPT_MS:
        rows = [row for _, row in tables.kept.scan(limit=DROPPED_AT_ONCE_MAX)]
    count = from_ms = 0
    for row in rows:
        over = events > limits.KEPT_EVENTS_MAX or held > limits.KEPT_BYTES_MAX
        if row.behind or not (over or row.received_at_ms < now_ms - limits.KEPT_MS):
            break
        events, held, count, from_ms = events - 1, held - size(row.event), count + 1, row.received_at_ms + 1
    if count:
        yield KeptDropped(count, max(from_ms, kept_from_ms(tables)))


# --- fold -----------------------------------------------------------------------------------------


def event_kept(tables: Tables, f: EventKept, at_ms: int) -> Sequence[Effect]:
    """An event is kept at its places; at more of them, where it was kept before."""
    key = (f.event.received_at_ms, f.event.internal_id)
    held = tables.kept.get(key)
    if held is None:
        tables.kept.add(key, KeptRow(*key, f.event, f.places))
        count(tables, EVENTS, 1)
        count(tables, BYTES, size(f.event))
    else:
        tables.kept.put(key, KeptRow(*key, held.event, (*held.places, *f.places), held.behind, held.timer_ms))
    for place in f.places:
        tables.kept_at.add((place, *key), KeptAtRow(place, *key))
    return ()


def kept_dropped(tables: Tables, f: KeptDropped, at_ms: int) -> Sequence[Effect]:
    """The oldest go."""
    freed = 0
    for key, row in tables.kept.scan(limit=f.count):
        for place in row.places:
            tables.kept_at.delete((place, *key))
        tables.kept.delete(key)
        freed += size(row.event)
    count(tables, EVENTS, -f.count)
    count(tables, BYTES, -freed)
    tables.counters.put(FROM_MS, CounterRow(FROM_MS, f.kept_from_ms))
    return ()


def count(tables: Tables, name: str, more: int) -> None:
    """So many more, or fewer."""
    tables.counters.put(name, CounterRow(name, counter(tables, name) + more))


HANDLES = Handles(facts={EventKept: event_kept, KeptDropped: kept_dropped})
