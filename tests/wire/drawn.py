"""Values of any Struct for hypothesis, drawn from its type annotations and, for the size of numbers, its schema."""

from __future__ import annotations

import re
import sys
import types
import typing
from typing import Any

import msgspec
from hypothesis import strategies as st

from millstream.wire.schemas import load_schema

INT = st.integers(-(2**31), 2**31 - 1)
DEFINED_IN = {"Envelope": "messages/event"}
LONG = st.integers(-(2**63), 2**63 - 1)


def structs(kind: type[Any], schema: Any) -> st.SearchStrategy[Any]:
    """Instances of a Struct, each field anything that its type and its Avro type allow."""
    avro = {field["name"]: field["type"] for field in schema["fields"]}
    hints = field_types(kind)
    return st.builds(kind, **{name: _values(hints[name], avro[name]) for name in hints})


def field_types(kind: type[Any]) -> dict[str, Any]:
    """The types of a Struct's fields; a field may be called like a builtin (``RunRow.bytes``)."""
    # The module's names alone: typing.get_type_hints would take the class's ``bytes = 0`` for the type.
    names = vars(sys.modules[kind.__module__])
    return {field.name: eval(kind.__annotations__[field.name], names, {}) for field in msgspec.structs.fields(kind)}


def _values(python: Any, avro: Any) -> st.SearchStrategy[Any]:
    if python is str:
        return st.text()
    if python is bytes:
        return st.binary()
    if python is bool:
        return st.booleans()
    if python is int:
        return INT if avro == "int" else LONG
    if typing.get_origin(python) is tuple:
        item, *_ = typing.get_args(python)
        if typing.get_origin(item) is tuple:
            return st.lists(st.tuples(st.text(), st.binary()), max_size=4).map(tuple)
        return st.lists(_values(item, avro["items"]), max_size=4).map(tuple)
    if isinstance(python, types.UnionType):
        return st.one_of([_branch(choice, avro) for choice in typing.get_args(python)])
    # What is defined once and named after that; all its copies are the same.
    return structs(python, _defined(python) if isinstance(avro, str) else avro)


def _defined(kind: type[Any]) -> Any:
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
    return load_schema(DEFINED_IN.get(kind.__name__, f"messages/{words}"))


def _branch(choice: Any, avro: list[Any]) -> st.SearchStrategy[Any]:
    if choice is types.NoneType:
        return st.none()
    if choice is bool:
        return st.booleans()
    names = {(branch if isinstance(branch, str) else branch["name"]).rpartition(".")[2]: branch for branch in avro}
    found = names[choice.__name__]
    return structs(choice, _defined(choice) if isinstance(found, str) else found)
