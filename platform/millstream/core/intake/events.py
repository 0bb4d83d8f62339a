"""An event or a record was read: which functions start on it, and which don't and why."""

from __future__ import annotations

from collections.abc import Sequence

from millstream.core.handles import Handler, Handles, fold_nothing
from millstream.core.intake import seen
from millstream.core.intake.dead_letters import Letter, dead_letter, describe, set_aside
from millstream.core.origin import Origin, noted
from millstream.core.starting import start
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import Subscription, catalogue
from millstream.core.triggers.expressions import Answer, Expression
from millstream.core.triggers.readable import readable
from millstream.core.waits.awaited_names import awaited
from millstream.core.waits.interests import forward
from millstream.errors import StoreFailed
from millstream.model import limits
from millstream.model.commands import AcceptEvent, AcceptRecord, RefuseRecord
from millstream.model.effects import Effect
from millstream.model.event import Envelope
from millstream.model.facts import CommandRefused, EventAccepted, EventDeduplicated, Fact, FunctionSkipped
from millstream.model.function import SINCE_LATEST, EventTrigger, FunctionSpec
from millstream.model.rows import EventRow

FUTURE_SLACK_MS = 1_000  # A sender's clock may be this much ahead before its events count as "later".


def accept(tables: Tables, command: AcceptEvent, now_ms: int) -> list[Fact]:
    """Start each subscribed function once.

    An event that nobody subscribes to or waits for leads to no fact: only the source's position moves on.
    """
    event = command.event
    if was_read(tables, command):
        return []
    subscriptions = catalogue(tables).subscriptions(event.name)
    wanted = awaited(tables).get(event.name)
    if not subscriptions and not wanted:
        return []
    hash = seen.seen_hash(command.topic, command.partition, event.id)
    if seen.known(tables, hash, event.received_at_ms) or tables.events.get(event.internal_id) is not None:
        # Seen within its time; or one internal id twice (a seed repeated late, or under another key) while its first
        # event has open runs: their rows would be overwritten.
        return [EventDeduplicated(event.internal_id, event.id, event.name)]
    starting, skipped = choose(event, subscriptions)
    at_ms = event.ts_ms if event.ts_ms > now_ms + FUTURE_SLACK_MS else 0
    origin = Origin(command.topic, command.partition, command.offset, hash)
    started = start(tables, event, starting, origin, at_ms=at_ms)
    if not wanted:
        return [*started, *skipped]
    if not started:
        started = [noted(event, origin)]
    return [*started, *skipped, *forward(tables, event, wanted)]


def accept_record(tables: Tables, command: AcceptRecord, now_ms: int) -> list[Fact]:
    """Start the functions of a foreign topic on a record, each way of reading it on its own.

    The record's place is its identity, and the position says that it was not read before: only ids that a rule or
    header gave are remembered. A time in the future starts at once: it is some producer's clock.
    """
    if was_read(tables, command):
        return []
    facts: list[Fact] = []
    letters = 0
    readers = dict(catalogue(tables).readers(command.topic))
    for read in command.reads:
        reason = read.reason
        if read.event is not None:
            try:
                facts += _start_on(tables, command, read.event, readers.get(read.reading, ()))
                continue
            except StoreFailed:
                raise
            except Exception as error:  # One way of reading it may fail where another does not.
                reason = f"{type(error).__name__}: {error}"[: limits.ERROR_MESSAGE_CHARS_MAX]
        letter = Letter(command.topic, command.partition, read.offset, reason, read.key, read.value, read.headers)
        facts.append(CommandRefused("AcceptRecord", letter.subject, reason))
        if not letters:  # Once, in however many ways it cannot be read.
            facts += dead_letter(tables, letter, now_ms)
        letters += 1
    return facts


def _start_on(
    tables: Tables, command: AcceptRecord, event: Envelope, subscriptions: Sequence[Subscription]
) -> list[Fact]:
    hash = seen.seen_hash(command.topic, command.partition, event.id) if event.id_is_clients else b""
    if hash and seen.known(tables, hash, event.received_at_ms):
        return [EventDeduplicated(event.internal_id, event.id, event.name)]
    starting, skipped = choose(event, subscriptions)
    fresh = [slug for slug in starting if not (hash and _was_scanned(tables, command, event, slug))]
    if starting and not fresh:
        return [EventDeduplicated(event.internal_id, event.id, event.name), *skipped]
    origin = Origin(command.topic, command.partition, command.offset, hash)
    return [*start(tables, event, fresh, origin), *skipped]


def _was_scanned(tables: Tables, command: AcceptRecord, event: Envelope, slug: str) -> bool:
    """Whether the scan with which this function began has brought it the same id."""
    begun = tables.subscriptions.get((slug, command.topic))
    if begun is None or begun.since_ms == SINCE_LATEST:
        return False
    hash = seen.seen_hash(command.topic, command.partition, seen.scanned_id(event.id, slug))
    return seen.known(tables, hash, event.received_at_ms)


def was_read(tables: Tables, command: AcceptEvent | AcceptRecord | RefuseRecord) -> bool:
    """Whether the record was read before: what it led to is in the journal."""
    position = tables.positions.get((command.topic, command.partition))
    return position is not None and command.offset < position.offset


def subscribers(tables: Tables, event: Envelope) -> tuple[str, ...]:
    """The functions that subscribe to the event's name, whether or not their expressions hold."""
    return tuple(dict.fromkeys(one.function.slug for one in catalogue(tables).subscriptions(event.name)))


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
                value = readable(event)
            answer = _verdict(expression, value)
            if answer.value is not True:
                if answer.why and not (answer.is_missing and _hears_many(function, event)):
                    reason = f"the trigger's expression could not be evaluated: {answer.why}"
                    skipped.append(FunctionSkipped(event.internal_id, function.slug, reason))
                continue
        starting[function.slug] = None
    # One trigger that has no answer is no news where another has started the function.
    return list(starting), [notice for notice in skipped if notice.function not in starting]


def _verdict(expression: Expression, event: dict[str, object]) -> Answer:
    try:
        return expression.verdict(event)
    except Exception as error:  # What user-written expressions raise is theirs to read, never ours to stop on.
        return Answer(None, str(error)[: limits.ERROR_MESSAGE_CHARS_MAX])


def _hears_many(function: FunctionSpec, event: Envelope) -> bool:
    """Whether events of several kinds start the function: a topic's, or those of a wildcard.

    What one kind has another may lack, and each of them would leave a notice.
    """
    return not any(isinstance(trigger, EventTrigger) and trigger.event == event.name for trigger in function.triggers)


def refuse_record(tables: Tables, command: RefuseRecord, now_ms: int) -> list[Fact]:
    """A poison record goes to the dead letters with its bytes unchanged, and the source goes on."""
    if was_read(tables, command):
        return []
    letter = Letter(*(getattr(command, name) for name in Letter._fields))
    return set_aside(tables, "AcceptEvent", letter, now_ms)


def refuse_event(tables: Tables, command: AcceptEvent, reason: str, now_ms: int) -> list[Fact]:
    """An event about which nothing could be decided goes to the dead letters."""
    event = command.event
    letter = Letter(command.topic, command.partition, command.offset, reason, event.key.encode(), describe(event))
    return set_aside(tables, "AcceptEvent", letter, now_ms)


def fold_event_accepted(tables: Tables, f: EventAccepted, at_ms: int) -> Sequence[Effect]:
    """The event's payload is kept for its runs, and its id remembered."""
    envelope = Envelope(
        f.internal_id, f.id, f.id_is_clients, f.name, f.data, f.ts_ms, f.received_at_ms, f.key, f.user, f.v, f.meta
    )
    held = tables.events.get(f.internal_id)
    tables.events.put(f.internal_id, EventRow(envelope, held.runs if held is not None else 0))
    if f.seen:
        seen.remember(tables, f)
    return ()


HANDLES = Handles(
    commands={
        AcceptEvent: Handler(accept, refuse_event),
        AcceptRecord: Handler(accept_record),
        RefuseRecord: Handler(refuse_record),
    },
    facts={
        EventAccepted: fold_event_accepted,
        EventDeduplicated: fold_nothing,
        FunctionSkipped: fold_nothing,
    },
)
