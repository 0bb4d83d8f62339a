"""Are records of topics that know nothing of us read as their producers meant them?

The producers here are other people's code: Confluent's serializers, PyPI's avro, and records as the CloudEvents and
Debezium documents show them.
"""

from __future__ import annotations

import io
import json
import struct
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from millstream.errors import Corruption
from millstream.wire.formats.avro_value import DEPTH_MAX, value_reader
from millstream.wire.formats.content import Content, ForeignRecord, SchemaWanted
from millstream.wire.formats.framing import SchemaRef
from millstream.wire.formats.known import KnownSchemas
from millstream.wire.formats.reading import READERS, read_content

PAYMENT = {
    "type": "record",
    "name": "Payment",
    "namespace": "com.acme",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}
PAID = {"id": "p-1", "amount": Decimal("12.50"), "at": datetime(2026, 1, 31, 12, tzinfo=UTC), "note": None}
PAID_JSON = {"id": "p-1", "amount": "12.50", "at": 1_769_860_800_000, "note": None}
TEXT = json.dumps(PAYMENT)


def record(value: bytes | None, *headers: tuple[str, bytes], key: bytes | None = None) -> ForeignRecord:
    return ForeignRecord("payments", 3, 17, 1_700_000_000_000, key, value, headers)


def read(
    value: bytes | None,
    *headers: tuple[str, bytes],
    format: str = "auto",
    schema: str = "",
    schemas: KnownSchemas | None = None,
) -> Content:
    content = read_content(format, schema, record(value, *headers), schemas or KnownSchemas())
    assert content is not None
    return content


def data(content: Content) -> Any:
    return json.loads(content.data)


def avro(value: Any = PAID, schema: Any = PAYMENT) -> bytes:
    target = io.BytesIO()
    fastavro.schemaless_writer(target, fastavro.parse_schema(schema), value)
    return target.getvalue()


def serialised(**conf: Any) -> tuple[bytes, list[tuple[str, bytes]], SchemaRegistryClient]:
    """A payment as Confluent's own serializer writes it; its registry is the client's in-memory one."""
    client = SchemaRegistryClient.new_client({"url": f"mock://{uuid.uuid4()}"})
    headers: list[tuple[str, bytes]] = []
    context = SerializationContext("payments", MessageField.VALUE, headers)
    value = AvroSerializer(client, TEXT, conf=conf)(PAID, context)
    assert value is not None
    return value, headers, client


class TestConfluentWireFormat:
    def test_a_value_with_its_id_in_front_is_read_once_the_schema_is_fetched(self) -> None:
        value, _, client = serialised()
        schemas = KnownSchemas(has_registry=True)
        with pytest.raises(SchemaWanted) as wanted:
            read(value, schemas=schemas)
        assert wanted.value.ref.kind == "id"
        fetched = client.get_schema(int(wanted.value.ref.value)).schema_str
        assert fetched is not None
        schemas.learn(wanted.value.ref, fetched)
        assert data(read(value, schemas=schemas)) == PAID_JSON
        assert data(read(value, schemas=schemas, format="avro")) == PAID_JSON

    def test_a_value_with_its_id_in_a_header_is_read(self) -> None:
        value, headers, client = serialised(**{"schema.id.serializer": header_schema_id_serializer})
        assert value == avro()
        schemas = KnownSchemas(has_registry=True)
        with pytest.raises(SchemaWanted) as wanted:
            read(value, *headers, schemas=schemas)
        assert wanted.value.ref.kind == "guid"
        fetched = client.get_schema_by_guid(wanted.value.ref.value).schema_str
        assert fetched is not None
        schemas.learn(wanted.value.ref, fetched)
        assert data(read(value, *headers, schemas=schemas)) == PAID_JSON

    def test_without_a_registry_a_leading_zero_is_no_mark(self) -> None:
        assert data(read(b"\0\0\0\0\1abc")) == {"value": "\0\0\0\0\1abc"}

    def test_a_schema_nobody_has_is_a_reason_not_a_guess(self) -> None:
        schemas = KnownSchemas(has_registry=True)
        schemas.miss(SchemaRef("id", "9"), "the registry has no schema 9")
        with pytest.raises(Corruption, match="no schema 9"):
            read(b"\0" + struct.pack(">I", 9) + avro(), schemas=schemas)
        schemas.forget_absent()
        with pytest.raises(SchemaWanted):
            read(b"\0" + struct.pack(">I", 9) + avro(), schemas=schemas)

    def test_a_header_that_names_no_schema_is_refused(self) -> None:
        with pytest.raises(Corruption, match="__value_schema_id"):
            read(avro(), ("__value_schema_id", b"\7"))


class TestAvro:
    def test_a_single_object_value_is_read_by_the_fingerprint_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "payment.avsc").write_text(TEXT)
        mark = bytes.fromhex(fastavro.schema.fingerprint(TEXT_CANONICAL, "CRC-64-AVRO"))
        assert data(read(b"\xc3\x01" + mark + avro(), schemas=KnownSchemas([tmp_path]))) == PAID_JSON

    def test_a_single_object_value_of_an_unknown_schema_wants_it_and_is_no_dead_letter(self) -> None:
        with pytest.raises(SchemaWanted, match="fingerprint 0000000000000000"):
            read(b"\xc3\x01" + bytes(8) + avro())

    @pytest.mark.parametrize("name", ["com.acme.Payment", "payment"])
    def test_a_bare_value_is_read_by_the_schema_that_the_subscription_names(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "payment.avsc").write_text(TEXT)
        known = KnownSchemas([tmp_path])
        assert data(read(avro(), format="avro", schema=name, schemas=known)) == PAID_JSON
        assert data(read(avro(), schema=name, schemas=known)) == PAID_JSON

    def test_a_bare_value_without_a_named_schema_says_what_to_do(self) -> None:
        with pytest.raises(Corruption, match=r"Topic\(\.\.\., schema=…\)"):
            read(avro(), format="avro")

    @pytest.mark.parametrize("broken", [avro()[:-2], avro() + b"x", b""])
    def test_a_value_that_does_not_fit_its_schema_is_refused(self, broken: bytes) -> None:
        with pytest.raises(Corruption, match="does not fit its schema"):
            value_reader(TEXT)(broken)

    def test_every_kind_of_value_gets_its_json_form(self) -> None:
        schema = {
            "type": "record",
            "name": "All",
            "fields": [
                {"name": "day", "type": {"type": "int", "logicalType": "date"}},
                {"name": "raw", "type": "bytes"},
                {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
                {"name": "map", "type": {"type": "map", "values": ["null", "double"]}},
                {"name": "list", "type": {"type": "array", "items": {"type": "enum", "name": "E", "symbols": ["A"]}}},
            ],
        }
        id = uuid.uuid4()
        value = {"day": 3, "raw": b"\x00\xff", "uuid": id, "map": {"a": 1.5, "b": None}, "list": ["A"]}
        expected = {"day": 3, "raw": "\x00ÿ", "uuid": str(id), "map": {"a": 1.5, "b": None}, "list": ["A"]}
        assert value_reader(json.dumps(schema))(avro(value, schema)) == expected

    def test_a_schema_too_deep_is_refused(self) -> None:
        text = '{"type": "array", "items": ' * (DEPTH_MAX + 1) + '"int"' + "}" * (DEPTH_MAX + 1)
        with pytest.raises(Corruption, match="deep"):
            value_reader(text)

    def test_a_value_too_deep_is_refused(self) -> None:
        nested = {"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]}
        value: Any = None
        for _ in range(DEPTH_MAX + 2):
            value = {"n": value}
        with pytest.raises(Corruption, match="deep"):
            value_reader(json.dumps(nested))(avro(value, nested))


TEXT_CANONICAL = fastavro.schema.to_parsing_canonical_form(fastavro.parse_schema(PAYMENT))


class TestJsonAndRaw:
    def test_an_object_is_the_data_as_it_is(self) -> None:
        assert data(read(b'{"a": [1, "x"]}')) == {"a": [1, "x"]}
        assert data(read(b'{"a": 1}', format="json")) == {"a": 1}

    @pytest.mark.parametrize("value", [b"[1,2]", b'"text"', b"12", b"null", b"true"])
    def test_json_that_is_no_object_stands_under_value(self, value: bytes) -> None:
        assert data(read(value)) == {"value": json.loads(value)}

    def test_text_and_bytes_are_raw(self) -> None:
        assert data(read("grüezi".encode())) == {"value": "grüezi"}
        assert data(read(b"\xff\xfe")) == {"base64": "//4="}
        assert data(read(b"{not json")) == {"value": "{not json"}
        assert data(read(b'{"a": 1}', format="raw")) == {"value": '{"a": 1}'}

    def test_a_topic_of_json_refuses_what_is_none(self) -> None:
        with pytest.raises(Corruption, match="expected UTF-8 JSON"):
            read(b"{not json", format="json")

    @pytest.mark.parametrize("format", READERS)
    def test_a_tombstone_says_nothing(self, format: str) -> None:
        assert read_content(format, "", record(None), KnownSchemas()) is None


CLOUD = {"specversion": "1.0", "type": "com.acme.paid", "source": "/shop", "id": "A-1", "time": "2026-01-31T12:00:00Z"}
BINARY = tuple((f"ce_{name}", value.encode()) for name, value in CLOUD.items())


class TestCloudEvents:
    def test_a_binary_event_has_its_attributes_in_headers(self) -> None:
        headers = (*BINARY, ("ce_partitionkey", b"k-1"), ("content-type", b"application/json"))
        content = read(b'{"amount": 3}', *headers)
        assert data(content) == {"amount": 3}
        assert (content.name, content.id, content.key) == ("com.acme.paid", "/shop/A-1", "k-1")
        assert content.ts_ms == 1_769_860_800_000
        assert json.loads(content.meta)["cloudevents"]["type"] == "com.acme.paid"

    def test_a_structured_event_has_everything_in_its_value(self) -> None:
        kind = ("content-type", b"application/cloudevents+json; charset=UTF-8")
        content = read(json.dumps({**CLOUD, "data": {"amount": 3}}).encode(), kind)
        assert (data(content), content.name, content.id) == ({"amount": 3}, "com.acme.paid", "/shop/A-1")
        content = read(json.dumps({**CLOUD, "data_base64": "AAE="}).encode(), kind, format="cloudevents")
        assert data(content) == {"value": "\x00\x01"}

    def test_a_binary_event_without_a_value_is_an_event_without_data(self) -> None:
        content = read_content("auto", "", record(None, *BINARY), KnownSchemas())
        assert content is not None and data(content) == {}

    @pytest.mark.parametrize("without", ["type", "id", "source"])
    def test_an_event_without_a_required_attribute_is_refused(self, without: str) -> None:
        headers = [(name, value) for name, value in BINARY if name != f"ce_{without}"]
        with pytest.raises(Corruption, match=without):
            read(b"{}", *headers)

    def test_what_is_no_cloud_event_is_refused_where_only_those_are_taken(self) -> None:
        with pytest.raises(Corruption, match="CloudEvent"):
            read(b"{}", format="cloudevents")
        with pytest.raises(Corruption, match="batch"):
            read(b"[]", ("content-type", b"application/cloudevents-batch+json"))
        with pytest.raises(Corruption, match="RFC 3339"):
            read(b"{}", *BINARY[:4], ("ce_time", b"yesterday"))


CHANGE = {"before": None, "after": {"id": 7}, "source": {"table": "orders"}, "op": "c", "ts_ms": 1_700_000_000_123}


class TestDebezium:
    @pytest.mark.parametrize("format", ["auto", "debezium"])
    @pytest.mark.parametrize("value", [CHANGE, {"schema": {"type": "struct"}, "payload": CHANGE}])
    def test_a_change_is_the_data_and_its_time_the_event_s(self, format: str, value: Any) -> None:
        content = read(json.dumps(value).encode(), format=format)
        assert data(content) == CHANGE
        assert content.ts_ms == 1_700_000_000_123

    def test_rows_that_only_look_like_it_stay_what_they_are(self) -> None:
        row = {"op": "c", "after": "x"}
        assert data(read(json.dumps(row).encode())) == row
        with pytest.raises(Corruption, match="format='auto'"):
            read(json.dumps(row).encode(), format="debezium")
