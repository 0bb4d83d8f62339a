"""An event has come: which functions start, and which don't and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from millstream.core.catalogue import Subscription, catalogue
from millstream.core.expressions import Expression
from millstream.core.seen import known, seen_hash
from millstream.core.tables import Tables
from millstream.errors import BadRequest
from millstream.model import limits
from millstream.model.announcement import event_json
from millstream.model.commands import AcceptEvent, AcceptRecord, RefuseRecord
from millstream.model.event import Envelope
from millstream.model.facts import (
    CommandRefused,
    EventAccepted,
    EventDeduplicated,
    Fact,
    FunctionSkipped,
    PublishQueued,
    RunStarted,
)
from millstream.model.ids import run_id

FUTURE_SLACK_MS = 1_000  # A sender's clock may be this much ahead before its events count as "later".


def accept(tables: Tables, command: AcceptEvent, now_ms: int) -> list[Fact]:
    """Start each subscribed function once.

    An event nobody subscribes to leads to no fact: the source's position moves on, that is all.
    """
    event = command.event
    position = tables.positions.get((command.topic, command.partition))
    if position is not None and command.offset < position.offset:
        return []  # It was read before: what came of it is in the journal.
    subscriptions = catalogue(tables).subscriptions(event.name)
    if not subscriptions:
        return []
    seen = seen_hash(command.topic, command.partition, event.id)
    if known(tables, seen, event.received_at_ms) or tables.events.get(event.internal_id) is not None:
        # Seen within its time; or one internal id twice (a seed repeated late, or under another key) while its first
        # event has open runs: their rows would be overwritten.
        return [EventDeduplicated(event.internal_id, event.id, event.name)]
    starting, skipped = choose(event, subscriptions)
    if not starting:
        return list(skipped)
    start_at_ms = event.ts_ms if event.ts_ms > now_ms + FUTURE_SLACK_MS else 0
    runs = [started(tables, event, slug, "", start_at_ms) for slug in starting]
    return [accepted(event, command.topic, command.partition, command.offset, seen), *runs, *skipped]


def accept_record(tables: Tables, command: AcceptRecord, now_ms: int) -> list[Fact]:
    """Start the functions of a foreign topic on a record, each way of reading it on its own.

    The record's place is its identity, and the position says that it was not read before: only ids that a rule or
    header gave are remembered. A time in the future starts at once: it is some producer's clock.
    """
    position = tables.positions.get((command.topic, command.partition))
    if position is not None and command.offset < position.offset:
        return []  # It was read before.
    facts: list[Fact] = []
    letters = 0
    readers = dict(catalogue(tables).readers(command.topic))
    for read in command.reads:
        reason = read.reason
        if read.event is not None:
            try:
                facts += _start_on(tables, command, read.event, readers.get(read.reading, ()))
                continue
            except Exception as error:  # One way of reading it may fail where another does not.
                reason = f"{type(error).__name__}: {error}"[: limits.ERROR_MESSAGE_CHARS_MAX]
        letter = Letter(command.topic, command.partition, read.offset, reason, read.key, read.value, read.headers)
        facts.append(CommandRefused("AcceptRecord", letter.subject, reason))
        if not letters:  # Once, however many cannot read it.
            facts += dead_letter(tables, letter, now_ms)
        letters += 1
    return facts


def _start_on(
    tables: Tables, command: AcceptRecord, event: Envelope, subscriptions: Sequence[Subscription]
) -> list[Fact]:
    seen = seen_hash(command.topic, command.partition, event.id) if event.id_is_clients else b""
    if seen and known(tables, seen, event.received_at_ms):
        return [EventDeduplicated(event.internal_id, event.id, event.name)]
    starting, skipped = choose(event, subscriptions)
    if not starting:
        return list(skipped)
    runs = [started(tables, event, slug, "", 0) for slug in starting]
    return [accepted(event, command.topic, command.partition, command.offset, seen), *runs, *skipped]


def choose(event: Envelope, subscriptions: Sequence[Subscription]) -> tuple[list[str], list[FunctionSkipped]]:
    """The functions that start on an event, each once however many of its triggers fit; and those that can't say."""
    skipped: list[FunctionSkipped] = []
    starting: dict[str, None] = {}
    value: dict[str, object] | None = None
    for function, expression, error in subscriptions:
        if function.slug in starting:
            continue
        if error:
            skipped.append(FunctionSkipped(event.internal_id, function.slug, error))
            continue
        if expression is not None:
            if value is None:
                value = _readable(event)
            verdict = _holds(expression, value)
            if verdict is not True:
                if verdict:
                    skipped.append(FunctionSkipped(event.internal_id, function.slug, verdict))
                continue
        starting[function.slug] = None
    return list(starting), skipped


def _readable(event: Envelope) -> dict[str, object]:
    try:
        return event_json(event)
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f"event {event.id!r} refused: data must be JSON, since a trigger has an expression; got "
            f"{event.data[:100]!r}: {error}. Fix its producer."
        ) from error


def _holds(expression: Expression, event: dict[str, object]) -> bool | str:
    try:
        return expression.matches(event)
    except Exception as error:  # What user-written expressions raise is theirs to read, never ours to stop on.
        return f"the trigger's expression could not be evaluated: {error}"


def accepted(event: Envelope, topic: str, partition: int, offset: int, seen: bytes) -> EventAccepted:
    """The fact that holds the event's payload."""
    return EventAccepted(
        event.internal_id, event.id, event.id_is_clients, event.name, event.data, event.ts_ms, event.received_at_ms,
        event.key, event.user, event.v, event.meta, topic, partition, offset, seen,
    )  # fmt: skip


def started(tables: Tables, event: Envelope, function: str, cause: str, start_at_ms: int) -> RunStarted:
    """The fact that a function's run on this event exists."""
    if not 0 <= event.ts_ms <= limits.EVENT_TS_MAX_MS:
        raise BadRequest(
            f"event {event.id!r} refused: ts must be Unix milliseconds up to {limits.EVENT_TS_MAX_MS}, "
            f"got {event.ts_ms}. Fix the producer's clock or unit."
        )
    place = tables.place
    id = run_id(event.ts_ms, event.internal_id, function, cause, lane=place.lane, lanes=place.lanes)
    return RunStarted(id, function, (event.internal_id,), cause, start_at_ms)


def refuse(tables: Tables, command: RefuseRecord, now_ms: int) -> list[Fact]:
    """A poison record goes to the dead letters with its bytes unchanged, and the source goes on."""
    position = tables.positions.get((command.topic, command.partition))
    if position is not None and command.offset < position.offset:
        return []  # It was read before.
    letter = Letter(*(getattr(command, name) for name in Letter._fields))
    return [CommandRefused("AcceptEvent", letter.subject, command.reason), *dead_letter(tables, letter, now_ms)]


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


def dead_letter(tables: Tables, letter: Letter, now_ms: int, before: int = 0) -> list[Fact]:
    """The fact that sets a record aside: key, value and headers unchanged, the reason in headers behind those.

    ``before`` counts the letters of the same decision. A dead letter that cannot be read is not set aside once more:
    who subscribes to the dead letters would be sent its own for ever.
    """
    if letter.topic == tables.place.dead_letters_topic:
        return []
    counter = tables.counters.get("publishes")
    number = (counter.value if counter is not None else 0) + 1 + before
    headers = (
        *letter.headers,
        ("millstream-reason", letter.reason.encode()),
        ("millstream-topic", letter.topic.encode()),
        ("millstream-partition", b"%d" % letter.partition),
        ("millstream-offset", b"%d" % letter.offset),
        ("millstream-at", b"%d" % now_ms),
        *((("millstream-value", b"null"),) if letter.value is None else ()),
    )
    topic = tables.place.dead_letters_topic
    return [PublishQueued(number, topic, letter.key or b"", letter.value or b"", headers, None)]


def describe(event: Envelope) -> bytes:
    """The event as JSON, for a dead letter; its data alone where they are not JSON."""
    try:
        return json.dumps(event_json(event)).encode()
    except (ValueError, RecursionError):
        return event.data
