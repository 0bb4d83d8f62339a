"""Is every Avro value read as another library writes it, and can no bytes make the reader run away?"""

from __future__ import annotations

import io
import json
import time
import tracemalloc
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.errors import Corruption
from millstream.wire.formats.avro_value import DEPTH_MAX, json_object, value_reader
from millstream.wire.schema_files import standing_alone

DEEP = 5_000
NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
TREE = {"type": "record", "name": "Tree", "fields": [{"name": "kids", "type": {"type": "array", "items": "Tree"}}]}
ENDLESS = {"type": "record", "name": "Endless", "fields": [{"name": "a", "type": "Endless"}]}
TWICE = {"type": "record", "name": "Twice", "fields": [{"name": f, "type": "Twice"} for f in "ab"]}
DICTIONARY = {"type": "record", "name": "D", "fields": [{"name": "m", "type": {"type": "map", "values": "D"}}]}
SENSELESS = (3160493589).to_bytes(5, "big").decode("latin-1")
EMPTY = {"type": "record", "name": "Empty", "fields": []}


def read(schema: Any, data: bytes, *references: Any) -> Any:
    return value_reader(json.dumps(schema), map(json.dumps, references))(data)


def written(schema: Any, value: Any) -> bytes:
    target = io.BytesIO()
    fastavro.schemaless_writer(target, fastavro.parse_schema(schema), value)
    return target.getvalue()


def record(**fields: Any) -> Any:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}


class TestBombs:
    """The bytes come from anybody: depth and counts are looked at before anything is made."""

    @pytest.mark.parametrize(
        ("schema", "data"),
        [
            (NODE, b"\x02" * DEEP + b"\x00"),
            (TREE, b"\x02" * DEEP + b"\x00" * (DEEP + 1)),
            (DICTIONARY, b"\x02\x02k" * DEEP + b"\x00" * (DEEP + 1)),
            (ENDLESS, b""),
            (TWICE, b""),
        ],
        ids=["records", "arrays", "maps", "without-bytes", "without-bytes-twice"],
    )
    def test_a_recursive_value_is_refused_at_its_depth(self, schema: Any, data: bytes) -> None:
        with pytest.raises(Corruption, match=f"more than {DEPTH_MAX} deep"):
            read(schema, data)

    @pytest.mark.parametrize(
        "items", ["null", EMPTY, {"type": "fixed", "name": "F", "size": 0}, record(a="null", b="null")]
    )
    @pytest.mark.parametrize("count", [10**9, -(10**9), 2**62, -(2**63)])
    def test_four_bytes_that_ask_for_a_billion_items_are_refused_before_one_is_made(
        self, items: Any, count: int
    ) -> None:
        data = written("long", count) + (b"\x00" if count < 0 else b"") + b"\x00"
        tracemalloc.start()
        begun = time.monotonic()
        with pytest.raises(Corruption, match="fields and items"):
            read({"type": "array", "items": items}, data)
        assert time.monotonic() - begun < 1
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()

    def test_many_small_blocks_count_together(self) -> None:
        blocks = written("long", 400_000) * 3 + b"\x00"
        with pytest.raises(Corruption, match="fields and items"):
            read({"type": "array", "items": "null"}, blocks)

    @pytest.mark.parametrize("kind", ["string", "bytes"])
    @pytest.mark.parametrize("length", [-1, 2**40, 2**62])
    def test_a_length_beyond_the_bytes_is_refused(self, kind: str, length: int) -> None:
        with pytest.raises(Corruption, match="does not fit its schema"):
            read(kind, written("long", length) + b"x")


class TestStrictness:
    @pytest.mark.parametrize(
        ("schema", "data"),
        [
            (["null", "int"], b"\x04"),
            (["null", "int"], b"\x01"),  # Branch −1: a list in Python has one.
            ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02"),
            ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x01"),
            ("boolean", b"\x02"),
            ("int", written("long", 2**31)),
            ("string", b"\x02\xff"),
            ("double", b"\x00" * 7),
            ({"type": "fixed", "name": "F", "size": 4}, b"\x00" * 3),
            ("long", b"\xff" * 11),
        ],
    )
    def test_bytes_that_no_writer_writes_are_refused(self, schema: Any, data: bytes) -> None:
        with pytest.raises(Corruption, match="does not fit its schema"):
            read(schema, data)

    @pytest.mark.parametrize("default", [None, "seven", [], 2**70])
    def test_a_default_that_does_not_fit_says_nothing_against_a_value(self, default: Any) -> None:
        schema = record(id="int", note="string")
        schema["fields"][1]["default"] = default
        assert read(schema, b"\x02\x04hi") == {"id": 1, "note": "hi"}

    @pytest.mark.parametrize(
        ("logical", "shown"),
        [
            ({"logicalType": "decimal", "precision": 4, "scale": 2}, "31604935.89"),
            ({"logicalType": "decimal", "precision": 20}, "3160493589"),
            ({"logicalType": "decimal", "precision": 40, "scale": 12}, "0.003160493589"),
            ({"logicalType": "decimal", "precision": 2, "scale": 4}, SENSELESS),
            ({"logicalType": "decimal"}, SENSELESS),
            ({"logicalType": "no-such-type"}, SENSELESS),
        ],
    )
    def test_a_decimal_keeps_every_digit_and_a_senseless_one_is_bytes(self, logical: Any, shown: str) -> None:
        data = b"\x0a" + (3160493589).to_bytes(5, "big")
        assert read({"type": "bytes", **logical}, data) == shown

    @pytest.mark.parametrize(("whole", "shown"), [(-5, "-0.05"), (0, "0.00"), (-12345, "-123.45"), (100, "1.00")])
    def test_decimals_in_fixed_bytes_have_a_sign_and_their_zeros(self, whole: int, shown: str) -> None:
        kind = {"type": "fixed", "name": "F", "size": 8, "logicalType": "decimal", "precision": 9, "scale": 2}
        assert read(kind, whole.to_bytes(8, "big", signed=True)) == shown

    def test_a_decimal_of_a_megabyte_is_refused_and_not_written_out(self) -> None:
        kind = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
        with pytest.raises(Corruption, match="digits"):
            read(kind, written("bytes", b"\x7f" * 1_000_000))
        with pytest.raises(Corruption, match="scale"):
            read({**kind, "precision": 10**9, "scale": 10**9}, b"\x02\x01")

    @pytest.mark.parametrize(("value", "shown"), [("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")])
    def test_what_json_has_no_number_for_is_text(self, value: str, shown: str) -> None:
        data = read({"type": "array", "items": "double"}, written({"type": "array", "items": "double"}, [float(value)]))
        assert data == [shown]
        assert json.loads(json_object(data)) == {"value": [shown]}


class TestReferences:
    MONEY = {"type": "record", "name": "Money", "namespace": "shop", "fields": [{"name": "cents", "type": "long"}]}
    CART = {
        "type": "record",
        "name": "Cart",
        "namespace": "shop",
        "fields": [{"name": "total", "type": "Money"}, {"name": "fee", "type": "shop.Money"}],
    }
    ORDER = {
        "type": "record",
        "name": "Order",
        "namespace": "acme",
        "fields": [{"name": "id", "type": "int"}, {"name": "cart", "type": ["null", "shop.Cart"]}],
    }

    def test_a_schema_is_read_with_the_schemas_it_refers_to(self) -> None:
        expected = {"id": 1, "cart": {"total": {"cents": 7}, "fee": {"cents": 2}}}
        assert read(self.ORDER, b"\x02\x02\x0e\x04", self.MONEY, self.CART) == expected

    def test_the_door_checks_by_one_schema_that_has_them_all(self) -> None:
        alone = standing_alone(*(json.dumps(self.ORDER), map(json.dumps, (self.MONEY, self.CART))))
        parsed = fastavro.parse_schema(json.loads(alone))
        assert value_reader(alone)(written(parsed, {"id": 1, "cart": None})) == {"id": 1, "cart": None}
        assert "shop.Money" in alone and "shop.Cart" in alone

    def test_a_reference_that_is_missing_is_named(self) -> None:
        with pytest.raises(Corruption, match=r"shop\.Cart"):
            read(self.ORDER, b"\x02\x00", self.MONEY)

    def test_a_type_may_be_wrapped_as_old_libraries_wrap_it(self) -> None:
        assert read(record(a={"type": {"type": "string"}}), b"\x02x") == {"a": "x"}


LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "string": st.text(max_size=20),
    "bytes": st.binary(max_size=20),
}


@st.composite
def schemas_and_values(draw: st.DrawFn, depth: int = 0, names: list[int] | None = None) -> tuple[Any, Any, Any]:
    """A schema, a value for a library that writes it, and the same as JSON."""
    names = names if names is not None else [0]
    kind = draw(st.sampled_from([*LEAVES, "decimal"] + (["record", "array", "map", "union"] if depth < 3 else [])))
    inside = schemas_and_values(depth=depth + 1, names=names)
    match kind:
        case "decimal":
            whole = draw(st.integers(-(10**9) + 1, 10**9 - 1))
            schema = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
            return schema, Decimal(whole).scaleb(-2), f"{Decimal(whole).scaleb(-2):f}"
        case "record":
            names[0] += 1
            schema = {"type": "record", "name": f"R{names[0]}", "fields": []}
            fields = [draw(inside) for _ in range(draw(st.integers(0, 3)))]
            schema["fields"] = [{"name": f"f{n}", "type": each[0]} for n, each in enumerate(fields)]
            return schema, *({f"f{n}": each[part] for n, each in enumerate(fields)} for part in (1, 2))
        case "array":
            one = draw(inside)
            count = draw(st.integers(0, 3))
            return {"type": "array", "items": one[0]}, [one[1]] * count, [one[2]] * count
        case "map":
            one = draw(inside)
            keys = draw(st.lists(st.text(max_size=5), max_size=3, unique=True))
            return {"type": "map", "values": one[0]}, dict.fromkeys(keys, one[1]), dict.fromkeys(keys, one[2])
        case "union":
            leaf = draw(st.sampled_from(["boolean", "int", "string"]))
            value = draw(st.none() | LEAVES[leaf])
            return ["null", leaf], value, value
    value = draw(LEAVES[kind])
    return kind, value, value.decode("latin-1") if isinstance(value, bytes) else value


@given(schemas_and_values())
@settings(max_examples=200, deadline=None)
def test_whatever_another_library_writes_is_read_as_it_was_meant(drawn: tuple[Any, Any, Any]) -> None:
    schema, value, expected = drawn
    assert read(schema, written(schema, value)) == expected
