"""The equality in a wait's condition: a path into the event that comes, and the value that must be there.

    event.data.order_id == async.data.order_id && async.data.amount > 5        async.data.order_id, event.data.order_id
    async.data.state == 'paid'                                                 async.data.state, 'paid'

By it a wait has a place where it is found, however many others wait (``model/waits/awaited.py``). It is found in the
plain forms only: comparisons joined by ``&&``. What it is not found in still works, looked at one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from millstream.core.triggers.expression_tree import Call, Literal, Node, path_of

COMING: Final = "async"
OWN: Final = "event"


class Equality(NamedTuple):
    """``path`` into the event that comes; ``own`` into the run's own event, or the ``literal``.

    ``is_all``: the expression says nothing else.
    """

    path: tuple[str, ...]
    own: tuple[str, ...]
    literal: object
    is_all: bool


def equality_of(tree: Node) -> Equality | None:
    """The first equality of a condition that a place can stand for; None: it has none."""
    parts = tuple(_parts(tree))
    for part in parts:
        if not (isinstance(part, Call) and part.function == "_==_"):
            continue
        for coming, other in (part.arguments, part.arguments[::-1]):
            path, own = path_of(coming), path_of(other)
            if path is None or path[0] != COMING or len(path) < 2 or any("." in field for field in path):
                continue
            if own is not None and own[0] == OWN and len(own) > 1:
                return Equality(path[1:], own[1:], None, len(parts) == 1)
            if isinstance(other, Literal) and other.kind in ("null", "bool", "int", "double", "string"):
                return Equality(path[1:], (), other.value, len(parts) == 1)
    return None


def _parts(node: Node) -> Iterator[Node]:
    if isinstance(node, Call) and node.function == "_&&_":
        for part in node.arguments:
            yield from _parts(part)
    else:
        yield node


class Missing:
    """There is no value at a path."""


MISSING: Final = Missing()


def value_at(event: Mapping[str, object], path: tuple[str, ...]) -> object:
    """The value at a path of an event; MISSING: there is none."""
    value: object = event
    for field in path:
        if not isinstance(value, Mapping) or field not in value:
            return MISSING
        value = value[field]
    return value


def value_text(value: object) -> str:
    """A text that two values share exactly when CEL holds them for equal."""
    if isinstance(value, str):
        return f"s{value}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    return json.dumps(_numbers_alike(value), sort_keys=True, separators=(",", ":"))


def _numbers_alike(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _numbers_alike(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers_alike(part) for part in value]
    return value
