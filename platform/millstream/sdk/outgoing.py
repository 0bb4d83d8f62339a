"""Events on their way out of user code: an ``Event`` as the ``Envelope`` that an executor reports.

Ids are left empty where the sender gave none: the core derives them from the run and the step, so that a step that is
reported twice sends the same events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from millstream.errors import BadRequest, LimitExceeded
from millstream.model import limits
from millstream.model.event import INTERNAL_PREFIX, Envelope, Event
from millstream.model.text.storable import shown, type_name
from millstream.sdk.payloads import encode


def several(events: object) -> tuple[Event, ...]:
    """One event or a sequence of them, as a tuple. Raises BadRequest or LimitExceeded saying what else was got."""
    if isinstance(events, Event):
        return (events,)
    if isinstance(events, Mapping):
        raise BadRequest(
            f"event refused: expected a millstream.Event, got {type_name(events)} {shown(events)}. "
            'Write Event("order/placed", {"order": 1}).'
        )
    if isinstance(events, str | bytes) or not isinstance(events, Iterable):
        raise BadRequest(
            f"event refused: expected a millstream.Event or a list of them, got {type_name(events)} {shown(events)}."
        )
    found = tuple(islice(events, limits.EVENTS_PER_REQUEST_MAX + 1))
    if len(found) > limits.EVENTS_PER_REQUEST_MAX:
        raise LimitExceeded(
            f"events refused: at most {limits.EVENTS_PER_REQUEST_MAX} at once. Send them in several calls."
        )
    return found


def envelope_of(event: Event, now_ms: int) -> Envelope:
    """The envelope of one event. Raises BadRequest or LimitExceeded saying what is wrong with it."""
    checked(event)
    name = event.name
    if not name or len(name) > limits.EVENT_NAME_CHARS_MAX:
        raise BadRequest(
            f"event refused: the name must have 1 to {limits.EVENT_NAME_CHARS_MAX} characters, got {shown(name)}."
        )
    if name.startswith(INTERNAL_PREFIX):
        raise BadRequest(f"event {name!r} refused: names starting {INTERNAL_PREFIX!r} are the server's own.")
    if event.id is not None and not 1 <= len(event.id) <= limits.EVENT_ID_CHARS_MAX:
        raise BadRequest(
            f"event {name!r} refused: an id must have 1 to {limits.EVENT_ID_CHARS_MAX} characters, got {len(event.id)}."
        )
    if event.key is not None and len(event.key) > limits.EVENT_ID_CHARS_MAX:
        raise BadRequest(
            f"event {name!r} refused: a key may have {limits.EVENT_ID_CHARS_MAX} characters, got {len(event.key)}."
        )
    ts_ms = now_ms if event.ts is None else event.ts
    if not limits.EVENT_TS_MIN_MS <= ts_ms <= limits.EVENT_TS_MAX_MS:
        raise BadRequest(
            f"event {name!r} refused: ts must be Unix milliseconds of the years 1980 to 2099, got {event.ts!r}."
        )
    data = _object(event.data, "data", name)
    if len(data) > limits.EVENT_BYTES_MAX:
        raise LimitExceeded(
            f"event {name!r} refused: data has {len(data)} bytes, at most {limits.EVENT_BYTES_MAX} are allowed."
        )
    return Envelope(
        internal_id="",
        id=event.id or "",
        id_is_clients=event.id is not None,
        name=name,
        data=data,
        ts_ms=ts_ms,
        received_at_ms=now_ms,
        key=event.key or "",
        user=b"" if event.user is None else _object(event.user, "user", name),
        v=event.v or "",
        meta=b"" if event.meta is None else _object(event.meta, "meta", name),
    )


def checked(event: Event) -> None:
    """Raise BadRequest where this is no event, or a field of it has another type."""
    if not isinstance(event, Event):
        raise BadRequest(f"event refused: expected a millstream.Event, got {type_name(event)} {shown(event)}.")
    for what, text in (("name", event.name), ("id", event.id), ("key", event.key), ("v", event.v)):
        if text is None and what != "name":
            continue
        if not isinstance(text, str):
            raise BadRequest(f"event {shown(event.name)} refused: {what} must be a string, got {type_name(text)}.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRequest(f"event {shown(event.name)} refused: {what} is no Unicode text: {error}.") from error
    if event.ts is not None and type(event.ts) is not int:
        raise BadRequest(
            f"event {shown(event.name)} refused: ts must be Unix milliseconds, an int, got {type_name(event.ts)}."
        )


def _object(value: object, what: str, name: str) -> bytes:
    found = encode(value, f"the {what} of event {name!r}")
    if not found.startswith(b"{"):
        raise BadRequest(f"event {name!r} refused: {what} must be a JSON object, got {found[:80]!r}.")
    return found
