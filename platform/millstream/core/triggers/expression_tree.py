"""The syntax tree of a CEL expression, as Python values.

The CEL library compiles and evaluates, but shows its tree only as a serialised ``cel.expr.CheckedExpr`` (protobuf).
Reading that one message takes the few lines below. A second parser of ours would be longer and would disagree with CEL
one day about an escape or a precedence; this tree *is* CEL's.

Rule kept: nothing here evaluates or decides. ``expressions.py`` asks which paths an expression reads, and whether it
has the form that a closure can answer. Field numbers: ``cel/expr/checked.proto`` and ``cel/expr/syntax.proto`` of
cel-spec.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant. ``kind`` keeps apart what Python would mix: null, bool, int, uint, double, string, bytes, other."""

    kind: str
    value: bool | int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class Name:
    """A variable: ``event``, ``async``, or the variable of a loop."""

    text: str


@dataclass(frozen=True, slots=True)
class Select:
    """``operand.field``, or ``has(operand.field)`` when ``only_tests``."""

    operand: Node
    field: str
    only_tests: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator; these have CEL's names: ``_&&_``, ``_==_``, ``_[_]``. A method's target comes first."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A list, map or message: nothing but its parts matters here."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """What the macros ``exists``, ``all``, ``map``, ``filter`` become; ``outer`` does not see the loop's variables."""

    variables: frozenset[str]
    outer: tuple[Node, ...]
    inner: tuple[Node, ...]


Node = Literal | Name | Select | Call | Group | Loop

_CONSTANT_KINDS = {1: "null", 2: "bool", 3: "int", 4: "uint", 5: "double", 6: "string", 7: "bytes"}
_INT64_SIGN = 1 << 63
_UINT64_SIZE = 1 << 64


def read_tree(serialised: bytes) -> Node:
    """The tree in what ``cel.Expression.serialize`` returns: a ``google.protobuf.Any`` around a ``CheckedExpr``, or a
    ``ParsedExpr`` where its types were not checked."""
    number = 2 if _message(serialised, 1).endswith(b".ParsedExpr") else 4
    return _node(_message(_message(serialised, 2), number))


def paths_read(node: Node, hidden: frozenset[str] = frozenset()) -> frozenset[tuple[str, ...]]:
    """Every path the expression may read, variable first: ``event.data.x`` gives ``("event", "data", "x")``.

    A path ends where something other than a field name or a constant string index follows, and then stands for the
    whole value there. ``hidden`` are loop variables, which read nothing by themselves.
    """
    path = path_of(node)
    if path is not None:
        return frozenset() if path[0] in hidden else frozenset({path})
    match node:
        case Select(operand=operand):
            return paths_read(operand, hidden)
        case Call(arguments=parts) | Group(parts=parts):
            return frozenset[tuple[str, ...]]().union(*(paths_read(part, hidden) for part in parts))
        case Loop(variables=variables, outer=outer, inner=inner):
            within = hidden | variables
            read = [paths_read(part, hidden) for part in outer] + [paths_read(part, within) for part in inner]
            return frozenset[tuple[str, ...]]().union(*read)
        case _:
            return frozenset()


def calls(node: Node) -> frozenset[str]:
    """The names of all functions and operators that it calls."""
    match node:
        case Select(operand=operand):
            return calls(operand)
        case Call(function=function, arguments=parts):
            return frozenset({function}).union(*map(calls, parts))
        case Group(parts=parts):
            return frozenset[str]().union(*map(calls, parts))
        case Loop(outer=outer, inner=inner):
            return frozenset[str]().union(*map(calls, (*outer, *inner)))
        case _:
            return frozenset()


def path_of(node: Node) -> tuple[str, ...] | None:
    """``event.data.x`` and ``event['data'].x`` as a path; None when the node is anything else."""
    match node:
        case Name(text=text):
            return (text.lstrip("."),)
        case Select(operand=operand, field=field):
            before = path_of(operand)
        case Call(function="_[_]", arguments=(operand, Literal(kind="string", value=str(field)))):
            before = path_of(operand)
        case _:
            return None
    return None if before is None else (*before, field)


# --- reading protobuf ---------------------------------------------------------------------------


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in order; varints as int, everything else as bytes."""
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        match tag & 7:
            case 0:
                value, at = read_varint(message, at)
                yield tag >> 3, value
                continue
            case 1:
                length = 8
            case 2:
                length, at = read_varint(message, at)
            case 5:
                length = 4
            case unknown:
                raise AssertionError(f"CEL serialised a tree with protobuf wire type {unknown}, which it never uses")
        yield tag >> 3, message[at : at + length]
        at += length


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """A protobuf varint that begins at ``at``, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _message(message: bytes, number: int) -> bytes:
    """The last submessage with that number, empty when there is none (an empty message is written as nothing)."""
    found = b""
    for field, value in _fields(message):
        if field == number:
            assert isinstance(value, bytes)
            found = value
    return found


def _messages(message: bytes, number: int) -> list[bytes]:
    return [value for field, value in _fields(message) if field == number and isinstance(value, bytes)]


def _text(message: bytes, number: int) -> str:
    return _message(message, number).decode()


# --- one kind of node each ----------------------------------------------------------------------


def _node(expr: bytes) -> Node:
    for field, body in _fields(expr):
        if not isinstance(body, bytes):
            continue  # The node's id.
        match field:
            case 3:
                return _literal(body)
            case 4:
                return Name(_text(body, 1))
            case 5:
                return Select(_node(_message(body, 1)), _text(body, 2), any(number == 3 for number, _ in _fields(body)))
            case 6:
                parts = _messages(body, 1) + _messages(body, 3)
                return Call(_text(body, 2), tuple(_node(part) for part in parts))
            case 7:
                return Group(tuple(_node(part) for part in _messages(body, 1)))
            case 8:
                return _struct(body)
            case 9:
                return _loop(body)
            case _:
                continue
    return Group(())


def _literal(body: bytes) -> Literal:
    for number, value in _fields(body):
        kind = _CONSTANT_KINDS.get(number, "other")
        match kind, value:
            case "null", _:
                return Literal(kind, None)
            case "bool", int(flag):
                return Literal(kind, bool(flag))
            case "int", int(unsigned):
                return Literal(kind, unsigned - _UINT64_SIZE if unsigned >= _INT64_SIGN else unsigned)
            case "double", bytes(packed):
                return Literal(kind, float(struct.unpack("<d", packed)[0]))
            case "string", bytes(encoded):
                return Literal(kind, encoded.decode())
            case _:
                return Literal(kind, value)
    return Literal("other", None)


def _struct(body: bytes) -> Group:
    parts: list[Node] = []
    for entry in _messages(body, 2):
        parts.extend(_node(key) for key in _messages(entry, 3))
        parts.extend(_node(value) for value in _messages(entry, 4))
    return Group(tuple(parts))


def _loop(body: bytes) -> Loop:
    names = frozenset({_text(body, 1), _text(body, 3), _text(body, 8)} - {""})
    outer = [_node(part) for number in (2, 4) for part in _messages(body, number)]
    inner = [_node(part) for number in (5, 6, 7) for part in _messages(body, number)]
    return Loop(names, tuple(outer), tuple(inner))
