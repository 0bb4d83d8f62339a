"""Records for topics: queued as rows with the decision, produced once it is durable, at least once each.

    PublishQueued ─> row, effect Publish ─> produced ─> NotePublished ─> PublishesSent ─> no row

They are numbered without holes, so that a lane that takes over knows which are owed.
"""

from __future__ import annotations

from collections.abc import Sequence

from millstream.core.handles import Handler, Handles
from millstream.core.tables import Tables
from millstream.model.commands import NotePublished
from millstream.model.effects import Effect, Publish
from millstream.model.event import Envelope
from millstream.model.facts import Fact, PublishesSent, PublishQueued
from millstream.model.rows import CounterRow, PublishRow


def queue_record(
    tables: Tables, topic: str, key: bytes, value: bytes, *, headers: tuple[tuple[str, bytes], ...], queued: int
) -> PublishQueued:
    """A record for a topic; ``queued`` records were queued before it by the same decision."""
    return PublishQueued(next_number(tables, queued), topic, key, value, headers, None)


def queue_event(tables: Tables, event: Envelope, *, queued: int) -> PublishQueued:
    """An event for the events topic; ``queued`` records were queued before it by the same decision."""
    return PublishQueued(next_number(tables, queued), tables.place.events_topic, b"", b"", (), event)


def next_number(tables: Tables, queued: int) -> int:
    """The number of the next record, behind ``queued`` of the same decision."""
    counter = tables.counters.get("publishes")
    return (counter.value if counter is not None else 0) + 1 + queued


def note_published(tables: Tables, command: NotePublished, now_ms: int) -> list[Fact]:
    """Queued records are durable in their topics."""
    known = tuple(n for n in command.numbers if tables.publishes.get(n) is not None)
    return [PublishesSent(known)] if known else []


def publish_queued(tables: Tables, f: PublishQueued, at_ms: int) -> Sequence[Effect]:
    """A record is owed to a topic."""
    tables.publishes.put(f.number, PublishRow(f.number, f.topic, f.key, f.value, f.headers, f.event))
    tables.counters.put("publishes", CounterRow("publishes", f.number))
    return (Publish(f.number),)


def publishes_sent(tables: Tables, f: PublishesSent, at_ms: int) -> Sequence[Effect]:
    """Records are in their topics."""
    for number in f.numbers:
        tables.publishes.delete(number)
    return ()


HANDLES = Handles(
    commands={NotePublished: Handler(note_published)},
    facts={PublishQueued: publish_queued, PublishesSent: publishes_sent},
)
