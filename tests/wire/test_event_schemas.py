"""Is an event's data checked against its schema, and does the message help who sent it?

A hypothesis strategy draws a schema, data that fits it, and one corruption with its path: whatever the schema, the data
must pass and the corruption must be reported exactly there.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import fastavro.validation
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import ConfigError, SchemaViolation
from millstream.wire.avro import DEPTH_MAX, PATH_CHARS_MAX, compile_check, path_text
from millstream.wire.schemas import EventSchemas, schemas_root

EXAMPLES = EventSchemas.from_directories([schemas_root() / "events"])
ORDER: dict[str, Any] = {
    "order_id": "A-1",
    "customer_id": "c-9",
    "currency": "CHF",
    "amount_cents": 4250,
    "items": [{"sku": "pen", "quantity": 1, "amount_cents": 1250}] * 3,
}


def record(*fields: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Data", "fields": list(fields)} | properties


def field(avro: Any, name: str = "x", **properties: Any) -> dict[str, Any]:
    return {"name": name, "type": avro, **properties}


def problem_of(avro: Any, value: Any) -> str:
    problem = compile_check(fastavro.parse_schema(record(field(avro))))({"x": value})
    return "" if problem is None else str(problem)


def schemas_in(folder: Path, **files: Any) -> EventSchemas:
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.avsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return EventSchemas.from_directories([folder])


# --- the message ---


def test_the_message_names_event_version_field_expectation_value_and_what_to_do() -> None:
    items = [*ORDER["items"][:2], {**ORDER["items"][0], "amount_cents": "12.50"}]
    with pytest.raises(SchemaViolation) as refusal:
        EXAMPLES.check("order/placed", {**ORDER, "items": items})
    assert str(refusal.value) == (
        "event 'order/placed' refused by schema version 1: field 'items[2].amount_cents' must be long, got '12.50'. "
        "Fix the producer, or change the schema in order/placed.avsc."
    )


def test_a_missing_field_is_named_with_what_it_should_be() -> None:
    with pytest.raises(
        SchemaViolation, match=r"field 'order_id' is missing: must be string, and the schema has no def"
    ):
        EXAMPLES.check("order/placed", {key: value for key, value in ORDER.items() if key != "order_id"})


def test_an_unknown_field_is_refused_only_where_the_record_says_so() -> None:
    address = {"street": "Rain 1", "city": "Aarau", "postcode": "5000", "country": "CH"}
    EXAMPLES.check("order/placed", {**ORDER, "shipping": address, "unheard_of": 1})
    with pytest.raises(
        SchemaViolation, match=r"field 'shipping\.floor' is unknown: .*\(street, city, postcode, country"
    ):
        EXAMPLES.check("order/placed", {**ORDER, "shipping": {**address, "floor": 3}})


def test_the_top_record_forbids_unknown_fields_in_all_that_do_not_say_otherwise() -> None:
    def inner(**properties: Any) -> Any:
        return {**record(field("int", "a"), **properties), "name": "Inner"}

    closed = compile_check(fastavro.parse_schema(record(field(inner()), additionalFields=False)))
    opened = compile_check(fastavro.parse_schema(record(field(inner(additionalFields=True)), additionalFields=False)))
    data = {"x": {"a": 1, "b": 2}}
    problem = closed(data)
    assert problem is not None
    assert problem.path == ("x", "b")
    assert opened(data) is None


def test_an_event_without_a_schema_passes() -> None:
    EXAMPLES.check("order/unheard.of", {"anything": object()})
    EventSchemas().check("order/placed", {})


def test_the_largest_garbage_gets_a_short_message(tmp_path: Path) -> None:
    long_name = "y" * 5_000
    nested: Any = {"type": "map", "values": {"type": "map", "values": {"type": "map", "values": "int"}}}
    symbols = [f"S{long_name}{number}" for number in range(50)]
    enum = record(field({"type": "enum", "name": "E", "symbols": symbols}))
    schemas = schemas_in(tmp_path, big=record(field(nested)), enum=enum)
    for name, data in (("big", {"x": {long_name: {long_name: {"é" * 9_000: long_name}}}}), ("enum", {"x": long_name})):
        with pytest.raises(SchemaViolation) as refusal:
            schemas.check(name, data)
        assert len(str(refusal.value)) <= 1_500
    assert len(path_text(("a" * 50,) * 1_000)) <= PATH_CHARS_MAX + 1


# --- what JSON stands for what type ---


@pytest.mark.parametrize(
    ("avro", "good", "bad"),
    [
        ("null", [None], [0, "", False]),
        ("boolean", [True, False], [0, "true", None]),
        ("int", [0, 2**31 - 1, -(2**31)], [2**31, -(2**31) - 1, 1.0, True, "1"]),
        ("long", [2**63 - 1, -(2**63)], [2**63, 10**5_000, 1.5, False]),
        ("float", [1, 1.5, 3.4e38], [3.5e38, "1", True]),
        ("double", [1, 1.5, -1e308], [float("nan"), float("inf"), 10**400, True, "1"]),
        ("string", ["", "é"], [1, None, b"x"]),
        ("bytes", ["", "\x00\xff"], ["\u0100", 1, []]),
        ({"type": "fixed", "name": "F", "size": 2}, ["ab"], ["a", "abc", "a\u0100", 12]),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, ["A"], ["C", 0, None, []]),
        ({"type": "array", "items": "int"}, [[], [1], (1, 2)], [{}, "1", None]),
        ({"type": "map", "values": "int"}, [{}, {"a b": 1}], [[], {"a": "1"}, {1: 1}]),
        (["null", "int", "string"], [None, 1, "a"], [1.5, True, []]),
        (
            {"type": "long", "logicalType": "timestamp-millis"},
            [0, "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+02:00"],
            ["2026-01-31T12:00:00", "2026-13-01T00:00:00Z", "now", 1.5, "9" * 10_000],
        ),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, [1, "2026-01-31T12:00:00"], ["2026-01-31T12:00Z"]),
        ({"type": "int", "logicalType": "date"}, [0, "2026-01-31"], ["2026-02-30", "2026-01-31T12:00:00Z", 2**31]),
        ({"type": "int", "logicalType": "time-millis"}, [0, "23:59:59.5"], ["24:00:01", 86_400_000, -1, True]),
        ({"type": "long", "logicalType": "time-micros"}, [86_399_999_999, "00:00"], [86_400_000_000, "noon"]),
        (
            {"type": "string", "logicalType": "uuid"},
            ["0190a6c4-98f3-7c4b-8d7c-5f3e2a1b0c9d"],
            ["0190a6c498f37c4b8d7c5f3e2a1b0c9d", "", 1],
        ),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
            ["12.50", "-99.99", "007", 99, -99, "0.5"],
            [12.5, "100.00", 100, "1.234", "1e2", "", "٣", True],
        ),
        ({"type": "string", "logicalType": "unheard-of"}, ["a"], [1]),
    ],
    ids=lambda case: json.dumps(case)[:50] if isinstance(case, dict | str) else "",
)
def test_a_type_takes_its_json_forms_and_no_others(avro: Any, good: list[Any], bad: list[Any]) -> None:
    assert [(value, problem) for value in good if (problem := problem_of(avro, value))] == []
    for value in bad:
        assert problem_of(avro, value).startswith("field 'x"), f"{str(value)[:80]} was taken as {avro}"


def test_a_field_with_a_default_may_be_left_out_and_the_data_stays_as_it_was_sent() -> None:
    check = compile_check(fastavro.parse_schema(record(field("string", default="none"))))
    data: dict[str, Any] = {}
    assert check(data) is None
    assert data == {}


def test_a_nullable_field_without_a_default_is_required() -> None:
    problem = compile_check(fastavro.parse_schema(record(field(["null", "int"]))))({})
    assert str(problem) == "field 'x' is missing: must be null or int, and the schema has no default for it"


def test_a_union_reports_the_branch_that_fitted_furthest() -> None:
    branch = {"type": "record", "name": "Branch", "fields": [field({"type": "array", "items": "int"}, "numbers")]}
    assert problem_of(["null", "string", branch], {"numbers": [1, "2"]}) == "field 'x.numbers[1]' must be int, got '2'"
    assert problem_of(["null", "string", branch], 7) == "field 'x' must be null, string or an object (Branch), got 7"


def test_a_record_may_contain_itself_up_to_the_limit_of_depth() -> None:
    tree = record(field(["null", "Data"], "next", default=None))
    check = compile_check(fastavro.parse_schema(tree))

    def nested(depth: int) -> dict[str, Any]:
        return {} if depth == 1 else {"next": nested(depth - 1)}

    assert check(nested(DEPTH_MAX)) is None
    problem = check(nested(DEPTH_MAX + 1))
    assert problem is not None
    assert str(problem).startswith(f"the data is nested too deep: must be at most {DEPTH_MAX}")


def test_unions_of_records_inside_each_other_cannot_make_a_check_run_long() -> None:
    one = {"type": "record", "name": "One", "fields": [field(["null", "Data", "One"], "next")]}
    check = compile_check(fastavro.parse_schema(record(field(["null", "Data", one], "next"))))
    data: dict[str, Any] = {"next": "wrong"}
    for _ in range(40):
        data = {"next": data}
    problem = check(data)
    assert problem is not None
    assert "is too much to check: more than 1000 objects" in str(problem)


# --- whatever the schema ---


@dataclass(frozen=True)
class Drawn:
    """A schema, a value that fits, the JSON kinds it takes, and where what else may be put to spoil it."""

    schema: Any
    value: Any
    kinds: frozenset[str]
    spoilt: tuple[tuple[tuple[str | int, ...], Any], ...] = ()


REMOVED = object()
WRONG = {"null": None, "boolean": True, "text": "\u0100", "array": [[None]], "object": {"1": [None]}}
LEAVES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "null": ("null", st.none()),
    "boolean": ("boolean", st.booleans()),
    "int": ("number", st.integers(-(2**31), 2**31 - 1)),
    "long": ("number", st.integers(-(2**63), 2**63 - 1)),
    "double": ("number", st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)),
    "string": ("text", st.text(max_size=5)),
}


@st.composite
def drawn(draw: st.DrawFn, depth: int = 0) -> Drawn:
    kinds = ["leaf", "enum"] + (["array", "map", "record", "union"] if depth < 3 else [])
    match draw(st.sampled_from(kinds)):
        case "leaf":
            name = draw(st.sampled_from(sorted(LEAVES)))
            return Drawn(name, draw(LEAVES[name][1]), frozenset({LEAVES[name][0]}))
        case "enum":
            name = f"E{draw(st.uuids()).hex}"
            return Drawn({"type": "enum", "name": name, "symbols": ["A", "B"]}, "B", frozenset({"text"}))
        case "array":
            inside = draw(drawn(depth=depth + 1))
            length = draw(st.integers(1, 3))
            at = draw(st.integers(0, length - 1))
            return wrap({"type": "array", "items": inside.schema}, [inside.value] * length, "array", [(at, inside)])
        case "map":
            inside = draw(drawn(depth=depth + 1))
            key = draw(st.text(max_size=5))
            return wrap({"type": "map", "values": inside.schema}, {key: inside.value}, "object", [(key, inside)])
        case "record":
            return draw(drawn_record(depth))
        case _:
            return draw(drawn_union(depth))


@st.composite
def drawn_record(draw: st.DrawFn, depth: int = 0) -> Drawn:
    names = draw(st.lists(st.from_regex(r"[a-z_]{1,4}", fullmatch=True), min_size=1, max_size=4, unique=True))
    fields = [(name, draw(drawn(depth=depth + 1))) for name in names]
    schema = record(*(field(inside.schema, name) for name, inside in fields), name=f"R{draw(st.uuids()).hex}")
    return wrap(schema, {name: inside.value for name, inside in fields}, "object", fields)


@st.composite
def drawn_union(draw: st.DrawFn, depth: int) -> Drawn:
    # One branch for each JSON kind: with two, a value that spoils one may fit the other.
    branches: list[Drawn] = []
    for branch in draw(st.lists(drawn(depth=depth + 1), min_size=1, max_size=4)):
        if not isinstance(branch.schema, list) and not any(branch.kinds & other.kinds for other in branches):
            branches.append(branch)
    if not branches:
        branches = [Drawn("null", None, frozenset({"null"}))]
    chosen = draw(st.sampled_from(branches))
    kinds = frozenset().union(*(branch.kinds for branch in branches))
    return Drawn([branch.schema for branch in branches], chosen.value, kinds, chosen.spoilt)


def wrap(schema: Any, value: Any, kind: str, insides: list[Any]) -> Drawn:
    """A container, with the ways to spoil each inside: another kind there, something deeper, or a field left out."""
    spoilt: list[tuple[tuple[str | int, ...], Any]] = []
    for segment, inside in insides:
        spoilt += [((segment,), wrong) for name, wrong in WRONG.items() if name not in inside.kinds]
        spoilt += [((segment, *path), wrong) for path, wrong in inside.spoilt]
        if schema["type"] == "record":
            spoilt.append(((segment,), REMOVED))
    return Drawn(schema, value, frozenset({kind}), tuple(spoilt))


def put(value: Any, path: tuple[str | int, ...], wrong: Any) -> Any:
    changed = copy.deepcopy(value)
    at = changed
    for segment in path[:-1]:
        at[segment] = at = copy.copy(at[segment])
    if wrong is REMOVED:
        del at[path[-1]]
    else:
        at[path[-1]] = wrong
    return changed


@given(drawn_record(), st.data())
def test_data_made_from_a_schema_passes_and_one_corruption_is_reported_at_its_path(drawn: Drawn, data: Any) -> None:
    check = compile_check(fastavro.parse_schema(drawn.schema))
    assert check(drawn.value) is None
    assert fastavro.validation.validate(drawn.value, drawn.schema)  # Another's opinion.
    path, wrong = data.draw(st.sampled_from(drawn.spoilt))
    corrupted = put(drawn.value, path, wrong)
    before = copy.deepcopy(corrupted)
    problem = check(corrupted)
    assert problem is not None
    assert problem.path == path
    assert corrupted == before


# --- files ---


def test_the_path_under_the_folder_is_the_name_and_dots_stay(tmp_path: Path) -> None:
    assert EXAMPLES.names == ("blog/post.viewed", "contact/message.received", "order/placed")
    schemas = schemas_in(tmp_path, signup=record(), deep__er__a=record(version="2b"))
    assert schemas.names == ("deep/er/a", "signup")
    found = schemas.get("deep/er/a")
    assert found is not None
    assert (found.version, found.file) == ("2b", "deep/er/a.avsc")
    assert schemas.get("../signup") is None


def test_what_the_examples_send_fits_their_schemas() -> None:
    EXAMPLES.check("contact/message.received", {"name": "Ada", "email": "ada@example.com", "text": "Hello"})
    EXAMPLES.check("blog/post.viewed", {"post": "hello-world"})
    EXAMPLES.check("order/placed", ORDER)


def test_every_field_of_the_examples_says_what_it_is() -> None:
    def undocumented(schema: Any) -> list[str]:
        match schema:
            case list():
                return [name for branch in schema for name in undocumented(branch)]
            case {"fields": list(fields)}:
                missing = [each["name"] for each in fields if not each.get("doc")]
                return missing + [name for each in fields for name in undocumented(each["type"])]
            case {"items": inside} | {"values": inside}:
                return undocumented(inside)
            case _:
                return []

    for name in EXAMPLES.names:
        found = EXAMPLES.get(name)
        assert found is not None
        assert undocumented(found.avro) == []


def test_files_use_each_others_types_in_any_order_and_the_result_needs_no_other_file(tmp_path: Path) -> None:
    money = record(field("long", "cents"), field("Unit", "unit"), name="Money", namespace="shop")
    unit = {"type": "enum", "name": "shop.Unit", "symbols": ["CHF"]}
    bill = {
        **record(field("shop.Money", "a"), field("shop.Money", "b"), field(["null", "shop.Unit"], "c", default=None))
    }
    schemas = schemas_in(tmp_path, a__bill=bill, types__money=money, z=record(field(unit, "unit")))
    schemas.check("a/bill", {"a": {"cents": 1, "unit": "CHF"}, "b": {"cents": 1, "unit": "CHF"}})
    with pytest.raises(SchemaViolation, match=r"field 'b\.unit' must be one of 'CHF', got 'EUR'"):
        schemas.check("a/bill", {"a": {"cents": 1, "unit": "CHF"}, "b": {"cents": 1, "unit": "EUR"}})
    found = schemas.get("a/bill")
    assert found is not None
    alone = {key: value for key, value in found.avro.items() if not key.startswith("__")}
    assert fastavro.parse_schema(alone) is not None


def test_two_files_may_use_one_name_for_types_of_their_own(tmp_path: Path) -> None:
    schemas = schemas_in(tmp_path, a=record(field("int")), b=record(field("string")))
    schemas.check("a", {"x": 1})
    schemas.check("b", {"x": "1"})
    with pytest.raises(ConfigError, match=r"c\.avsc refused: .* the type 'Data', which a\.avsc and b\.avsc define"):
        schemas_in(tmp_path, c={**record(field("Data")), "name": "Other"})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "text that is not JSON"),
        ("[" * 100_000, "text that is not JSON"),
        ('"string"', "a schema of type 'str', but an event's data is a record"),
        (["null", record()], "a schema of type 'list'"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "a schema of type 'enum'"),
        (record(field("Money")), "the type 'Money', which neither Avro nor a file here defines"),
        (record({"name": "x"}), "missing 'type'"),
        ({"type": "record", "fields": []}, "a part without 'name'"),
        (record(field({"type": "array"})), "a part without 'items'"),
        (record(field(7)), "7 where a type is expected"),
        (record(field("int", "a-b")), "the field name 'a-b' of Data is not an Avro name"),
        (record(field("int"), field("int")), "Data has two fields named 'x'"),
        (record(field("int", default="1")), "Default value <1>"),
        (
            record(field({"type": "enum", "name": "E", "symbols": ["A"]}, default="B")),
            "default of field 'x' of Data must",
        ),
        (
            record(field({"type": "array", "items": "int"}, default=["1"])),
            "default of field 'x' of Data at '[0]' must be int",
        ),
        (record(field({"type": "bytes", "logicalType": "decimal"})), "a decimal needs a precision"),
        (record(field({"type": "fixed", "name": "F", "size": -1})), "the size of a fixed"),
        (record(additionalFields="no"), "'additionalFields' must be true or false, got 'no'"),
        (record(version=[1]), "'version' must be a number"),
        (record(field(record())), "a second definition of the type 'Data'"),
    ],
    ids=lambda case: case[:40] if isinstance(case, str) else "",
)
def test_a_file_that_is_no_event_schema_is_refused_by_name_and_with_the_reason(
    tmp_path: Path, content: Any, reason: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        schemas_in(tmp_path, order__wrong=content)
    assert f"schema file {tmp_path / 'order/wrong.avsc'} refused" in str(refusal.value)
    assert reason in str(refusal.value)
    assert len(str(refusal.value)) < 1_000


def test_types_inside_each_other_without_end_are_refused(tmp_path: Path) -> None:
    avro: Any = "int"
    for _ in range(200):
        avro = {"type": "array", "items": avro}
    with pytest.raises(ConfigError, match="types inside each other more than 64 deep"):
        schemas_in(tmp_path, deep=record(field(avro)))


def test_an_event_with_schemas_in_two_folders_is_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        schemas_in(tmp_path / folder, signup=record())
    with pytest.raises(ConfigError, match=r"event 'signup' has two schemas: expected one, got .*one.* and .*two"):
        EventSchemas.from_directories([tmp_path / "one", tmp_path / "two"])


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder of event schemas"):
        EventSchemas.from_directories([tmp_path / "nowhere"])


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"more than 1,048,576"):
        schemas_in(tmp_path, huge=" " * (1024 * 1024 + 1))
