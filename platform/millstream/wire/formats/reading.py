"""One record of a foreign topic to what it says: ``read_content(format, schema, record, schemas)``.

    auto         a CloudEvent, a registry's or a single-object's mark, else JSON, else raw: whichever the record shows
    avro         by its mark; without one, by the subscription's ``schema``
    json         UTF-8 JSON, also behind a registry's mark; what is no object stands under "value"
    raw          text under "value", or base64 under "base64" where it is no UTF-8
    cloudevents  binary or structured, else refused
    debezium     a change envelope (JSON or Avro), else refused

The rule: the same record always reads the same way, and whatever cannot be read is Corruption with a reason: it becomes
a dead letter with its bytes unchanged and never stops its partition. Only a schema that is not known is SchemaWanted:
the topic waits for it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

from millstream.errors import Corruption
from millstream.wire.formats.cloudevents import is_cloud_event, is_structured, read_cloud_event, read_structured
from millstream.wire.formats.content import Content, ForeignRecord, SchemaSource, SchemaWanted
from millstream.wire.formats.debezium import change_of, read_change
from millstream.wire.formats.framing import (
    ID_HEADERS,
    ID_IN_FRONT_BYTES,
    SINGLE_OBJECT,
    id_in_front,
    schema_in_headers,
    single_object,
)
from millstream.wire.formats.json_text import (
    BYTE_ORDER_MARK,
    JsonText,
    event_data,
    is_nearly_json,
    parse_json,
    shown,
)

JSON_FIRST_BYTES: Final = frozenset(b'{["tfn-0123456789 \t\r\n')
WITHOUT_SCHEMAS: Final = ("json", "raw")
INSIDES_FIRST_BYTES: Final = frozenset(b"{[")
NOT_AVRO: Final = object()
Reader = Callable[[str, ForeignRecord, SchemaSource], Content]


def read_content(format: str, schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content | None:
    """What the record says; None: nothing, it is a tombstone.

    ``schema`` is the subscription's: the schema of values without a mark, or "". Raises Corruption, SchemaWanted.
    """
    if record.value is None and not is_cloud_event(record):
        return None
    return READERS[format](schema, record, schemas)


def may_want_schema(format: str, schema: str, record: ForeignRecord) -> bool:
    """Whether reading the record could raise SchemaWanted; far cheaper than to read it."""
    if format not in READERS or format in WITHOUT_SCHEMAS:
        return False
    if schema or (record.value or b"").startswith((b"\0", SINGLE_OBJECT)):
        return True
    return any(name == ID_HEADERS[False] for name, _ in record.headers)


def _auto(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    if is_cloud_event(record):
        return _cloud_event(schema, record, schemas)
    value = _value(schema, record, schemas)
    if isinstance(value, JsonText) and is_structured(value):
        return read_structured(value)
    change = change_of(value)
    return read_change(value) if change is not None else Content(event_data(value))


def _avro(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    value = _marked(record, schemas)
    if value is NOT_AVRO:
        if not schema:
            _hold_without_registry(record, schemas)
            raise Corruption(
                "an Avro value was refused: expected a schema's id in front of it or in its headers, or a mark of the "
                f"single-object encoding, got {_shown(record)}. Name the schema: Topic(..., schema=…)."
            )
        value = schemas.named(schema)(record.value or b"")
    return Content(event_data(value))


def _json(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    data = record.value or b""
    text = data[ID_IN_FRONT_BYTES:] if data[:1] == b"\0" else data  # A registry's id: no JSON begins with 0.
    try:
        return Content(event_data(parse_json(text)))
    except Corruption as error:
        raise Corruption(f"a record was refused: {error}") from error


def _raw(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    return Content(event_data(_raw_value(record)))


def _cloud_event(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    if is_cloud_event(record):
        return read_cloud_event(record, lambda held: _value(schema, held, schemas))
    try:
        value = parse_json(record.value or b"")
    except Corruption:
        value = None
    if value is not None and is_structured(value):
        return read_structured(value)
    raise Corruption(
        "a record was refused: expected a CloudEvent (headers ce_…, or content-type application/cloudevents+json), "
        f"got {_shown(record)}. Subscribe with format='auto' to take others, too."
    )


def _debezium(schema: str, record: ForeignRecord, schemas: SchemaSource) -> Content:
    value = _value(schema, record, schemas)
    if change_of(value) is None:
        _hold_without_registry(record, schemas)
    return read_change(value)


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
    text = data[ID_IN_FRONT_BYTES:] if data[:1] == b"\0" else data.removeprefix(BYTE_ORDER_MARK)
    if text[:1] and text[0] in (INSIDES_FIRST_BYTES if data[:1] == b"\0" else JSON_FIRST_BYTES):
        try:
            return parse_json(text)
        except Corruption:
            if text[0] in INSIDES_FIRST_BYTES and is_nearly_json(text):
                raise
            # Else text that only begins like JSON.
    return _raw_value(record)


def _marked(record: ForeignRecord, schemas: SchemaSource) -> object:
    """The value by the schema that its mark names; NOT_AVRO without one."""
    data = record.value or b""
    in_headers = schema_in_headers(record.headers)
    if in_headers is not None:
        ref, which = in_headers
        return schemas.reader(ref)(which + data)
    marked = single_object(data)
    if marked is None and schemas.has_registry:
        marked = id_in_front(data)
    if marked is None:
        return NOT_AVRO
    return schemas.reader(marked[0])(marked[1])


def _hold_without_registry(record: ForeignRecord, schemas: SchemaSource) -> None:
    """Where only Avro is expected, 0 in front is a registry's id: without a registry the topic waits for one."""
    marked = id_in_front(record.value or b"")
    if marked is not None and not schemas.has_registry:
        raise SchemaWanted(marked[0])


def _raw_value(record: ForeignRecord) -> object:
    data = record.value or b""
    try:
        return {"value": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _shown(record: ForeignRecord) -> str:
    return shown(record.value or b"")
