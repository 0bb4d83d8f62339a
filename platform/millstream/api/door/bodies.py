"""What a POST to the event API may hold, read into events: pure, bytes in and values out.

A body is one event object or an array of them. ``read`` gives the events before the first bad one, and why that one
is bad, with its index in an array: the valid prefix is stored, what follows is not looked at. The words of the
well-known refusals are those users of the Inngest SDKs know; the others are ours.

``data`` is kept as the bytes that were sent, never parsed and written again, unless it may hold ``_inngest``, which
users may not send. The whole array is decoded in one go; only when that fails is it walked event by event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from millstream.api.times import meant
from millstream.model import limits
from millstream.model.event import INTERNAL_PREFIX
from millstream.wire.json_limits import read_json, whole_characters

EMPTY_OBJECT: Final = b"{}"
SHAPE: Final = "Request body must contain an event object or an array of event objects"
_RAW_NOTHING: Final = msgspec.Raw(b"")
_KINDS: Final = {ord('"'): "a string", ord("["): "an array", ord("{"): "an object", ord("t"): "true", ord("f"): "false"}


class Sent(msgspec.Struct, gc=False):
    """An event as it was sent. Unknown fields are passed over."""

    name: str | None = None
    data: msgspec.Raw = _RAW_NOTHING
    id: str | None = None
    ts: int | None = None
    key: str | None = None
    user: msgspec.Raw = _RAW_NOTHING
    v: str | None = None
    meta: msgspec.Raw = _RAW_NOTHING


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A valid event before it has its ids. ``ts_ms`` 0: now. ``id`` and ``key`` may be empty."""

    name: str
    data: bytes
    ts_ms: int
    id: str
    key: str
    user: bytes
    v: str
    meta: bytes


class Refused(Exception):
    """This event is not taken; the message is the answer's ``error``."""


class RefusedBody(Refused):
    """The body is not taken from here on, whatever its next event says."""


_many: Final = msgspec.json.Decoder(list[Sent])
_one: Final = msgspec.json.Decoder(Sent)
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_scanner: Final = json.JSONDecoder()
_BLANKS: Final = re.compile("[ \\t\\r\\n]*")


def read(body: bytes) -> tuple[list[Draft], str]:
    """The valid events up to the first bad one, and what is wrong with that (empty: nothing is)."""
    first = body[:1] if body[:1] in (b"[", b"{") else body.lstrip(b" \t\r\n")[:1]
    if not first:
        return [], ""
    try:
        if not body.isascii():
            body.decode()
    except UnicodeDecodeError as broken:
        return [], f"request body is no UTF-8: {broken.reason} at byte {broken.start}"
    body = whole_characters(body)
    if first == b"[":
        return _read_array(body)
    if first == b"{":
        try:
            return [draft(_one_event(body))], ""
        except Refused as refused:
            return [], str(refused)
    return [], SHAPE if _is_json(body) else _malformed(body)


def draft(sent: Sent) -> Draft:
    """The event, checked and with its defaults. Raises Refused."""
    name = sent.name
    if not name:
        raise Refused("event name is empty")
    if name.startswith(INTERNAL_PREFIX):
        raise Refused(f"event name is reserved for internal use: {name[: limits.EVENT_NAME_CHARS_MAX]}")
    if len(name) > limits.EVENT_NAME_CHARS_MAX:
        raise Refused(f"event name is too long: Max {limits.EVENT_NAME_CHARS_MAX} characters / Got {len(name)}")
    ts = sent.ts or 0
    if ts:
        if ts < limits.EVENT_TS_MIN_MS:
            raise Refused(f"timestamp is before Jan 1, 1980{_idea(ts)}")
        if ts > limits.EVENT_TS_MAX_MS:
            raise Refused(f"timestamp is after Jan 1, 2100{_idea(ts)}")
    given, key = sent.id or "", sent.key or ""
    if len(given) > limits.EVENT_ID_CHARS_MAX or len(key) > limits.EVENT_ID_CHARS_MAX:
        got = max(len(given), len(key))
        raise Refused(f"event id or key is too long: Max {limits.EVENT_ID_CHARS_MAX} characters / Got {got}")
    data = _object(sent.data, "data") or EMPTY_OBJECT
    if b"_inngest" in data or b"\\u00" in data:  # The second: letters may be written as escapes.
        data = _without_internal(data)
    return Draft(name, data, ts, given, key, _object(sent.user, "user"), sent.v or "", _object(sent.meta, "meta"))


def at_index(index: int, wrong: str) -> str:
    """What is wrong with one event of an array."""
    return f"{wrong} (event at index {index})"


def _idea(ts: float) -> str:
    idea = meant(ts)
    return f":{idea}" if idea else ""


def _read_array(body: bytes) -> tuple[list[Draft], str]:
    drafts: list[Draft] = []
    try:
        if len(body) <= limits.EVENT_BYTES_MAX:  # No event in it can be too large.
            try:
                events = _many.decode(body)
            except (msgspec.MsgspecError, RecursionError):
                pass
            else:
                _check_count(len(events))
                for sent in events:
                    drafts.append(draft(sent))
                return drafts, ""
        for number, element in enumerate(_elements(body), 1):
            _check_count(number)
            drafts.append(draft(_one_event(element)))
    except Refused as refused:
        is_about_event = not isinstance(refused, RefusedBody)
        return drafts, at_index(len(drafts), str(refused)) if is_about_event else str(refused)
    return drafts, ""


def _check_count(count: int) -> None:
    if count > limits.EVENTS_PER_REQUEST_MAX:
        raise RefusedBody(f"too many events in one request: Max {limits.EVENTS_PER_REQUEST_MAX} / Got {count} or more")


def _elements(body: bytes) -> Iterator[bytes]:
    """The elements of an array one after the other, as far as it is JSON; Refused where it is not."""
    try:
        for raw in msgspec.json.decode(body, type=list[msgspec.Raw]):
            yield bytes(raw)
        return
    except (msgspec.MsgspecError, RecursionError):
        pass
    text = body.decode()
    at = _skip_space(text, text.index("[") + 1)
    try:
        while text[at : at + 1] != "]":
            _, end = _scanner.raw_decode(text, at)
            yield text[at:end].encode()
            at = _skip_space(text, end)
            if text[at : at + 1] == ",":
                at = _skip_space(text, at + 1)
            elif text[at : at + 1] != "]":
                break
    except (ValueError, RecursionError):
        pass
    raise RefusedBody(_malformed(body))


def _skip_space(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _one_event(element: bytes) -> Sent:
    if len(element) > limits.EVENT_BYTES_MAX:
        raise Refused(f"Event is over the max size: Max {limits.EVENT_BYTES_MAX} bytes / Size {len(element)} bytes")
    try:
        return _one.decode(element)
    except msgspec.ValidationError as wrong:
        if element.lstrip(b" \t\r\n")[:1] != b"{":
            raise Refused(f"event must be an object, got {_kind(element)}") from wrong
        raise Refused(f"event is malformed: {_in_our_words(str(wrong))}") from wrong
    except (msgspec.DecodeError, RecursionError) as wrong:
        raise Refused(_malformed(element)) from wrong


def _in_our_words(text: str) -> str:
    """``Expected `str | null`, got `int` - at `$.name``` becomes: field 'name' must be a string, got a number."""
    what, _, where = text.partition(" - at `$.")
    words = {
        "str": "a string",
        "int": "an integer",
        "float": "a fraction",
        "bool": "true or false",
        "array": "an array",
    }
    words |= {"object": "an object", "null": "null"}
    expected, _, got = what.removeprefix("Expected `").partition("`, got `")
    field, got = where.rstrip("`"), got.rstrip("`")
    expected = expected.removesuffix(" | null")
    if not field or expected not in words or got not in words:
        return text
    unit = ": send Unix milliseconds" if field == "ts" else ""
    return f"field {field!r} must be {words[expected]}, got {words[got]}{unit}"


def _object(raw: msgspec.Raw, field: str) -> bytes:
    """The bytes of an object; empty for nothing and for null. Raises Refused for anything else."""
    content = bytes(raw)
    if content[:1] == b"{":
        check_values(content, field)
        return content
    if not content or content == b"null":
        return b""
    raise Refused(f"event {field} must be an object, got {_kind(content)}")


def check_values(content: bytes, field: str) -> None:
    """Refuse what is JSON in form and could not be read behind the door: a value, a depth or a length it has not."""
    if problem := read_json(content)[1]:
        raise Refused(f"event {field} {problem}")


def _kind(content: bytes) -> str:
    return _KINDS.get(content.lstrip(b" \t\r\n")[0], "null" if content.strip() == b"null" else "a number")


def _without_internal(data: bytes) -> bytes:
    """The object without its field ``_inngest``, the other fields as they are."""
    try:
        fields = _fields.decode(data)
    except (msgspec.MsgspecError, RecursionError) as broken:
        raise Refused(f"event data is malformed: {broken}") from broken
    if fields.pop("_inngest", None) is None:
        return data
    return msgspec.json.encode(fields)


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _malformed(body: bytes) -> str:
    try:
        msgspec.json.decode(body)
    except RecursionError:
        return "request body is nested too deeply"
    except msgspec.MsgspecError as broken:
        return f"request body is no valid JSON: {str(broken).removeprefix('JSON is malformed: ')}"
    return SHAPE
