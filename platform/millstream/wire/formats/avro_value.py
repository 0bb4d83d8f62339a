"""An Avro value of a foreign topic as JSON, in the forms that ``schemas/README.md`` gives to each type.

A subscriber of a topic gets what the door would have taken: a time is a number, a decimal is text, bytes are text
with one character a byte. So an event is the same whether its producer wrote Avro to a topic or posted JSON.

The rule: nothing is lost, nothing depends on the reader's time zone or locale. Logical types whose JSON form is their
base type's are therefore left out of the schema before it is read; only decimals and UUIDs are told apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from io import BytesIO
from typing import Any, Final
from uuid import UUID

import fastavro
import msgspec
from fastavro.schema import SchemaParseException, UnknownType

from millstream.errors import Corruption
from millstream.wire.schema_files import SCHEMA_BYTES_MAX

DEPTH_MAX: Final = 64
_KEPT_LOGICAL: Final = ("decimal", "uuid")
_BROKEN: Final = (LookupError, ValueError, TypeError, EOFError, OverflowError, MemoryError, ArithmeticError)
_NOT_AVRO: Final = (SchemaParseException, UnknownType, LookupError, TypeError, ValueError, AttributeError)

ValueReader = Callable[[bytes], object]
"""The JSON-like value of bytes that one schema wrote. Raises Corruption on other bytes."""


def value_reader(text: str) -> ValueReader:
    """A reader of values that this schema wrote. ``text`` is the schema's JSON, needing no other.

    Raises Corruption where it is not Avro.
    """
    if len(text) > SCHEMA_BYTES_MAX:
        raise Corruption(f"a schema was refused: expected at most {SCHEMA_BYTES_MAX} characters, got {len(text)}.")
    try:
        schema = fastavro.parse_schema(_bare(json.loads(text), 1))
    except _NOT_AVRO as error:
        raise Corruption(f"a schema was refused: expected Avro, got {text[:120]!r}: {error}.") from error

    def read(data: bytes) -> object:
        source = BytesIO(data)
        try:
            value = fastavro.schemaless_reader(source, schema, None)
        except _BROKEN as error:
            raise Corruption(f"the value does not fit its schema: {type(error).__name__}: {error}") from error
        left = len(data) - source.tell()
        if left:
            raise Corruption(f"the value does not fit its schema: {left} bytes are left over behind it")
        return _json_value(value, 1)

    return read


def json_object(value: object) -> bytes:
    """A value as an event's data, which is an object: what is none stands under ``"value"``."""
    data = value if isinstance(value, Mapping) else {"value": value}
    try:
        return msgspec.json.encode(data)
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise Corruption(f"the value has no JSON form: {error}") from error


def _bare(schema: Any, depth: int) -> Any:
    """The schema without the logical types whose values would only have to be turned back into numbers."""
    if depth > DEPTH_MAX:
        raise ValueError(f"types inside each other more than {DEPTH_MAX} deep")
    if isinstance(schema, list):
        return [_bare(branch, depth + 1) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {name: part for name, part in schema.items() if name != "logicalType" or part in _KEPT_LOGICAL}
    if isinstance(bare.get("fields"), list):
        bare["fields"] = [
            {**field, "type": _bare(field["type"], depth + 1)} if isinstance(field, dict) and "type" in field else field
            for field in bare["fields"]
        ]
    for part in ("items", "values", "type"):
        if isinstance(bare.get(part), (list, dict)):
            bare[part] = _bare(bare[part], depth + 1)
    return bare


def _json_value(value: object, depth: int) -> object:
    """The value with JSON's types only."""
    if depth > DEPTH_MAX:
        raise Corruption(f"the value was refused: objects and arrays inside each other more than {DEPTH_MAX} deep")
    if isinstance(value, dict):
        return {str(name): _json_value(part, depth + 1) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(part, depth + 1) for part in value]
    if isinstance(value, (bytes, bytearray)):
        return value.decode("latin-1")
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None  # JSON has no such number.
    return value
