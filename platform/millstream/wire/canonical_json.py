"""JSON in its canonical form (RFC 8785), which is what the signatures of the SDKs' protocol are made of.

Keys in the order of their UTF-16 code units, no spaces, numbers as ECMAScript writes them: ``1.0`` is ``1``, and an
integer above 2^53 is the nearest double, as a reader in JavaScript takes it. Both SDKs bring a body into this form
before they check its signature, so a body may be *sent* in any form.

Most bodies need no more than sorted keys; only those with floats, long integers or characters beyond the first plane
take the slow way.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import msgspec

from millstream.errors import BadRequest

SAFE_DIGITS: Final = 15
"""An integer of so many digits is the same as a double."""
_PLAIN_MAX: Final = 1e21
"""From here on ECMAScript writes an exponent."""
_PLAIN_MIN: Final = 1e-6
_UNUSUAL_NUMBER: Final = re.compile(rb"\d[.eE]|\d{16}|[\[:,\s]-0|^-0")
"""May also find text; then the slow way is taken for nothing."""
_BEYOND_FIRST_PLANE: Final = re.compile(rb"[\xf0-\xf4]")

_sorted: Final = msgspec.json.Encoder(order="sorted")
_as_is: Final = msgspec.json.Encoder()


def canonical_json(body: bytes) -> bytes:
    """The canonical form of JSON; of no bytes: none. Raises BadRequest for what has none."""
    if not body:
        return body
    try:
        if _UNUSUAL_NUMBER.search(body):
            value = json.loads(body, parse_float=_number, parse_int=_integer, parse_constant=_refuse)
        else:
            value = msgspec.json.decode(body)
        encoded = _sorted.encode(value)
        if _BEYOND_FIRST_PLANE.search(encoded):  # The encoder sorts by code points: another order there.
            encoded = _as_is.encode(_with_sorted_keys(value))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(f"JSON refused: it has no canonical form to be signed, got {body[:80]!r}: {error}") from error
    return encoded


def _integer(text: str) -> Any:
    return int(text) if len(text) <= SAFE_DIGITS else _number(text)


def _number(text: str) -> msgspec.Raw:
    return msgspec.Raw(ecmascript_number(float(text)).encode())


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def ecmascript_number(number: float) -> str:
    """A double as ECMAScript's ``Number::toString`` writes it. Raises ValueError for what is no number of JSON."""
    if number == 0:
        return "0"
    if number - number != 0:
        raise ValueError(f"{number} is no JSON")
    size = abs(number)
    if number.is_integer() and size < _PLAIN_MAX:
        return _shortest_integer(number)
    text = repr(number)
    if "e" not in text:
        return text
    digits, _, exponent = text.partition("e")
    if size < _PLAIN_MIN or size >= _PLAIN_MAX:
        return f"{digits}e{int(exponent):+d}"
    sign = "-" if number < 0 else ""
    plain = digits.lstrip("-").replace(".", "")
    return f"{sign}0.{'0' * (-int(exponent) - 1)}{plain}"


def _shortest_integer(number: float) -> str:
    """The shortest digits that are this double, filled with zeros: not the exact value above 2^53."""
    text = repr(number)
    digits, _, exponent = text.partition("e")
    if not exponent:
        return digits.removesuffix(".0")
    whole, _, fraction = digits.partition(".")
    return whole + fraction.ljust(int(exponent), "0")


def _with_sorted_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_sorted_keys(value[key]) for key in sorted(value, key=_utf16)}
    if isinstance(value, list):
        return [_with_sorted_keys(one) for one in value]
    return value


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")
