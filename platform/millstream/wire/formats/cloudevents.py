"""CloudEvents 1.0 on Kafka (the protocol binding of the CNCF specification), binary and structured.

    binary      attributes in headers ``ce_id``, ``ce_type``, …; the value is the data, of the header ``content-type``
    structured  the header ``content-type`` is ``application/cloudevents+json``; the value holds everything. A value
                that can be nothing else is taken without that header, too: bridges drop headers

The rules: ``type`` is the event's name, ``id`` its id together with ``source`` (the specification makes only the pair
unique), ``time`` its time, ``partitionkey`` its key. All attributes are kept in ``meta.cloudevents``. As strict as the
specification and no stricter: an attribute that is null is not set, media types are compared in any case, a time is
RFC 3339 in full.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import msgspec

from millstream.errors import Corruption
from millstream.wire.formats.content import Content, ForeignRecord
from millstream.wire.formats.json_text import JsonText, event_data, member, parse_json

MEDIA_TYPE: Final = "application/cloudevents"
STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch"
PREFIX: Final = "ce_"
REQUIRED: Final = ("id", "source", "specversion", "type")
ATTRIBUTE_CHARS_MAX: Final = 2_048
ATTRIBUTES_MAX: Final = 64

_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

ReadData = Callable[[ForeignRecord], object]


def is_cloud_event(record: ForeignRecord) -> bool:
    """Whether the record says that it is one."""
    if any(name.lower() == "ce_specversion" for name, _ in record.headers):
        return True
    return _media_type(record).startswith(MEDIA_TYPE)


def is_structured(value: object) -> bool:
    """Whether a value without headers can be nothing else: it has every attribute that an event must have."""
    held = value.value if isinstance(value, JsonText) else None
    if not isinstance(held, dict) or not all(isinstance(held.get(name), str) for name in REQUIRED):
        return False
    return str(held["specversion"]).startswith("1.")


def read_cloud_event(record: ForeignRecord, read_data: ReadData) -> Content:
    """The content of a CloudEvent. ``read_data`` reads the value of a binary one. Raises Corruption."""
    kind = _media_type(record)
    if kind.startswith(BATCH):
        raise Corruption("a batch of CloudEvents was refused: expected one event a record, as the Kafka binding says")
    if kind == STRUCTURED:
        return read_structured(_parsed(record.value or b""))
    if kind.startswith(MEDIA_TYPE):
        raise Corruption(f"a structured CloudEvent was refused: expected the media type {STRUCTURED}, got {kind[:80]}")
    attributes: dict[str, str] = {}
    for name, value in record.headers:
        if name.lower().startswith(PREFIX) and value is not None:
            attributes[name[len(PREFIX) :].lower()] = value.decode("utf-8", "replace")
    return _content(attributes, {} if record.value is None else read_data(record))


def read_structured(event: JsonText) -> Content:
    """The content of a CloudEvent that is one JSON object. Raises Corruption."""
    held = event.value
    if not isinstance(held, dict):
        raise Corruption(f"a structured CloudEvent was refused: expected an object, got {type(held).__name__}")
    attributes = {
        name: _text(value)
        for name, value in held.items()
        if value is not None and name not in ("data", "data_base64")  # Null says: not set.
    }
    encoded = held.get("data_base64")
    if encoded is None:
        return _content(attributes, member(event, "data") if "data" in held else {})
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise Corruption(f"a structured CloudEvent was refused: data_base64 is not base64: {error}") from error
    return _content(attributes, raw.decode("latin-1"))


def _media_type(record: ForeignRecord) -> str:
    """The media type alone, in small letters: neither case nor parameters nor blanks around it matter."""
    return record.header("content-type").partition(";")[0].strip().lower()


def _parsed(data: bytes) -> JsonText:
    try:
        return parse_json(data)
    except Corruption as error:
        raise Corruption(f"a structured CloudEvent was refused: {error}") from error


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _content(attributes: Mapping[str, str], data: Any) -> Content:
    missing = [name for name in REQUIRED if not attributes.get(name)]
    if missing:
        raise Corruption(
            f"a CloudEvent was refused: expected the attributes {', '.join(REQUIRED)}, got no {missing[0]}"
        )
    if not attributes["specversion"].startswith("1."):
        raise Corruption(f"a CloudEvent was refused: expected specversion 1.x, got {attributes['specversion'][:20]!r}")
    if len(attributes) > ATTRIBUTES_MAX or max(map(len, attributes.values())) > ATTRIBUTE_CHARS_MAX:
        raise Corruption(
            f"a CloudEvent was refused: at most {ATTRIBUTES_MAX} attributes of {ATTRIBUTE_CHARS_MAX} characters"
        )
    return Content(
        data=event_data(data),
        name=attributes["type"],
        id=f"{attributes['source']}/{attributes['id']}",
        key=attributes.get("partitionkey", ""),
        ts_ms=_time(attributes.get("time", "")),
        meta=msgspec.json.encode({"cloudevents": attributes}),
    )


def _time(text: str) -> int:
    """Unix milliseconds of an RFC 3339 time, with small letters and leap seconds too; −1 without one."""
    if not text:
        return -1
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError("expected for instance 2026-01-31T12:00:00Z")
        year, month, day, hour, minute, second = map(int, found.group(1, 2, 3, 4, 5, 6))
        if year == 0:
            return -1  # Python has no such year.
        leap = second == 60  # The second behind 59, which other clocks call 0 of the next minute.
        hours, minutes = int(found[9] or 0), int(found[10] or 0)
        if hours > 23 or minutes > 59:
            raise ValueError("the offset is none")
        offset = timedelta(hours=hours, minutes=minutes)
        zone = timezone(-offset if found[8] == "-" else offset)
        at = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=zone)
    except ValueError as error:
        raise Corruption(f"a CloudEvent was refused: expected an RFC 3339 time, got {text[:40]!r}: {error}") from error
    ms = (at - _EPOCH) // timedelta(milliseconds=1) + (1_000 if leap else 0)
    return ms + int((found[7] or "0")[:3].ljust(3, "0"))
