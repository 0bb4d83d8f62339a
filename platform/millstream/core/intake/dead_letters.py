"""Dead letters: records that could not be decided, set aside as they were, with the reason in headers behind theirs."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from millstream.core.handles import Handler, Handles, fold_nothing
from millstream.core.publishes import queue_record
from millstream.core.tables import Tables
from millstream.model.announcement import event_json
from millstream.model.commands import RefusePublish
from millstream.model.event import Envelope
from millstream.model.facts import CommandRefused, Fact, PublishesSent

CUT_BYTES: Final = 512 * 1024
"""Of a record that was too large for its topic the dead letters keep this much."""


class Letter(NamedTuple):
    """A record for the dead letters: the original as it was, where it lay, and why it is there."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def subject(self) -> str:
        """Its place, as one text."""
        return f"{self.topic}/{self.partition}@{self.offset}"


def set_aside(tables: Tables, command: str, letter: Letter, now_ms: int, *, queued: int = 0) -> list[Fact]:
    """A record is refused and goes to the dead letters; ``queued`` letters went there by the same decision."""
    return [CommandRefused(command, letter.subject, letter.reason), *dead_letter(tables, letter, now_ms, queued=queued)]


def dead_letter(tables: Tables, letter: Letter, now_ms: int, *, queued: int = 0) -> list[Fact]:
    """The record in the dead letters' topic: key, value and headers unchanged.

    A dead letter that cannot be read is not set aside once more: a function that subscribes to the dead letters would
    be sent its own for ever.
    """
    topic = tables.place.dead_letters_topic
    if letter.topic == topic:
        return []
    headers = (
        *letter.headers,
        ("millstream-reason", letter.reason.encode()),
        ("millstream-topic", letter.topic.encode()),
        ("millstream-partition", b"%d" % letter.partition),
        ("millstream-offset", b"%d" % letter.offset),
        ("millstream-at", b"%d" % now_ms),
        *((("millstream-value", b"null"),) if letter.value is None else ()),
    )
    return [queue_record(tables, topic, letter.key or b"", letter.value or b"", headers=headers, queued=queued)]


def refuse_publish(tables: Tables, command: RefusePublish, now_ms: int) -> list[Fact]:
    """A queued record that the log will never take: it is set aside, and those behind it go on."""
    row = tables.publishes.get(command.number)
    if row is None:
        return []  # It was noted before.
    value = describe(row.event) if row.event is not None else row.value
    headers = row.headers
    if len(value) > CUT_BYTES:  # Too large for its topic, so perhaps for the dead letters too.
        value, headers = value[:CUT_BYTES], (*headers, ("millstream-cut-from-bytes", b"%d" % len(value)))
    letter = Letter(row.topic, -1, row.number, command.reason, row.key, value, headers)
    return [PublishesSent((row.number,)), *set_aside(tables, "Publish", letter, now_ms)]


def describe(event: Envelope) -> bytes:
    """The event as JSON, for a dead letter; its data alone where they are not JSON."""
    try:
        return json.dumps(event_json(event)).encode()
    except (ValueError, RecursionError):
        return event.data


HANDLES = Handles(commands={RefusePublish: Handler(refuse_publish)}, facts={CommandRefused: fold_nothing})
