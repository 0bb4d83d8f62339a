"""Arithmetic of whole numbers with fractions in CEL, which keeps the two apart: ``price * 2`` has no answer for 99.5.

In JSON there is only one kind of number, and nobody who writes ``event.data.price * 2 > 100`` means that it holds for
150 and for no 150.5. The library lets nobody add to its operators. But it gives away a parsed expression as bytes and
takes such bytes: so the five operators are called ``mul``, ``div`` and so on there, which are functions of ours. The
names have as many letters as the operators, so that no length in the bytes changes.

The rule: two whole numbers are counted as CEL does, and so is whatever is no number; only of mixed ones both become
fractions. ``expressions.py`` asks here only where CEL itself has no answer.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, Final

from cel_expr_python import cel

from millstream.core.triggers.expression_tree import read_varint

RENAMED: Final = {b"_+_": b"add", b"_-_": b"sub", b"_*_": b"mul", b"_/_": b"div", b"_%_": b"mod"}
_INT: Final = (-(1 << 63), (1 << 63) - 1)
_PARSED_EXPR: Final = 2
"""The field of ``google.protobuf.Any`` that has the message, and that of ``cel.expr.ParsedExpr`` that has the tree."""
_CALL: Final = 6
_INSIDES: Final[dict[int, tuple[int, ...]]] = {5: (1,), 6: (1, 3), 7: (1,), 9: (2, 4, 5, 6, 7)}
"""Which fields of a select, call, list or loop are nodes again. A struct (8) has them in its entries (2)."""


def functions() -> list[Any]:
    """The functions that the renamed operators call, for an environment of CEL."""
    extra: dict[str, list[Any]] = {"add": [_overload("add", _add, kind, kind, kind) for kind in _JOINED]}
    return [
        cel.FunctionDecl(name, [*_numbers(name, whole, fraction), *extra.get(name, ())])
        for name, (whole, fraction) in _OPERATIONS.items()
    ]


def renamed(parsed: bytes) -> bytes:
    """A serialised expression that was not type-checked, with the operators under our names."""
    patched = bytearray(parsed)
    for at, end in _parts(parsed, 0, len(parsed), _PARSED_EXPR):
        for node_at, node_end in _parts(parsed, at, end, _PARSED_EXPR):
            _rename(parsed, patched, node_at, node_end)
    return bytes(patched)


def _rename(parsed: bytes, patched: bytearray, at: int, end: int) -> None:
    for number, body_at, body_end in _fields(parsed, at, end):
        if number == _CALL:
            for name_at, name_end in _parts(parsed, body_at, body_end, 2):
                name = parsed[name_at:name_end]
                patched[name_at:name_end] = RENAMED.get(name, name)
        if number == 8:
            for entry_at, entry_end in _parts(parsed, body_at, body_end, 2):
                for inside in (3, 4):
                    for node in _parts(parsed, entry_at, entry_end, inside):
                        _rename(parsed, patched, *node)
        for inside in _INSIDES.get(number, ()):
            for node in _parts(parsed, body_at, body_end, inside):
                _rename(parsed, patched, *node)


def _parts(message: bytes, at: int, end: int, number: int) -> list[tuple[int, int]]:
    return [(begin, stop) for found, begin, stop in _fields(message, at, end) if found == number]


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that have a length, and where each lies."""
    while at < end:
        tag, at = read_varint(message, at)
        match tag & 7:
            case 0:
                _, at = read_varint(message, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case _:
                length, at = read_varint(message, at)
                yield tag >> 3, at, at + length
                at += length


# --- what is counted ------------------------------------------------------------------------------


def _whole(value: int) -> int:
    if not _INT[0] <= value <= _INT[1]:
        raise OverflowError("integer overflow")
    return value


def _divided(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _rest(a: int, b: int) -> int:
    return a - b * _divided(a, b)


def _fraction(a: float, b: float) -> float:
    if b:
        return a / b
    if not a or a != a:
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def _add(a: Any, b: Any) -> Any:
    return a + b


_OPERATIONS: Final[dict[str, tuple[Callable[[int, int], int], Callable[[float, float], float]]]] = {
    "add": (operator.add, operator.add),
    "sub": (operator.sub, operator.sub),
    "mul": (operator.mul, operator.mul),
    "div": (_divided, _fraction),
    "mod": (_rest, math.fmod),
}
_JOINED: Final = (cel.Type.STRING, cel.Type.BYTES, cel.Type.List(cel.Type.DYN))


def _numbers(name: str, whole: Callable[[int, int], int], fraction: Callable[[float, float], float]) -> list[Any]:
    integer, double = cel.Type.INT, cel.Type.DOUBLE

    def both_whole(a: int, b: int) -> int:
        return _whole(whole(a, b))

    def as_fractions(a: float, b: float) -> float:
        return fraction(float(a), float(b))

    mixed = ((integer, double), (double, integer), (double, double))
    return [
        _overload(name, both_whole, integer, integer, integer),
        *(_overload(name, as_fractions, double, *pair) for pair in mixed),
    ]


def _overload(name: str, count: Callable[..., Any], gives: Any, *takes: Any) -> Any:
    id = "_".join((name, *(kind.name().lower() for kind in takes)))
    return cel.Overload(id, gives, list(takes), impl=count)
