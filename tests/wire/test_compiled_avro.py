"""Do compiled codecs write what fastavro writes and read what fastavro reads, for every class they are for?"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millstream.errors import Corruption
from millstream.model.event import Envelope
from millstream.model.facts import FACTS, StepCompleted
from millstream.model.journal import JournalRecord, Position
from millstream.model.messages import InboxRecord, Reply
from millstream.model.rows import Hand
from millstream.wire import journal, messages, rows, varints
from millstream.wire.compiled_avro import CompiledCodec
from millstream.wire.schemas import load_schema
from millstream.wire.varints import NUMBERS_REMEMBERED_MAX
from tests.wire.drawn import LONG, structs

RECORD = load_schema("journal/record")
FIELDS = {field["name"]: field["type"] for field in RECORD["fields"]}
ROWS = [(rows._CODECS[kind], load_schema(rows.schema_name(kind)), kind) for kind in rows.ROWS]
MESSAGES: list[tuple[CompiledCodec[Any], Any, type[Any]]] = [
    (messages._EVENT, load_schema("messages/event"), Envelope),
    (messages._INBOX, load_schema("messages/inbox"), InboxRecord),
    (messages._REPLY, load_schema("messages/reply"), Reply),
]
NAMED_IN_JOURNAL = load_schema("journal/record")["__named_schemas"]
NAMED = {
    **{
        f"millstream.{folder}.{kind}": load_schema(f"messages/{file}")
        for folder in ("journal", "messages", "state")
        for kind, file in (("Envelope", "event"), ("Failure", "failure"))
    },
    **{
        f"millstream.{folder}.{kind}": load_schema(f"{folder}/{file}")
        for folder in ("messages", "state")
        for kind, file in (("Slot", "slot"), ("RunFlow", "run_flow"), ("AdmitStart", "admit_start"))
    },
    **{
        f"millstream.journal.{kind}": NAMED_IN_JOURNAL[f"millstream.journal.{kind}"]
        for kind in ("RunFlow", "AdmitStart")
    },
}
STEP = StepCompleted("run", "step", "name", "run", 0, 1, b"1", 1_795_323_198_051, True)


class Pair(msgspec.Struct, frozen=True):
    name: str
    count: int


class Lists(msgspec.Struct, frozen=True):
    texts: tuple[str, ...]
    numbers: tuple[int, ...]
    tables: tuple[tuple[bytes, ...], ...]
    choices: tuple[Pair | None, ...]


def record_of(kind: type[Any], *types: Any) -> Any:
    fields = [{"name": name, "type": avro} for name, avro in zip(kind.__struct_fields__, types, strict=True)]
    return fastavro.parse_schema({"type": "record", "name": kind.__name__, "fields": fields})


def array(items: Any) -> Any:
    return {"type": "array", "items": items}


PAIR_SCHEMA = record_of(Pair, "string", "long")
LISTS_SCHEMA = record_of(Lists, array("string"), array("long"), array(array("bytes")), array([PAIR_SCHEMA, "null"]))
PAIR = CompiledCodec[Pair](PAIR_SCHEMA, {"Pair": Pair})
LISTS = CompiledCodec[Lists](LISTS_SCHEMA, {"Pair": Pair, "Lists": Lists})


def as_datum(value: Any, avro: Any) -> Any:
    """A value as fastavro takes it and gives it: dicts, lists and the branch of a union by its name."""
    avro = NAMED.get(avro, avro) if isinstance(avro, str) else avro
    if isinstance(avro, list):
        if value is None or isinstance(value, bool):
            return value
        branch = next(a for a in avro if a != "null" and short_name(a) == type(value).__name__)
        return (branch if isinstance(branch, str) else branch["name"], as_datum(value, branch))
    if isinstance(avro, str):
        return value
    if avro["type"] == "array":
        return [as_datum(item, avro["items"]) for item in value]
    values = value if isinstance(value, tuple) else [getattr(value, field["name"]) for field in avro["fields"]]
    return {
        field["name"]: as_datum(inside, field["type"]) for field, inside in zip(avro["fields"], values, strict=True)
    }


def short_name(branch: Any) -> str:
    name: str = branch if isinstance(branch, str) else branch["name"]
    return name.rpartition(".")[2]


def reference_bytes(value: Any, avro: Any) -> bytes:
    target = BytesIO()
    fastavro.schemaless_writer(target, avro, as_datum(value, avro))
    return target.getvalue()


def reference_reading(data: bytes, avro: Any) -> Any:
    source = BytesIO(data)
    read = fastavro.schemaless_reader(source, avro, None, return_record_name=True)
    assert source.tell() == len(data)
    return read


def agree(codec: CompiledCodec[Any], avro: Any, value: Any) -> None:
    data = codec.encode(value)
    assert data == reference_bytes(value, avro)
    read = codec.decode(data, "value")
    assert read == value
    assert type(read) is type(value)
    assert as_datum(read, avro) == reference_reading(data, avro)


def agree_on_any_bytes(codec: CompiledCodec[Any], avro: Any, data: bytes) -> None:
    """fastavro reads the same value as the codec; bytes that it refuses, the codec refuses as Corruption."""
    try:
        read = codec.decode(data, "value")
    except Corruption:
        return
    assert as_datum(read, avro) == reference_reading(data, avro)


# --- the same as the reference ---


@pytest.mark.parametrize("n", range(len(FACTS)), ids=[kind.__name__ for kind in FACTS])
@given(data=st.data())
def test_the_bytes_of_every_fact_are_fastavros(n: int, data: st.DataObject) -> None:
    facts = tuple(data.draw(st.lists(structs(FACTS[n], FIELDS["facts"]["items"][n]), max_size=3)))
    positions = tuple(data.draw(st.lists(structs(Position, FIELDS["positions"]["items"]), max_size=2)))
    seq, at_ms, more = data.draw(LONG), data.draw(LONG), data.draw(st.booleans())
    written = JournalRecord(data.draw(st.binary(max_size=8)), seq, at_ms, facts, positions, more)
    agree(journal._RECORD, RECORD, written)


@pytest.mark.parametrize("codec", [*ROWS, *MESSAGES], ids=lambda codec: codec[2].__name__)
@given(data=st.data())
def test_the_bytes_of_every_row_and_message_are_fastavros(codec: Any, data: st.DataObject) -> None:
    lines, avro, kind = codec
    agree(lines, avro, data.draw(structs(kind, avro)))


@given(
    st.lists(st.text()),
    st.lists(LONG),
    st.lists(st.lists(st.binary())),
    st.lists(st.none() | st.builds(Pair, st.text(), LONG)),
)
def test_the_bytes_of_arrays_are_fastavros(texts: Any, numbers: Any, tables: Any, choices: Any) -> None:
    agree(LISTS, LISTS_SCHEMA, Lists(tuple(texts), tuple(numbers), tuple(map(tuple, tables)), tuple(choices)))


@pytest.mark.parametrize("bits", range(64))
def test_numbers_around_every_power_of_two_are_fastavros(bits: int) -> None:
    for number in (2**bits - 1, 2**bits, -(2**bits), -(2**bits) - 1):
        if -(2**63) <= number < 2**63:
            agree(PAIR, PAIR_SCHEMA, Pair("", number))


@pytest.mark.parametrize("length", [0, 1, 63, 64, 8_191, 8_192, 1_048_576])
def test_a_text_of_any_length_is_fastavros(length: int) -> None:
    agree(PAIR, PAIR_SCHEMA, Pair("x" * length, 0))
    agree(PAIR, PAIR_SCHEMA, Pair("é" * length, 0))


def test_a_member_of_an_enum_is_its_number() -> None:
    assert PAIR.encode(Pair("", Hand.DONE)) == PAIR.encode(Pair("", int(Hand.DONE)))


# --- bytes that nobody here wrote ---


@given(st.lists(st.one_of([structs(k, a) for k, a in zip(FACTS, FIELDS["facts"]["items"], strict=True)])), st.data())
def test_flipped_bytes_of_a_record_are_read_as_by_fastavro_or_are_corruption(facts: Any, data: st.DataObject) -> None:
    flipped = bytearray(journal.encode_record(JournalRecord(b"owner...", 1, 7, tuple(facts))))
    for _ in range(data.draw(st.integers(1, 3))):
        flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= data.draw(st.integers(1, 255))
    agree_on_any_bytes(journal._RECORD, RECORD, bytes(flipped))


@given(st.binary(max_size=40))
@example(b"\x00\x00\x00\x02\x81")
def test_any_bytes_are_read_as_by_fastavro_or_are_corruption(data: bytes) -> None:
    agree_on_any_bytes(LISTS, LISTS_SCHEMA, data)
    agree_on_any_bytes(PAIR, PAIR_SCHEMA, data)


def test_an_array_in_several_blocks_with_and_without_their_size_is_read() -> None:
    # Two texts, the block's size in bytes before them (-2, 4), then one more, then the end; as Java may write it.
    data = b"\x03\x08\x02a\x02b\x02\x02c\x00" + b"\x00\x00\x00"
    assert LISTS.decode(data, "value") == Lists(("a", "b", "c"), (), (), ())
    agree_on_any_bytes(LISTS, LISTS_SCHEMA, data)


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"", "EOF"),
        (b"\x02", "EOF"),
        (b"\x04a", "EOF"),
        (b"\x02a", "EOF"),
        (b"\x02a\xff", "EOF"),
        (b"\x01\x00", "a length of -1"),
        (b"\x02\xff\x00", "UnicodeDecodeError"),
        (b"\x00" + b"\x80" * 10 + b"\x01", "more than 10 bytes"),
        (b"\x00" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\x00\x00\x00", "ends after 2 bytes"),
        (b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", "EOF"),
    ],
)
def test_bytes_that_are_no_record_are_corruption_that_says_why(data: bytes, got: str) -> None:
    with pytest.raises(Corruption, match=f"pair cannot be read: .*{got}"):
        PAIR.decode(data, "pair")


def test_bytes_that_end_inside_the_last_field_are_corruption() -> None:
    schema = fastavro.parse_schema({"type": "record", "name": "One", "fields": [{"name": "data", "type": "bytes"}]})
    one = CompiledCodec[Any](schema, {"One": tuple})
    assert one.decode(b"\x04ab", "one") == (b"ab",)
    with pytest.raises(Corruption, match="EOF: a field that goes on to byte 3"):
        one.decode(b"\x04a", "one")


# --- values that are no record ---


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"run": 1}, TypeError),
        ({"run": b"run"}, TypeError),
        ({"run": None}, TypeError),
        ({"run": "\ud800"}, UnicodeEncodeError),
        ({"data": "text"}, TypeError),
        ({"data": None}, TypeError),
        ({"data": [1, 2]}, TypeError),
        ({"attempt": "1"}, TypeError),
        ({"attempt": 1.5}, TypeError),
        ({"attempt": None}, TypeError),
        ({"attempt": [1]}, TypeError),
        ({"started_at_ms": 2**63}, OverflowError),
        ({"started_at_ms": -(2**63) - 1}, OverflowError),
    ],
)
def test_a_value_of_a_wrong_type_or_out_of_range_raises(changes: dict[str, Any], error: type[Exception]) -> None:
    wrong = msgspec.structs.replace(STEP, **changes)
    with pytest.raises(error):
        journal.encode_record(JournalRecord(b"owner...", 1, 7, (wrong,)))


def test_a_value_of_a_class_that_is_no_branch_raises() -> None:
    stranger: Any = Pair("a", 1)
    with pytest.raises(TypeError, match=r"expected one of StepCompleted, .*, got Pair"):
        journal.encode_record(JournalRecord(b"owner...", 1, 7, (stranger,)))


def test_a_traceback_shows_the_field_that_was_wrong() -> None:
    wrong: Any = Pair(1, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError) as raised:
        PAIR.encode(wrong)
    assert "encode(value.name)" in str(raised.traceback[-1].statement)


# --- limits and schemas ---


def test_no_more_numbers_are_remembered_than_the_limit() -> None:
    for number in range(2**40, 2**40 + NUMBERS_REMEMBERED_MAX + 10):
        assert PAIR.decode(PAIR.encode(Pair("", number)), "pair").count == number
    assert 0 < len(varints.numbers) <= NUMBERS_REMEMBERED_MAX
    assert 0 < len(varints.times) <= NUMBERS_REMEMBERED_MAX
    agree(PAIR, PAIR_SCHEMA, Pair("a", 2**40))


@pytest.mark.parametrize("avro", ["double", {"type": "map", "values": "long"}, ["null", "long"], "Pair", "null"])
def test_a_type_that_there_are_no_lines_for_is_refused_at_once(avro: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a record, an array or a primitive type"):
        CompiledCodec(record_of(Pair, "string", avro), {"Pair": Pair})


def test_a_class_whose_fields_are_not_the_schemas_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"the record Pair a class with the fields \('name', 'count'\)"):
        CompiledCodec(PAIR_SCHEMA, {"Pair": Position})
    with pytest.raises(ValueError, match="got None"):
        CompiledCodec(PAIR_SCHEMA, {})


def test_a_union_may_have_more_branches_than_one_byte_can_tell() -> None:
    classes = {f"R{n}": msgspec.defstruct(f"R{n}", [("a", int)], frozen=True) for n in range(200)}
    branches = [{"type": "record", "name": name, "fields": [{"name": "a", "type": "int"}]} for name in classes]
    schema = fastavro.parse_schema(record_of(Pair, "string", branches))
    codec = CompiledCodec[Any](schema, {"Pair": Pair, **classes})
    for n in (0, 63, 64, 127, 128, 199):
        value = Pair("a", classes[f"R{n}"](n))  # type: ignore[arg-type]
        written = codec.encode(value)
        assert codec.decode(written, "pair") == value
        read: Any = fastavro.schemaless_reader(BytesIO(written), schema, None, return_record_name=True)
        assert read["count"] == (f"R{n}", {"a": n})
