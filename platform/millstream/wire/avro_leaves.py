"""What JSON value stands for each Avro type that has nothing inside: primitives, enum, fixed and the logical types.

Events are JSON and schemas are Avro, so each type needs a JSON form; this table is the only place that chooses one.
``schemas/README.md`` shows it to users: keep the two the same.

The rule: a form loses nothing. So ``int`` may stand for ``double``, but a float never stands for ``decimal``; times
are numbers or ISO 8601 text with an offset. A logical type unknown here is its base type, as Avro says.

Add a logical type: one branch in ``_logical``, one row in the README, one line in the test's tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Final

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1
FLOAT_MAX: Final = (2 - 2**-23) * 2.0**127
ISO_CHARS_MAX: Final = 40
"""Longest text that is tried as a time: the longest valid one is shorter."""
DECIMAL_DIGITS_MAX: Final = 1_000
"""Highest precision of a decimal; and longest text that is tried as one."""
SYMBOLS_SHOWN_MAX: Final = 8
"""The most symbols of an enum that a message names."""

_PRECISIONS: Final = range(1, DECIMAL_DIGITS_MAX + 1)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DECIMAL: Final = re.compile(r"-?([0-9]+)(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A type without insides: ``expected`` finishes the sentence "must be …"; ``fits`` takes any Python value."""

    expected: str
    fits: Callable[[Any], bool]


def leaf_of(schema: Mapping[str, Any]) -> Leaf | None:
    """The leaf of a parsed schema ``{"type": …}``, or None where the type has insides (record, array, map).

    Raises ValueError where the schema itself is wrong, saying how.
    """
    kind = schema["type"]
    if kind == "enum":
        return _enum(schema["symbols"])
    base = _fixed(schema["size"]) if kind == "fixed" else _PRIMITIVES.get(kind)
    logical = schema.get("logicalType")
    if base is None or logical is None:
        return base
    return _logical(kind, logical, base, schema)


def _logical(kind: str, logical: str, base: Leaf, schema: Mapping[str, Any]) -> Leaf:
    match kind, logical:
        case "long", "timestamp-millis" | "timestamp-micros" | "timestamp-nanos":
            unit = logical.removeprefix("timestamp-")
            return _number_or_text(base, f"Unix time in {unit} (long)", "ISO 8601 text with an offset", _is_instant)
        case "long", "local-timestamp-millis" | "local-timestamp-micros" | "local-timestamp-nanos":
            unit = logical.removeprefix("local-timestamp-")
            return _number_or_text(base, f"{unit} (long)", "ISO 8601 text without an offset", _is_local_time)
        case "int", "date":
            return _number_or_text(base, "days since 1970 (int)", "text like 2026-01-31", _is_date)
        case "int", "time-millis":
            return _number_or_text(_within(86_400_000), "milliseconds of the day", "text like 23:59:59", _is_time)
        case "long", "time-micros":
            return _number_or_text(_within(86_400_000_000), "microseconds of the day", "text like 23:59:59", _is_time)
        case "string" | "fixed", "uuid":
            return Leaf("a UUID", lambda value: isinstance(value, str) and _UUID.fullmatch(value) is not None)
        case "bytes" | "fixed", "decimal":
            return _decimal(schema.get("precision"), schema.get("scale", 0))
        case _:
            return base


def _is_boolean(value: Any) -> bool:
    return value is True or value is False


def _is_int(value: Any) -> bool:
    return type(value) is int and -INT_MAX - 1 <= value <= INT_MAX


def _is_long(value: Any) -> bool:
    return type(value) is int and -LONG_MAX - 1 <= value <= LONG_MAX


def _is_double(value: Any) -> bool:
    if type(value) is int:
        return value.bit_length() <= 1_023  # More has no double.
    return type(value) is float and math.isfinite(value)  # JSON has neither NaN nor infinity.


def _is_float(value: Any) -> bool:
    return _is_double(value) and -FLOAT_MAX <= value <= FLOAT_MAX


def _is_bytes(value: Any) -> bool:
    # Avro's own JSON form: one character per byte. Base64 text is that too.
    return isinstance(value, str) and (value.isascii() or max(value) <= "\xff")


_PRIMITIVES: Final[Mapping[str, Leaf]] = {
    "null": Leaf("null", lambda value: value is None),
    "boolean": Leaf("boolean", _is_boolean),
    "int": Leaf("int", _is_int),
    "long": Leaf("long", _is_long),
    "float": Leaf("float", _is_float),
    "double": Leaf("double", _is_double),
    "bytes": Leaf("bytes (text of characters up to U+00FF)", _is_bytes),
    "string": Leaf("string", lambda value: isinstance(value, str)),
}
PRIMITIVES: Final = frozenset(_PRIMITIVES)


def _enum(symbols: list[str]) -> Leaf:
    known = frozenset(symbols)
    shown = ", ".join(repr(symbol[:40]) for symbol in symbols[:SYMBOLS_SHOWN_MAX])
    more = f" and {len(symbols) - SYMBOLS_SHOWN_MAX} more" if len(symbols) > SYMBOLS_SHOWN_MAX else ""
    return Leaf(f"one of {shown}{more}", lambda value: isinstance(value, str) and value in known)


def _fixed(size: Any) -> Leaf:
    if type(size) is not int or size < 0:
        raise ValueError(f"the size of a fixed must be a number of bytes, got {size!r}")
    return Leaf(
        f"{size} bytes (text of as many characters up to U+00FF)",
        lambda value: _is_bytes(value) and len(value) == size,
    )


def _within(end: int) -> Leaf:
    return Leaf("", lambda value: type(value) is int and 0 <= value < end)


def _number_or_text(number: Leaf, number_form: str, text_form: str, is_text: Callable[[str], bool]) -> Leaf:
    fits_number = number.fits

    def fits(value: Any) -> bool:
        if isinstance(value, str):
            return len(value) <= ISO_CHARS_MAX and is_text(value)
        return fits_number(value)

    return Leaf(f"{number_form} or {text_form}", fits)


def _is_instant(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _is_local_time(text: str) -> bool:
    try:
        return "T" in text and datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    try:
        return time.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


def _decimal(precision: Any, scale: Any) -> Leaf:
    if (
        type(precision) is not int
        or type(scale) is not int
        or not 0 <= scale <= precision
        or precision not in _PRECISIONS
    ):
        raise ValueError(
            f"a decimal needs a precision from 1 to {DECIMAL_DIGITS_MAX} and a scale up to it, "
            f"got {precision!r} and {scale!r}"
        )

    integer_end: int = 10 ** (precision - scale)

    def fits(value: Any) -> bool:
        if type(value) is int:
            return abs(value) < integer_end
        if not isinstance(value, str) or len(value) > DECIMAL_DIGITS_MAX:
            return False  # A float has lost digits already: 0.1 is not a tenth.
        number = _DECIMAL.fullmatch(value)
        if number is None:
            return False
        return len(number[1].lstrip("0")) <= precision - scale and len(number[2] or "") <= scale

    return Leaf(
        f"a decimal as text or integer with at most {precision - scale} digits before and {scale} after the point", fits
    )
