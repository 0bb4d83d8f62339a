"""JSON of foreign records: read for what it says, kept as it was written.

Whoever sends ``{"amount": 12.345678901234567890}`` means every digit of it. So a value that came as JSON goes into the
event as the very bytes that came, and what Python makes of them is only looked at.

The rule: as strict as RFC 8259. ``NaN``, which some producers write, is no JSON, nor is a number beyond a double's
range a value; a byte order mark in front is passed over, as the RFC allows. Its limits are those of the door
(``wire/json_limits.py``): whatever reads the event next must be able to.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

import msgspec

from millstream.errors import Corruption
from millstream.wire.formats.avro_value import json_object
from millstream.wire.json_limits import read_json

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class JsonText(NamedTuple):
    """A value with the JSON text that it came as."""

    value: object
    text: bytes


def parse_json(data: bytes) -> JsonText:
    """The value of UTF-8 JSON. Raises Corruption with the reason."""
    text = data.removeprefix(BYTE_ORDER_MARK)
    value, problem = read_json(text)
    if problem:
        raise Corruption(f"expected UTF-8 JSON, got {shown(data)}, which {problem}")
    return JsonText(value, text.strip())


def is_nearly_json(data: bytes) -> bool:
    """Whether this is an object or array as JSON but for a number or text that JSON has not (NaN, half a surrogate
    pair). Where values may be anything, that is no text that only looks like it."""
    try:
        text = data.removeprefix(BYTE_ORDER_MARK)
        return isinstance(json.loads(text, parse_int=len, parse_float=len), dict | list)  # Whatever the numbers are.
    except (ValueError, RecursionError):
        return False


def event_data(value: object) -> bytes:
    """A value, with its text or without, as an event's data: an object; what is none stands under ``"value"``."""
    if not isinstance(value, JsonText):
        return json_object(value)
    return value.text if isinstance(value.value, dict) else b'{"value":%b}' % value.text


def member(value: object, name: str) -> object:
    """One field of an object, with its own text where the object has one."""
    if not isinstance(value, JsonText):
        assert isinstance(value, dict)
        return value[name]
    fields = msgspec.json.decode(value.text, type=dict[str, msgspec.Raw])
    inside = plain(value)
    assert isinstance(inside, dict)
    return JsonText(inside[name], bytes(fields[name]))


def plain(value: object) -> object:
    """What Python makes of it."""
    return value.value if isinstance(value, JsonText) else value


def shown(data: bytes) -> str:
    """The beginning of bytes, for a message."""
    return f"{data[:24]!r}{'…' if len(data) > 24 else ''}"
