"""A record of the events topic as an event, from the door or a direct producer.

The door checks an event and gives it its ``internal_id``. A program that writes to the topic itself (any language,
docs/how-to/produce-events.md) leaves that empty, and gets one made of where the record lies: the same whenever the
record is read, by a lane, a scan or the history. What the door would have refused is Corruption here, its schema
included, and becomes a dead letter.

That an event has its ``internal_id`` is no proof that a door has seen it: anybody can fill the field. So everything but
the schema is looked at again. What only the server sends must show that it is the server's: an announcement has an id
that its run, name and time give. That catches mistakes, and no malice: who may write to this topic can start any
function (docs/how-to/security.md).

Times are bounded too: one that is far from the record's own would count as the time until which ids are remembered.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from millstream.errors import Corruption, LogUnavailable, SchemaViolation
from millstream.model import limits
from millstream.model.announcement import announcement_id
from millstream.model.event import INTERNAL_PREFIX, Envelope
from millstream.model.ids import is_ulid, ulid
from millstream.wire.formats.json_text import parse_json
from millstream.wire.json_limits import read_json
from millstream.wire.messages import decode_envelope
from millstream.wire.schemas import EventSchemas

RECEIVED_OFF_MS_MAX: Final = limits.DAY_MS
"""How far a door's clock, or an outage between a decision and its record, may lie from the record's time."""


class Written(msgspec.Struct, frozen=True, gc=False):
    """Where a record lies, and its time in Unix milliseconds."""

    topic: str
    partition: int
    offset: int
    at_ms: int


def read_event(at: Written, value: bytes, schemas: EventSchemas | None = None) -> Envelope:
    """The event of a record. Raises Corruption for bytes that are no event, or none that could be taken.

    With ``schemas`` that is so for data that do not fit the schema of the event's name, too; LogUnavailable while
    nobody knows that schema.
    """
    try:
        return _read(at, value, schemas)
    except (Corruption, LogUnavailable):
        raise
    except Exception as error:  # Whatever nobody has thought of is one record's trouble, never the lane's.
        raise Corruption(f"an event could not be read: {type(error).__name__}: {error}") from error


def _read(at: Written, value: bytes, schemas: EventSchemas | None) -> Envelope:
    event = decode_envelope(value)
    _check(event)
    if event.internal_id:
        return _ours(event, at.at_ms)
    if event.name.startswith(INTERNAL_PREFIX):
        raise _reserved(event)
    if len(event.data) > limits.EVENT_BYTES_MAX:  # An announcement may be larger: it holds a result.
        raise Corruption(
            f"event {event.name!r} refused: its data may have {limits.EVENT_BYTES_MAX} bytes, got {len(event.data)}"
        )
    data = parse_json(event.data).value
    assert isinstance(data, dict)
    if schemas is not None:
        schemas.refuse_unknown(event.name)
    if schemas is not None and schemas.get(event.name) is not None:
        try:
            schemas.check(event.name, data)
        except SchemaViolation as error:
            raise Corruption(str(error)) from error
    tail = blake2b(f"{at.topic}\x00{at.partition}\x00{at.offset}".encode(), digest_size=10).digest()
    at_ms = _bounded(at.at_ms)
    internal_id = ulid(at_ms, tail)
    return msgspec.structs.replace(
        event,
        internal_id=internal_id,
        id=event.id or internal_id,
        id_is_clients=bool(event.id),
        ts_ms=event.ts_ms or at_ms,
        received_at_ms=at_ms,
    )


def _ours(event: Envelope, at_ms: int) -> Envelope:
    """An event with an internal id, as a door or a lane writes it. Raises Corruption where neither has written this."""
    advice = "Leave internal_id empty and received_at_ms 0: docs/how-to/produce-events.md"
    if not is_ulid(event.internal_id):
        raise Corruption(
            f"event {event.name!r} refused: its internal_id is none of ours, got {event.internal_id[:64]!r}. {advice}"
        )
    if not (event.ts_ms > 0 and 0 <= event.received_at_ms <= limits.EVENT_TS_MAX_MS):
        raise Corruption(
            f"event {event.name!r} refused: expected times in Unix milliseconds, got ts_ms {event.ts_ms} and "
            f"received_at_ms {event.received_at_ms}. {advice}"
        )
    if event.name.startswith(INTERNAL_PREFIX) and not _is_announcement(event):
        raise _reserved(event)
    if abs(event.received_at_ms - at_ms) <= RECEIVED_OFF_MS_MAX:
        return event  # Nearly all, at once.
    at_ms = _bounded(at_ms)
    if at_ms and abs(event.received_at_ms - at_ms) > RECEIVED_OFF_MS_MAX:
        return msgspec.structs.replace(event, received_at_ms=at_ms)
    return event


def _bounded(at_ms: int) -> int:
    """A record's time as one that an event may have; 0: it has none."""
    return min(max(at_ms, 0), limits.EVENT_TS_MAX_MS)


def _is_announcement(event: Envelope) -> bool:
    return event.ts_ms == event.received_at_ms and event.internal_id == announcement_id(
        event.name, event.key, event.ts_ms
    )


def _reserved(event: Envelope) -> Corruption:
    return Corruption(f"event {event.name!r} refused: names that begin with {INTERNAL_PREFIX} are the server's own")


def peek_event(value: bytes) -> tuple[str, int] | None:
    """The name of an event that the door took, and a catalogue stamp that is at least its own; None: read all of it.

    For passing over what nobody hears: the payload is not looked at, nor whether the rest is an event. About 0.6 µs.
    """
    try:
        if value[0] != _DOORS_ID:
            return None
        id_length, end = value[_ID_AT], value[-1]
        at = _ID_AT + 2 + (id_length >> 1)
        name_length = value[at]
        if (id_length | name_length | end) & _MORE:
            return None
        name = value[at + 1 : at + 1 + (name_length >> 1)]
        if value[-2] & _MORE:
            end = _at_least(value)
    except IndexError:
        return None
    return name.decode("utf-8", "replace"), end >> 1


_DOORS_ID = 52  # The length of a ULID, 26, as Avro writes it: what the door took begins with one.
_ID_AT = 27
_MORE = 0x80
_STAMP_BYTES_MAX = 10


def _at_least(value: bytes) -> int:
    """The number at the end of the bytes, or one that is higher: where it begins cannot be seen from behind."""
    first = len(value) - 1
    while first and value[first - 1] & _MORE and len(value) - first < _STAMP_BYTES_MAX:
        first -= 1
    number = 0
    for byte in reversed(value[first:]):
        number = number << 7 | byte & 0x7F
    return number


def _check(event: Envelope) -> None:
    """What the door looks at."""
    if not event.name or len(event.name) > limits.EVENT_NAME_CHARS_MAX:
        raise Corruption(
            f"an event was refused: expected a name of 1 to {limits.EVENT_NAME_CHARS_MAX} characters, "
            f"got {event.name[:64]!r}"
        )
    if len(event.id) > limits.EVENT_ID_CHARS_MAX or len(event.key) > limits.EVENT_ID_CHARS_MAX:
        raise Corruption(
            f"event {event.name!r} refused: its id or key has more than {limits.EVENT_ID_CHARS_MAX} characters"
        )
    if event.ts_ms and not limits.EVENT_TS_MIN_MS <= event.ts_ms <= limits.EVENT_TS_MAX_MS:
        raise Corruption(f"event {event.name!r} refused: ts_ms is no time in Unix milliseconds, got {event.ts_ms}")
    _check_object(event, event.data)
    if event.user:
        _check_object(event, event.user)
    if event.meta:
        _check_object(event, event.meta)


def _check_object(event: Envelope, part: bytes) -> None:
    value, problem = read_json(part)
    if problem or not isinstance(value, dict):
        raise Corruption(
            f"event {event.name!r} refused: expected a JSON object in UTF-8, got {part[:64]!r}, which "
            f"{problem or 'is none'}"
        )
