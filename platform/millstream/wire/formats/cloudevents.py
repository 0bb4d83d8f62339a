"""CloudEvents 1.0 on Kafka (the protocol binding of the CNCF specification), binary and structured.

    binary      attributes in headers ``ce_id``, ``ce_type``, …; the value is the data, of the header ``content-type``
    structured  the header ``content-type`` begins with ``application/cloudevents+json``; the value holds everything

The rule: ``type`` is the event's name, ``id`` its id together with ``source`` (the specification makes only the pair
unique), ``time`` its time, ``partitionkey`` its key. All attributes are kept in ``meta.cloudevents``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from millstream.errors import Corruption
from millstream.wire.formats.avro_value import json_object
from millstream.wire.formats.content import Content, ForeignRecord

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch"
PREFIX: Final = "ce_"
REQUIRED: Final = ("id", "source", "specversion", "type")
ATTRIBUTE_CHARS_MAX: Final = 2_048
ATTRIBUTES_MAX: Final = 64

ReadData = Callable[[ForeignRecord], object]


def is_cloud_event(record: ForeignRecord) -> bool:
    """Whether the record says that it is one."""
    if any(name.lower() == "ce_specversion" for name, _ in record.headers):
        return True
    return record.header("content-type").startswith("application/cloudevents")


def read_cloud_event(record: ForeignRecord, read_data: ReadData) -> Content:
    """The content of a CloudEvent. ``read_data`` reads the value of a binary one. Raises Corruption."""
    kind = record.header("content-type")
    if kind.startswith(BATCH):
        raise Corruption("a batch of CloudEvents was refused: expected one event a record, as the Kafka binding says")
    if kind.startswith(STRUCTURED):
        return _structured(record)
    attributes: dict[str, str] = {}
    for name, value in record.headers:
        if name.lower().startswith(PREFIX) and value is not None:
            attributes[name[len(PREFIX) :].lower()] = value.decode("utf-8", "replace")
    return _content(attributes, {} if record.value is None else read_data(record))


def _structured(record: ForeignRecord) -> Content:
    try:
        event = msgspec.json.decode(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corruption(f"a structured CloudEvent was refused: expected JSON, got {error}") from error
    if not isinstance(event, dict):
        raise Corruption(f"a structured CloudEvent was refused: expected an object, got {type(event).__name__}")
    data: object = event.pop("data", {})
    encoded = event.pop("data_base64", None)
    if encoded is not None:
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise Corruption(f"a structured CloudEvent was refused: data_base64 is not base64: {error}") from error
        data = raw.decode("latin-1")
    return _content({str(name): _text(value) for name, value in event.items()}, data)


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
        data=json_object(data),
        name=attributes["type"],
        id=f"{attributes['source']}/{attributes['id']}",
        key=attributes.get("partitionkey", ""),
        ts_ms=_time(attributes.get("time", "")),
        meta=msgspec.json.encode({"cloudevents": attributes}),
    )


def _time(text: str) -> int:
    if not text:
        return -1
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Corruption(f"a CloudEvent was refused: expected an RFC 3339 time, got {text[:40]!r}") from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
