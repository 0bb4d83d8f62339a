"""Keys as bytes, in an order that is the keys' own: ``encode(a) < encode(b)`` exactly when ``a < b``.

Stores know only bytes in byte order; tables are scanned in key order (timers by time, seen buckets by hour). So each
kind of key field has an encoding that keeps its order:

    int     8 bytes, big-endian, never negative
    bool    1 byte
    bytes   as they are: only as a last field, or they would need an end
    str     UTF-8 (its byte order is the order of code points), ended by 00 00 unless it is the last field; a 00 inside
            is written 00 FF, which sorts behind the end and before every other character

Add a kind of field: one branch in ``_encode_field``, and the property test draws it.
Keys are never read back: a row has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

KeyField = str | int | bool | bytes
Key = KeyField | tuple[KeyField, ...]
"""What a table is keyed by: one field, or a tuple of them."""

INT_MAX: Final = (1 << 64) - 1
_END: Final = b"\x00\x00"
_BEHIND_END: Final = b"\x01"  # Instead of an end's last byte: behind all keys with that field, before all others.
_NUL: Final = b"\x00\xff"


@cache
def encoder(prefix: bytes, kinds: tuple[type, ...]) -> Callable[[Key], bytes]:
    """The function that turns keys of these kinds into bytes behind ``prefix``."""
    if kinds == (str,):
        return lambda key: prefix + key.encode("utf-8", "surrogatepass")  # type: ignore[union-attr]
    if kinds == (bytes,):
        return lambda key: prefix + key  # type: ignore[operator]
    if len(kinds) == 1:
        return lambda key: prefix + _encode_field(kinds[0], key, last=True)  # type: ignore[arg-type]
    last = len(kinds) - 1

    def encode(key: Key) -> bytes:
        assert isinstance(key, tuple), f"expected a key of {kinds}, got {key!r}"
        assert len(key) == len(kinds), f"expected a key of {kinds}, got {key!r}"
        return prefix + b"".join([_encode_field(kinds[i], field, last=i == last) for i, field in enumerate(key)])

    return encode


@cache
def range_of(prefix: bytes, kinds: tuple[type, ...]) -> Callable[[str], tuple[bytes, bytes]]:
    """The function from a first field, a text, to the bytes around all keys that begin with it: from, and before."""
    assert kinds[0] is str and len(kinds) > 1, f"expected keys of a text and more, got {kinds}"

    def around(field: str) -> tuple[bytes, bytes]:
        at = prefix + _encode_field(str, field, last=False)
        return at, at[:-1] + _BEHIND_END

    return around


def _encode_field(kind: type, field: KeyField, *, last: bool) -> bytes:
    if kind is str:
        assert isinstance(field, str), f"expected text in a key, got {field!r}"
        raw = field.encode("utf-8", "surrogatepass")
        if last:
            return raw  # Nothing follows, so it needs neither an end nor escapes: a shorter text sorts first anyway.
        return (raw.replace(b"\x00", _NUL) if b"\x00" in raw else raw) + _END
    if kind is bool:
        assert isinstance(field, bool), f"expected a bool in a key, got {field!r}"
        return b"\x01" if field else b"\x00"
    if kind is int:
        assert isinstance(field, int), f"expected a number in a key, got {field!r}"
        assert 0 <= field <= INT_MAX, f"expected 0 … 2^64 − 1 in a key, got {field!r}"
        return field.to_bytes(8, "big")
    assert kind is bytes, f"expected a kind of key field with an order, got {kind}"
    assert isinstance(field, bytes), f"expected bytes in a key, got {field!r}"
    assert last, "expected bytes only as a key's last field: they have no end"
    return field
