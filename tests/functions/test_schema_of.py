"""Does a Python type's schema say what the type says, and the way back, too?"""

from __future__ import annotations

import enum
import json
import sys
import types
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, TypedDict
from uuid import UUID

import fastavro
import msgspec
import pytest

from millstream.cli.operating.schema_types import python_of
from millstream.errors import FunctionError
from millstream.sdk.schema_of import schema_of
from millstream.wire.avro import compile_check
from millstream.wire.schemas import EventSchemas, schemas_root


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Item:
    sku: str
    quantity: int = 1


@dataclass
class Order:
    """A customer has ordered."""

    id: str
    items: list[Item]
    best: Item | None = None
    currency: Literal["CHF", "EUR"] = "CHF"
    colour: Colour = Colour.RED
    labels: dict[str, str] = field(default_factory=dict)
    at: datetime | None = None


class Everything(msgspec.Struct):
    a: int
    b: float
    c: bool
    d: bytes
    e: Decimal
    f: UUID
    g: date
    h: int | float
    i: tuple[int, ...]
    j: None


class Partly(TypedDict, total=False):
    name: str


@dataclass
class Tree:
    branches: list[Tree]


def fits(schema: dict[str, Any], value: Any) -> bool:
    return compile_check(fastavro.parse_schema(schema))(value) is None


def test_a_class_of_typed_fields_is_a_record() -> None:
    schema = schema_of(Order, namespace="shop")
    assert schema["name"] == "shop.Order" and schema["doc"] == "A customer has ordered."
    by_name = {each["name"]: each for each in schema["fields"]}
    assert by_name["best"] == {"name": "best", "type": ["null", "shop.Item"], "default": None}
    assert by_name["labels"]["default"] == {} and by_name["currency"]["default"] == "CHF"
    assert fits(schema, {"id": "1", "items": [{"sku": "pen"}]})
    assert not fits(schema, {"id": 1, "items": []})
    assert not fits(schema, {"id": "1", "items": [], "currency": "USD"})


def test_every_plain_type_has_its_avro_form() -> None:
    made = {each["name"]: each["type"] for each in schema_of(Everything)["fields"]}
    assert made["a"] == "long" and made["b"] == made["h"] == "double" and made["e"] == "string"
    assert made["f"]["logicalType"] == "uuid" and made["g"]["logicalType"] == "date"
    assert made["i"] == {"type": "array", "items": "long"} and made["j"] == "null"


def test_what_may_be_left_out_may_be_null() -> None:
    assert schema_of(Partly)["fields"] == [{"name": "name", "type": ["null", "string"], "default": None}]


def test_a_type_inside_itself_is_written_once() -> None:
    schema = schema_of(Tree)
    assert fits(schema, {"branches": [{"branches": []}]})


@pytest.mark.parametrize("annotation", [Any, dict[int, str], complex])
def test_what_has_no_avro_form_is_named_with_its_path(annotation: Any) -> None:
    inner = msgspec.defstruct("Inner", [("bad", annotation)])
    with pytest.raises(FunctionError, match=r"inner\.bad|Inner"):
        schema_of(msgspec.defstruct("Outer", [("inner", inner)]))


def test_a_plain_type_is_no_event() -> None:
    with pytest.raises(FunctionError, match="dataclass"):
        schema_of(int)


@pytest.mark.parametrize("name", EventSchemas.from_directories([schemas_root() / "events"]).names)
def test_python_made_of_a_schema_takes_what_the_schema_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = EventSchemas.from_directories([schemas_root() / "events"]).get(name)
    assert schema is not None
    text = python_of(schema.avro, schema.file)
    made = types.ModuleType("made")
    monkeypatch.setitem(sys.modules, "made", made)
    exec(compile(text, "made.py", "exec"), made.__dict__)
    cls = getattr(made, schema.avro["name"].rpartition(".")[2])
    required = [each for each in schema.avro["fields"] if "default" not in each]
    sample = {each["name"]: json.loads(_sample(each["type"])) for each in required}
    assert schema.problem(sample) is None
    assert msgspec.convert(sample, cls) is not None


def _sample(avro: Any) -> str:
    if isinstance(avro, list):
        return _sample(avro[0])
    kind = avro["type"] if isinstance(avro, dict) else avro
    if kind == "enum":
        return json.dumps(avro["symbols"][0])
    return {"string": '"x"', "long": "1", "int": "1", "double": "1.5", "boolean": "true", "array": "[]", "map": "{}"}[
        kind
    ]
