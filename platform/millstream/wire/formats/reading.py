"""One record of a foreign topic to what it says: ``read_content(format, schema, record, schemas)``.

    auto         a CloudEvent, a registry's or a single-object's mark, else JSON, else raw: whichever the record shows
    avro         by its mark; without one, by the subscription's ``schema``
    json         UTF-8 JSON; what is no object stands under "value"
    raw          text under "value", or base64 under "base64" where it is no UTF-8
    cloudevents  binary or structured, else refused
    debezium     a change envelope (JSON or Avro), else refused

The rule: the same record always reads the same way, and whatever cannot be read is Corruption with a reason: it becomes
a dead letter with its bytes unchanged and never stops its partition. Only a schema that has yet to be fetched is
SchemaWanted.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

import msgspec

from millstream.errors import Corruption
from millstream.wire.formats.avro_value import json_object
from millstream.wire.formats.cloudevents import is_cloud_event, read_cloud_event
from millstream.wire.formats.content import Content, ForeignRecord, SchemaSource
from millstream.wire.formats.debezium import change_of, read_change
from millstream.wire.formats.framing import id_in_front, schema_in_headers, single_object

JSON_FIRST_BYTES: Final = frozenset(b'{["tfn-0123456789 \t\r\n')
NOT_AVRO: Final = object()
Reader = Callable[[str, ForeignRecord, SchemaSource], Content]


def read_content(format: str, schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content | None:
    """What the record says; None: nothing, it is a tombstone.

    ``schema`` is the subscription's: the schema of values without a mark, or "". Raises Corruption, SchemaWanted.
    """
    if record.value is None and not is_cloud_event(record):
        return None
    return READERS[format](schema, record, schemas)


def _auto(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    if is_cloud_event(record):
        return _cloud_event(schema, record, schemas)
    value = _value(schema, record, schemas)
    change = change_of(value)
    return read_change(value) if change is not None else Content(json_object(value))


def _avro(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    value = _marked(record, schemas)
    if value is NOT_AVRO:
        if not schema:
            raise Corruption(
                "an Avro value was refused: expected a schema's id in front of it or in its headers, or a mark of the "
                f"single-object encoding, got {_shown(record)}. Name the schema: Topic(..., schema=…)."
            )
        value = schemas.named(schema)(record.value or b"")
    return Content(json_object(value))


def _json(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    return Content(json_object(_json_value(record)))


def _raw(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    return Content(json_object(_raw_value(record)))


def _cloud_event(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    if not is_cloud_event(record):
        raise Corruption(
            "a record was refused: expected a CloudEvent (headers ce_…, or content-type application/cloudevents+json), "
            f"got {_shown(record)}. Subscribe with format='auto' to take others, too."
        )
    return read_cloud_event(record, lambda held: _value(schema, held, schemas))


def _debezium(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    return read_change(_value(schema, record, schemas))


READERS: Final[dict[str, Reader]] = {
    "auto": _auto,
    "avro": _avro,
    "json": _json,
    "raw": _raw,
    "cloudevents": _cloud_event,
    "debezium": _debezium,
}


def _value(schema: str, record: ForeignRecord, schemas: SchemaSource) -> object:
    """The value in whichever encoding it shows."""
    value = _marked(record, schemas)
    if value is not NOT_AVRO:
        return value
    data = record.value or b""
    if schema:
        return schemas.named(schema)(data)
    if data[:1] and data[0] in JSON_FIRST_BYTES:
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # Text that only begins like JSON.
    return _raw_value(record)


def _marked(record: ForeignRecord, schemas: SchemaSource) -> object:
    """The value by the schema that its mark names; NOT_AVRO without one."""
    data = record.value or b""
    ref = schema_in_headers(record.headers)
    if ref is not None:
        return schemas.reader(ref)(data)
    marked = single_object(data)
    if marked is None and schemas.has_registry:
        marked = id_in_front(data)
    if marked is None:
        return NOT_AVRO
    return schemas.reader(marked[0])(marked[1])


def _json_value(record: ForeignRecord) -> object:
    try:
        return msgspec.json.decode(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corruption(f"a record was refused: expected UTF-8 JSON, got {_shown(record)}: {error}") from error


def _raw_value(record: ForeignRecord) -> object:
    data = record.value or b""
    try:
        return {"value": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _shown(record: ForeignRecord) -> str:
    data = record.value or b""
    return f"{data[:24]!r}{'…' if len(data) > 24 else ''}"
