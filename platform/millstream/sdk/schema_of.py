"""The Avro schema of a Python type: what a function declares with ``Context[OrderPlaced]``, for the door to check.

    str int float bool None              string long double boolean null
    list set tuple[T, ...]               array          dict[str, T]      map
    X | None                             union          Literal, Enum     enum (of texts)
    datetime date time                   timestamp-millis, date, time-millis      UUID, Decimal, bytes: see below
    dataclass TypedDict Struct …         record, with the class's and its fields' docs where there are some

Decimals have no precision in Python, so they are text; UUIDs are text with their logical type; bytes are bytes. A
field that may be left out and has no default may be null. ``int | float`` is a double. What has no Avro form, ``Any``
for one, is a FunctionError that names the path.

The reverse, Python from a schema file, is in ``cli/operating/schema_types.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import inspect as kinds

from millstream.errors import FunctionError

Avro = dict[str, Any] | list[Any] | str
DEPTH_MAX: Final = 32
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEAVES: Final[dict[type, Avro]] = {
    kinds.StrType: "string",
    kinds.IntType: "long",
    kinds.FloatType: "double",
    kinds.BoolType: "boolean",
    kinds.NoneType: "null",
    kinds.BytesType: "bytes",
    kinds.DecimalType: "string",
    kinds.UUIDType: {"type": "string", "logicalType": "uuid"},
    kinds.DateTimeType: {"type": "long", "logicalType": "timestamp-millis"},
    kinds.DateType: {"type": "int", "logicalType": "date"},
    kinds.TimeType: {"type": "int", "logicalType": "time-millis"},
}
_RECORDS: Final = (kinds.StructType, kinds.DataclassType, kinds.TypedDictType, kinds.NamedTupleType)
_ARRAYS: Final = (kinds.ListType, kinds.SetType, kinds.FrozenSetType, kinds.VarTupleType, kinds.CollectionType)


def schema_of(wanted: object, *, namespace: str = "") -> dict[str, Any]:
    """The schema of a structured type, as JSON. Raises FunctionError naming the path of what has no Avro form."""
    fields = getattr(wanted, "model_fields", None)
    if fields is not None:  # A pydantic model: a plain class with the same annotations stands for it.
        wanted = _class_of_model(wanted)
    try:
        kind = kinds.type_info(wanted)
    except (TypeError, NameError) as error:
        raise FunctionError(f"no schema for {wanted!r}: expected a class of typed fields, got {error}.") from error
    if not isinstance(kind, _RECORDS):
        raise FunctionError(f"no schema for {wanted!r}: expected a dataclass, TypedDict, Struct or pydantic model.")
    schema = _SchemaBuilder(namespace).of(kind, "", 1)
    assert isinstance(schema, dict)
    return schema


class _SchemaBuilder:
    """One schema under way: a record is written out where it is met first, and named after that."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._known: dict[str, object] = {}  # What each name stands for: a class, or an enum's symbols.
        self._written: set[object] = set()  # The classes that have been written out.

    def of(self, kind: kinds.Type, path: str, depth: int) -> Avro:
        if depth > DEPTH_MAX:
            raise FunctionError(f"no schema at {path}: expected types inside each other at most {DEPTH_MAX} deep.")
        leaf = _LEAVES.get(type(kind))
        if leaf is not None:
            return leaf
        if isinstance(kind, _RECORDS):
            return self._record(kind, path, depth)
        if isinstance(kind, _ARRAYS):
            return {"type": "array", "items": self.of(kind.item_type, f"{path}[]", depth + 1)}
        if isinstance(kind, kinds.DictType):
            if not isinstance(kind.key_type, kinds.StrType):
                raise FunctionError(f"no schema at {path}: expected the keys of an object to be str.")
            return {"type": "map", "values": self.of(kind.value_type, f"{path}{{}}", depth + 1)}
        if isinstance(kind, (kinds.LiteralType, kinds.EnumType)):
            return self._enum(kind, path)
        if isinstance(kind, kinds.UnionType):
            return self._union(kind, path, depth)
        raise FunctionError(
            f"no schema at {path or 'the top'}: {type(kind).__name__.removesuffix('Type')} has no Avro form. Say what "
            "it is: a class, list[T], dict[str, T], or one of the types that docs/how-to/schemas.md lists."
        )

    def _record(self, kind: Any, path: str, depth: int) -> Avro:
        cls = kind.cls
        name = cls.__name__
        if self._known.setdefault(name, cls) is not cls:
            raise FunctionError(f"no schema at {path}: two classes are called {name!r}. Rename one.")
        if cls in self._written:
            return self._full(name)
        self._written.add(cls)
        fields = []
        for field in kind.fields:
            avro = self.of(field.type, f"{path}.{field.name}".lstrip("."), depth + 1)
            if not field.required and not isinstance(avro, list) and not _default(field, avro):
                avro = ["null", avro]  # It may be left out, and Avro has only defaults to say that with.
            fields.append({"name": _checked(_name_of(field)), "type": avro, **_default(field, avro)})
        record = {"type": "record", "name": self._full(name), "fields": fields}
        doc = (cls.__doc__ or "").strip()
        if doc and not doc.startswith(f"{name}("):  # A dataclass without a docstring has its signature there.
            record["doc"] = doc.splitlines()[0]
        return record

    def _union(self, kind: kinds.UnionType, path: str, depth: int) -> Avro:
        branches = [self.of(each, path, depth + 1) for each in kind.types]
        branches.sort(key=lambda branch: branch != "null")  # null first: then null can be the default.
        if "double" in branches and "long" in branches:
            branches.remove("long")  # Every whole number is a double to JSON's readers.
        return branches[0] if len(branches) == 1 else branches

    def _enum(self, kind: Any, path: str) -> Avro:
        values = [each.value for each in kind.cls] if isinstance(kind, kinds.EnumType) else list(kind.values)
        if not all(isinstance(value, str) and _NAME.fullmatch(value) for value in values):
            if all(isinstance(value, str) for value in values):
                return "string"  # Avro's symbols are names; these texts are none.
            if all(isinstance(value, int) for value in values):
                return "long"
            raise FunctionError(f"no schema at {path}: expected texts to choose from, got {values[:4]!r}.")
        name = kind.cls.__name__ if isinstance(kind, kinds.EnumType) else "_".join(["Choice", *path.split(".")])
        name = re.sub(r"[^A-Za-z0-9_]", "", name)
        if self._known.get(name) == values:
            return self._full(name)
        self._known[name] = values
        return {"type": "enum", "name": self._full(name), "symbols": values}

    def _full(self, name: str) -> str:
        return f"{self._namespace}.{name}" if self._namespace else name


def _name_of(field: Any) -> str:
    name = getattr(field, "encode_name", field.name)
    assert isinstance(name, str)
    return name


def _default(field: Any, avro: Avro) -> dict[str, Any]:
    """The field's default as Avro has it, where there is one that Avro can have."""
    default = getattr(field, "default", msgspec.NODEFAULT)
    factory: Callable[[], object] | Any = getattr(field, "default_factory", msgspec.NODEFAULT)
    if default is msgspec.NODEFAULT and callable(factory):
        default = factory()
    if default is msgspec.NODEFAULT:
        return {"default": None} if not field.required and _takes_null(avro) else {}
    if default is None:
        return {"default": None} if _takes_null(avro) else {}
    json_default = msgspec.to_builtins(default)
    fits = isinstance(json_default, (str, int, float, bool)) or json_default in ([], {})
    return {"default": json_default} if fits and not isinstance(avro, list) else {}


def _takes_null(avro: Avro) -> bool:
    return avro == "null" or (isinstance(avro, list) and avro[0] == "null")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise FunctionError(f"no schema for field {name!r}: expected letters, digits and _ (Avro's rule). Rename it.")
    return name


def _class_of_model(model: Any) -> object:
    hints: Mapping[str, Any] = {name: field.annotation for name, field in model.model_fields.items()}
    fields: list[Any] = []
    for name, field in model.model_fields.items():
        if field.is_required():
            fields.append((name, hints[name]))
        else:
            fields.append((name, hints[name], field.get_default(call_default_factory=True)))
    return msgspec.defstruct(model.__name__, fields, kw_only=True)
