"""An Avro value of a foreign topic as JSON, in the forms that ``schemas/README.md`` gives to each type.

A subscriber of a topic gets what the door would have taken: a time is a number, a decimal is text, bytes are text with
one character a byte. So an event is the same whether its producer wrote Avro to a topic or posted JSON. A schema
becomes one function, once: nested closures, each taking

    (data, at, depth, left) -> (value, end)

A library reads faster and trusts the bytes: it follows a recursive type until the process dies, and makes a billion
items of four bytes. Here depth and items are counted *before* anything is made of them.

The rules: nothing is lost, nothing depends on the reader's time zone or locale; a decimal keeps every digit. A schema
is taken as its registry took it: a value needs no default, so defaults are not looked at, and a logical type that makes
no sense is its base type, as Avro says. Types of other schemas (``references``) are known by their full names.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from millstream.errors import Corruption
from millstream.wire.avro_leaves import DECIMAL_DIGITS_MAX, INT_MAX
from millstream.wire.schema_files import SCHEMA_BYTES_MAX
from millstream.wire.varints import block, number, span

DEPTH_MAX: Final = 64
"""Objects and arrays inside each other, in a value; types inside each other, in a schema."""
VALUES_MAX: Final = 1_000_000
"""Fields and items in one value."""
_BROKEN: Final = (LookupError, ValueError, ArithmeticError, struct.error)
_NOT_AVRO: Final = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
_FLOAT: Final = struct.Struct("<f")
_DOUBLE: Final = struct.Struct("<d")
_NO_NUMBERS: Final = {float("inf"): "Infinity", float("-inf"): "-Infinity"}

ValueReader = Callable[[bytes], object]
"""The JSON-like value of bytes that one schema wrote. Raises Corruption on other bytes."""
_Read = Callable[[bytes, int, int, list[int]], tuple[Any, int]]


def value_reader(text: str, references: Iterable[str] = ()) -> ValueReader:
    """A reader of values that this schema wrote. ``text`` is the schema's JSON; ``references`` are those of the schemas
    whose types it uses, each behind those that it uses itself.

    Raises Corruption where one of them is not Avro.
    """
    compiler = _Compiler()
    for each in references:
        _compiled(compiler, each)
    root = _compiled(compiler, text)

    def read(data: bytes) -> object:
        try:
            value, end = root(data, 0, 1, [VALUES_MAX])
        except IndexError as error:
            raise Corruption("the value does not fit its schema: the bytes end inside it") from error
        except _BROKEN as error:
            raise Corruption(f"the value does not fit its schema: {type(error).__name__}: {error}") from error
        if end != len(data):
            raise Corruption(f"the value does not fit its schema: {len(data) - end} bytes are left over behind it")
        return value

    return read


def json_object(value: object) -> bytes:
    """A value as an event's data, which is an object: what is none stands under ``"value"``."""
    data = value if isinstance(value, Mapping) else {"value": value}
    try:
        return msgspec.json.encode(data)
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise Corruption(f"the value has no JSON form: {error}") from error


def json_number(value: float) -> float | str:
    """A float as JSON; what JSON has no number for is text: ``"NaN"``, ``"Infinity"``, ``"-Infinity"``."""
    if value != value:
        return "NaN"
    return _NO_NUMBERS.get(value, value)


def _compiled(compiler: _Compiler, text: str) -> _Read:
    if len(text) > SCHEMA_BYTES_MAX:
        raise Corruption(f"a schema was refused: expected at most {SCHEMA_BYTES_MAX} characters, got {len(text)}.")
    try:
        return compiler.read(json.loads(text), "", 1)
    except _NOT_AVRO as error:
        raise Corruption(f"a schema was refused: expected Avro, got {text[:120]!r}: {error}.") from error


# --- types without insides ------------------------------------------------------------------------


def _null(_data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[None, int]:
    return None, at


def _boolean(data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[bool, int]:
    if data[at] > 1:
        raise ValueError(f"a boolean of the byte {data[at]}")
    return data[at] == 1, at + 1


def _long(data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[int, int]:
    return number(data, at)


def _int(data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[int, int]:
    value, at = number(data, at)
    if not -INT_MAX - 1 <= value <= INT_MAX:
        raise ValueError(f"an int of more than 32 bits, {value}")
    return value, at


def _float(data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[float | str, int]:
    return json_number(_FLOAT.unpack_from(data, at)[0]), at + 4


def _double(data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[float | str, int]:
    return json_number(_DOUBLE.unpack_from(data, at)[0]), at + 8


def _span(data: bytes, at: int) -> tuple[int, int]:
    at, end = span(data, at)
    if end > len(data):
        raise IndexError
    return at, end


def _bytes(data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[str, int]:
    at, end = _span(data, at)
    return data[at:end].decode("latin-1"), end


def _string(data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[str, int]:
    at, end = _span(data, at)
    return data[at:end].decode(), end


_PRIMITIVES: Final[Mapping[str, _Read]] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _float,
    "double": _double,
    "bytes": _bytes,
    "string": _string,
}


def _decimal_text(unscaled: bytes, scale: int) -> str:
    """All digits, also those beyond the schema's precision: to cut them off would change the number."""
    if len(unscaled) > DECIMAL_DIGITS_MAX:
        raise ValueError(f"a decimal of {len(unscaled)} bytes: at most {DECIMAL_DIGITS_MAX} digits are read")
    whole = int.from_bytes(unscaled, "big", signed=True)
    digits = str(abs(whole)).rjust(scale + 1, "0")
    if len(digits) > DECIMAL_DIGITS_MAX:
        raise ValueError(f"a decimal of {len(digits)} digits: at most {DECIMAL_DIGITS_MAX} are read")
    sign = "-" if whole < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"


def _fixed(size: int, shown: Callable[[bytes], str]) -> _Read:
    def read(data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[str, int]:
        if at + size > len(data):
            raise IndexError
        return shown(data[at : at + size]), at + size

    return read


def _decimal_bytes(scale: int) -> _Read:
    def read(data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[str, int]:
        at, end = _span(data, at)
        return _decimal_text(data[at:end], scale), end

    return read


def _latin(data: bytes) -> str:
    return data.decode("latin-1")


def _decimal_scale(schema: Mapping[str, Any]) -> int | None:
    """The scale of a decimal; None where it is none, or one that Avro says to pass over."""
    if schema.get("logicalType") != "decimal":
        return None
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision or not precision:
        return None
    if scale > DECIMAL_DIGITS_MAX:
        raise ValueError(f"a decimal of the scale {scale}: at most {DECIMAL_DIGITS_MAX} digits are read")
    return scale


# --- types with insides ---------------------------------------------------------------------------


def _enter(depth: int, count: int, left: list[int]) -> None:
    """Count before it is made: ``count`` more values, ``depth`` objects and arrays inside each other."""
    if depth > DEPTH_MAX:
        raise Corruption(f"the value was refused: objects and arrays inside each other more than {DEPTH_MAX} deep")
    left[0] -= count
    if left[0] < 0:
        raise Corruption(f"the value was refused: more than {VALUES_MAX} fields and items")


def _array(item: _Read) -> _Read:
    def read(data: bytes, at: int, depth: int, left: list[int]) -> tuple[list[Any], int]:
        items: list[Any] = []
        count, at = block(data, at)
        while count:
            _enter(depth, count, left)
            for _ in range(count):
                value, at = item(data, at, depth + 1, left)
                items.append(value)
            count, at = block(data, at)
        _enter(depth, 0, left)
        return items, at

    return read


def _map(item: _Read) -> _Read:
    def read(data: bytes, at: int, depth: int, left: list[int]) -> tuple[dict[str, Any], int]:
        items: dict[str, Any] = {}
        count, at = block(data, at)
        while count:
            _enter(depth, count, left)
            for _ in range(count):
                key, at = _string(data, at, depth, left)
                items[key], at = item(data, at, depth + 1, left)
            count, at = block(data, at)
        _enter(depth, 0, left)
        return items, at

    return read


def _record(fields: list[tuple[str, _Read]]) -> _Read:
    def read(data: bytes, at: int, depth: int, left: list[int]) -> tuple[dict[str, Any], int]:
        _enter(depth, len(fields) or 1, left)
        value: dict[str, Any] = {}
        for name, field in fields:
            value[name], at = field(data, at, depth + 1, left)
        return value, at

    return read


def _union(branches: list[_Read]) -> _Read:
    def read(data: bytes, at: int, depth: int, left: list[int]) -> tuple[Any, int]:
        which, at = number(data, at)
        if not 0 <= which < len(branches):
            raise ValueError(f"branch {which} of a union of {len(branches)}")
        return branches[which](data, at, depth, left)

    return read


def _enum(symbols: list[str]) -> _Read:
    def read(data: bytes, at: int, _depth: int, _left: list[int]) -> tuple[str, int]:
        which, at = number(data, at)
        if not 0 <= which < len(symbols):
            raise ValueError(f"symbol {which} of an enum of {len(symbols)}")
        return symbols[which], at

    return read


class _Compiler:
    """Schemas under way; ``_named`` are their named types so far, by full name."""

    def __init__(self) -> None:
        self._named: dict[str, _Read] = {}

    def read(self, schema: Any, namespace: str, depth: int) -> _Read:
        """The reader of any schema. ``namespace`` is that of the type around it."""
        if depth > DEPTH_MAX:
            raise ValueError(f"types inside each other more than {DEPTH_MAX} deep")
        match schema:
            case str():
                return _PRIMITIVES.get(schema) or self._reference(schema, namespace)
            case list():
                return _union([self.read(branch, namespace, depth + 1) for branch in schema])
            case {"type": "array"}:
                return _array(self.read(schema["items"], namespace, depth + 1))
            case {"type": "map"}:
                return _map(self.read(schema["values"], namespace, depth + 1))
            case {"type": "record" | "error" | "enum" | "fixed"}:
                return self._definition(schema, namespace, depth)
            case {"type": "bytes"} if (scale := _decimal_scale(schema)) is not None:
                return _decimal_bytes(scale)
            case {"type": inside}:
                return self.read(inside, namespace, depth + 1)
        raise TypeError(f"{json.dumps(schema)[:60]} where a type is expected")

    def _reference(self, name: str, namespace: str) -> _Read:
        full_name = name if "." in name or not namespace else f"{namespace}.{name}"
        found = self._named.get(full_name) or self._named.get(name)
        if found is None:
            raise ValueError(f"the type {full_name!r}, which neither Avro nor the schema nor its references define")
        return found

    def _definition(self, schema: Mapping[str, Any], namespace: str, depth: int) -> _Read:
        name = schema["name"]
        if not isinstance(name, str) or not name:
            raise TypeError(f"the name {name!r}, which is not text")
        around = schema.get("namespace", namespace) or ""
        full_name = name if "." in name or not around else f"{around}.{name}"
        if full_name in self._named:
            raise ValueError(f"a second definition of the type {full_name!r}")
        if schema["type"] == "enum":
            made = _enum([str(symbol) for symbol in schema["symbols"]])
        elif schema["type"] == "fixed":
            made = _fixed_reader(schema)
        else:
            # The fields are filled in below: one may be of this very type.
            fields: list[tuple[str, _Read]] = []
            made = self._named[full_name] = _record(fields)
            inside = full_name.rpartition(".")[0]
            for field in schema["fields"]:
                fields.append((str(field["name"]), self.read(field["type"], inside, depth + 1)))
        self._named[full_name] = made
        return made


def _fixed_reader(schema: Mapping[str, Any]) -> _Read:
    size = schema["size"]
    if type(size) is not int or size < 0:
        raise ValueError(f"a fixed type of the size {size!r}")
    scale = _decimal_scale(schema)
    if scale is not None:
        return _fixed(size, lambda data: _decimal_text(data, scale))
    if schema.get("logicalType") == "uuid" and size == 16:
        return _fixed(size, lambda data: str(UUID(bytes=data)))
    return _fixed(size, _latin)
