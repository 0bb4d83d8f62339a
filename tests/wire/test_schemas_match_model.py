"""Every schema of ours says the same as its class: fields, order, types, defaults; and explains every one of them."""

from __future__ import annotations

import json
import re
import types
import typing
from typing import Any

import msgspec
import pytest

from millstream.model.commands import LaneMessage
from millstream.model.event import Envelope
from millstream.model.facts import FACTS
from millstream.model.journal import JournalRecord, Position
from millstream.model.messages import InboxRecord, Message, Reply
from millstream.wire.rows import ROWS, schema_name
from millstream.wire.schemas import load_schema, schemas_root
from tests.wire.drawn import field_types

JOURNAL = load_schema("journal/record")
FACT_BRANCHES = next(field for field in JOURNAL["fields"] if field["name"] == "facts")["type"]["items"]
POSITION = next(field for field in JOURNAL["fields"] if field["name"] == "positions")["type"]["items"]


def file_name(kind: type[Any]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


WHOLE: dict[type[Any], Any] = {
    Position: POSITION,
    Envelope: load_schema("messages/event"),
    InboxRecord: load_schema("messages/inbox"),
    Reply: load_schema("messages/reply"),
    **{kind: load_schema(f"messages/{file_name(kind)}") for kind in typing.get_args(Message)},
    **dict(zip(FACTS, FACT_BRANCHES, strict=True)),
    **{row: load_schema(schema_name(row)) for row in ROWS},
}
FILES = [
    path for folder in ("journal", "state", "messages") for path in sorted((schemas_root() / folder).rglob("*.avsc"))
]
PRIMITIVES = {str: "string", bytes: "bytes", bool: "boolean"}


def fits(python: Any, avro: Any, named: dict[str, Any]) -> bool:
    """Whether a field of the class and a field of the schema hold the same values."""
    if isinstance(avro, str) and avro in named:
        avro = named[avro]
    if python is int:
        return avro in ("int", "long")
    if python in PRIMITIVES:
        return bool(avro == PRIMITIVES[python])
    if typing.get_origin(python) is tuple:
        item, *_ = typing.get_args(python)
        if typing.get_origin(item) is tuple:
            return [field["type"] for field in avro["items"]["fields"]] == [
                PRIMITIVES[t] for t in typing.get_args(item)
            ]
        return avro["type"] == "array" and fits(item, avro["items"], named)
    if isinstance(python, types.UnionType):
        choices = [choice for choice in typing.get_args(python) if choice is not types.NoneType]
        null = ["null"] if types.NoneType in typing.get_args(python) else []
        branches = avro[len(null) :]
        return avro[: len(null)] == null and all(fits(c, a, named) for c, a in zip(choices, branches, strict=True))
    return same_fields(python, avro, named)


def same_fields(kind: type[Any], schema: dict[str, Any], named: dict[str, Any]) -> bool:
    named[schema["name"]] = schema
    hints = field_types(kind)
    assert schema["name"].rpartition(".")[2] == kind.__name__
    assert [field["name"] for field in schema["fields"]] == list(hints), kind.__name__
    for field in schema["fields"]:
        assert fits(hints[field["name"]], field["type"], named), (kind.__name__, field["name"], field["type"])
    return True


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.__name__)
def test_a_schema_has_the_fields_of_its_class_in_their_order(kind: type[Any]) -> None:
    assert same_fields(kind, WHOLE[kind], dict(JOURNAL["__named_schemas"]))


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.__name__)
def test_a_default_of_a_class_is_the_default_of_its_schema(kind: type[Any]) -> None:
    avro = {field["name"]: field for field in WHOLE[kind]["fields"]}
    for field in msgspec.structs.fields(kind):
        if field.default is msgspec.NODEFAULT:
            continue
        default = field.default
        if isinstance(default, bytes):
            default = default.decode("latin-1")
        if isinstance(default, tuple):
            default = list(default)
        assert avro[field.name]["default"] == default, f"{kind.__name__}.{field.name}"


def test_the_branches_of_the_journal_are_the_facts_in_their_order() -> None:
    assert [branch["name"] for branch in FACT_BRANCHES] == [f"millstream.journal.{fact.__name__}" for fact in FACTS]


def test_the_journal_record_has_the_fields_that_readers_need() -> None:
    assert {field["name"] for field in JOURNAL["fields"]} == set(JournalRecord.__struct_fields__)


def test_times_and_offsets_are_long() -> None:
    for kind, schema in WHOLE.items():
        for field in schema["fields"]:
            if field["name"].endswith("_ms") or field["name"] in ("offset", "seq", "number"):
                assert field["type"] == "long", f"{kind.__name__}.{field['name']}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_record_and_every_field_is_explained(path: Any) -> None:
    def walk(schema: Any) -> None:
        if isinstance(schema, list):
            for branch in schema:
                walk(branch)
        elif isinstance(schema, dict):
            if schema["type"] == "record":
                assert len(schema["doc"]) > 8, schema["name"]
            for field in schema.get("fields", ()):
                assert len(field["doc"]) > 8, f"{schema['name']}.{field['name']}"
                walk(field["type"])
            walk(schema.get("items"))

    schema = json.loads(path.read_text(encoding="utf-8"))
    assert schema["namespace"] == f"millstream.{path.parent.name}"
    walk(schema)


def test_the_copies_of_a_shared_record_say_the_same() -> None:
    def fields(name: str) -> Any:
        return json.loads((schemas_root() / name).read_text(encoding="utf-8"))["fields"]

    assert fields("state/envelope.avsc") == fields("messages/event.avsc")
    for kind in typing.get_args(LaneMessage):
        assert fields(f"state/{file_name(kind)}.avsc") == fields(f"messages/{file_name(kind)}.avsc")
