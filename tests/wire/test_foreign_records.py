"""Does whatever producers write become an event or a dead letter? Named after what was met in the field."""

from __future__ import annotations

import base64
import json
import struct
from contextlib import suppress
from typing import Any

import pytest

from millstream.errors import Corruption
from millstream.model import limits
from millstream.model.event import Envelope
from millstream.model.function import FORMATS, Reading
from millstream.model.limits import JSON_DEPTH_MAX
from millstream.wire.foreign import read_record
from millstream.wire.formats.content import ForeignRecord, SchemaWanted
from millstream.wire.formats.foreign_schema import ForeignSchema
from millstream.wire.formats.framing import SchemaRef
from millstream.wire.formats.known import KnownSchemas

AT_MS = 1_767_225_600_000
CLOUD = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "shop.order", "data": {"n": 1}}
STRUCTURED = ("content-type", b"application/cloudevents+json")


def event(
    value: Any,
    *headers: tuple[str, bytes],
    reading: Reading | None = None,
    at_ms: int = AT_MS,
    schemas: KnownSchemas | None = None,
    key: bytes = b"k",
) -> Envelope:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    record = ForeignRecord("orders", 0, 7, at_ms, key, data, headers)
    read = read_record(reading or Reading(), record, schemas or KnownSchemas())
    assert read is not None
    return read


def framed(value: bytes, id: int = 3) -> bytes:
    return b"\0" + struct.pack(">I", id) + value


class TestDebezium:
    @pytest.mark.parametrize("op", [[1], {"a": 1}, None, 7, True, 1.5, ["c"], "x"])
    def test_a_field_called_op_that_is_no_operation_is_no_change(self, op: Any) -> None:
        document = {"op": op, "source": 1, "before": 2}
        assert json.loads(event(document).data) == document
        with pytest.raises(Corruption, match="Debezium"):
            event(document, reading=Reading("debezium"))

    @pytest.mark.parametrize("payload", [[1], "text", {"op": [1], "source": 1, "after": 1}, {}])
    def test_a_payload_beside_a_schema_that_is_no_change_stays_what_it_is(self, payload: Any) -> None:
        document = {"schema": {"type": "struct"}, "payload": payload}
        assert json.loads(event(document).data) == document

    def test_a_wrapped_change_keeps_the_digits_of_its_numbers(self) -> None:
        change = b'{"op": "c", "source": {}, "after": {"price": 12.345678901234567890}, "ts_ms": true}'
        read = event(b'{"schema": null, "payload": %b}' % change)
        assert (read.data, read.ts_ms) == (change, AT_MS)


class TestJson:
    @pytest.mark.parametrize("format", ["auto", "json"])
    def test_numbers_keep_their_digits(self, format: str) -> None:
        text = b'{"amount": 12.50, "exact": 0.1234567890123456789012, "big": 123456789012345678901234567890}'
        assert event(text, reading=Reading(format)).data == text
        assert event(b"12.3400000000000000000001", reading=Reading(format)).data == (
            b'{"value":12.3400000000000000000001}'
        )

    @pytest.mark.parametrize("format", ["auto", "json"])
    def test_a_byte_order_mark_is_passed_over(self, format: str) -> None:
        assert event(b"\xef\xbb\xbf" + b'{"n": 1}', reading=Reading(format)).data == b'{"n": 1}'

    @pytest.mark.parametrize("format", ["auto", "json"])
    @pytest.mark.parametrize("text", [b'{"n": NaN}', b'[{"n": -Infinity}]', b'{"n": 1e999}', b'{"n": "\\ud800"}'])
    def test_what_is_json_for_some_producers_only_is_refused_and_never_taken_for_text(
        self, text: bytes, format: str
    ) -> None:
        with pytest.raises(Corruption, match="expected UTF-8 JSON"):
            event(text, reading=Reading(format))

    @pytest.mark.parametrize("depth", [JSON_DEPTH_MAX + 1, 900, 100_000])
    def test_json_too_deep_for_those_who_read_it_next_is_refused(self, depth: int) -> None:
        with pytest.raises(Corruption):
            event(b'{"a":' + b"[" * depth + b"]" * depth + b"}", reading=Reading("json"))

    def test_json_that_is_larger_as_json_is_refused(self) -> None:
        schemas = KnownSchemas(has_registry=True)
        schemas.learn(SchemaRef("id", "3"), '"bytes"')
        with pytest.raises(Corruption, match="as JSON it may have"):
            event(framed(b"\x80\x89\x7a" + b"\0" * 1_000_000), schemas=schemas)


class TestConfluentJsonSchema:
    TEXT = b'{"a": 1}'

    def test_the_framing_is_taken_off_without_a_registry(self) -> None:
        assert event(framed(self.TEXT), reading=Reading("json")).data == self.TEXT
        assert event(framed(self.TEXT)).data == self.TEXT

    @pytest.mark.parametrize("format", ["auto", "json", "avro"])
    def test_a_registry_says_that_it_is_json(self, format: str) -> None:
        schemas = KnownSchemas(has_registry=True)
        schemas.learn(SchemaRef("id", "3"), ForeignSchema("JSON", '{"type": "object"}'))
        assert event(framed(self.TEXT), reading=Reading(format), schemas=schemas).data == self.TEXT
        header = ("__value_schema_id", framed(b""))
        assert event(self.TEXT, header, reading=Reading(format), schemas=schemas).data == self.TEXT

    def test_bytes_that_only_begin_so_stay_bytes(self) -> None:
        assert json.loads(event(framed(b"{x")).data) == {"value": "\0\0\0\0\x03{x"}


class TestSchemasThatNobodyGave:
    """The schema is the operator's to give: the topic waits, and no record becomes a dead letter."""

    @pytest.mark.parametrize(
        ("value", "reading"),
        [
            (b"\x02", Reading("avro", "com.acme.Payment")),
            (b"\x02", Reading("auto", "com.acme.Payment")),
            (b"\xc3\x01" + bytes(9), Reading()),
            (b"\xc3\x01" + bytes(9), Reading("avro")),
            (framed(b"\x02"), Reading("avro")),
            (framed(b"\x02"), Reading("debezium")),
        ],
    )
    def test_a_schema_that_is_not_known_is_wanted(self, value: bytes, reading: Reading) -> None:
        with pytest.raises(SchemaWanted):
            event(value, reading=reading)


class TestCloudEvents:
    def structured(self, *headers: tuple[str, bytes], **changes: Any) -> Envelope:
        return event(CLOUD | changes, *(headers or (STRUCTURED,)))

    @pytest.mark.parametrize("name", ["time", "partitionkey", "subject", "datacontenttype", "data_base64"])
    def test_an_attribute_that_is_null_is_not_set(self, name: str) -> None:
        read = self.structured(**{name: None})
        assert (read.id, read.key, read.name, read.ts_ms) == ("/shop/1", "k", "shop.order", AT_MS)
        assert name not in json.loads(read.meta)["cloudevents"]

    @pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
    @pytest.mark.parametrize("value", [None, ""])
    def test_an_event_needs_what_it_needs(self, name: str, value: Any) -> None:
        with pytest.raises(Corruption, match=f"got no {name}"):
            self.structured(**{name: value})

    @pytest.mark.parametrize(
        ("time", "ms"),
        [
            ("2026-01-01T00:00:00Z", AT_MS),
            ("2026-01-01t00:00:00z", AT_MS),
            ("2026-01-01 00:00:00Z", AT_MS),
            ("2026-01-01T01:30:00+01:30", AT_MS),
            ("2025-12-31T23:00:00-01:00", AT_MS),
            ("2026-01-01T00:00:00.1Z", AT_MS + 100),
            ("2026-01-01T00:00:00.123456789012Z", AT_MS + 123),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("1969-01-01T00:00:00Z", AT_MS),  # Before 1970, which no event can be: the record's own.
            ("0000-01-01T00:00:00Z", AT_MS),
            ("9999-12-31T23:59:59-23:59", AT_MS),
            ("0001-01-01T00:00:00+23:59", AT_MS),
        ],
    )
    def test_a_time_is_rfc_3339_in_full(self, time: str, ms: int) -> None:
        assert self.structured(time=time).ts_ms == ms

    @pytest.mark.parametrize(
        "time",
        ["2026-01-01", "20260101T000000Z", "2026-W01-1T00:00:00Z", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z",
         "2026-01-01T24:00:00Z", "2026-01-01T00:00:61Z", "2026-01-01T00:00:00+24:00", "٢٠٢٦-01-01T00:00:00Z"],
    )  # fmt: skip
    def test_another_time_is_refused(self, time: str) -> None:
        with pytest.raises(Corruption, match="RFC 3339"):
            self.structured(time=time)

    @pytest.mark.parametrize(
        "kind",
        [
            b"Application/CloudEvents+JSON", b" application/cloudevents+json", b"application/cloudevents+json ;x=y",
            b"APPLICATION/CLOUDEVENTS+JSON; charset=UTF-8",
        ],
    )  # fmt: skip
    def test_a_media_type_is_the_same_in_any_case(self, kind: bytes) -> None:
        assert self.structured(("Content-Type", kind)).name == "shop.order"

    @pytest.mark.parametrize("reading", [Reading(), Reading("cloudevents")])
    def test_a_structured_event_needs_no_content_type(self, reading: Reading) -> None:
        read = event(CLOUD, reading=reading)
        assert (read.name, read.id, read.data) == ("shop.order", "/shop/1", b'{"n": 1}')

    @pytest.mark.parametrize("without", ["specversion", "id", "source", "type"])
    def test_json_that_only_resembles_one_is_json(self, without: str) -> None:
        document = {name: value for name, value in CLOUD.items() if name != without}
        assert event(document).name == "orders"
        assert event(CLOUD | {"specversion": "0.3"}).name == "orders"

    def test_other_formats_of_structured_events_are_refused_by_their_name(self) -> None:
        with pytest.raises(Corruption, match=r"cloudevents\+avro"):
            self.structured(("content-type", b"application/cloudevents+avro"))

    def test_data_keep_the_digits_of_their_numbers(self) -> None:
        text = json.dumps(CLOUD).replace('{"n": 1}', '{"n": 12.345678901234567890}').encode()
        assert event(text, STRUCTURED).data == b'{"n": 12.345678901234567890}'


class TestRecords:
    @pytest.mark.parametrize(("at_ms", "expected"), [(-1, 0), (-(2**63), 0), (2**62, limits.EVENT_TS_MAX_MS)])
    def test_a_timestamp_that_is_none_is_clamped(self, at_ms: int, expected: int) -> None:
        read = event(b"{}", at_ms=at_ms)
        assert (read.ts_ms, read.received_at_ms) == (expected, expected)

    def test_two_long_ids_that_begin_alike_stay_two(self) -> None:
        reading = Reading(id="data.id")
        ids = {event({"id": "x" * 5_000 + end}, reading=reading).id for end in ("a", "b")}
        assert len(ids) == 2 and max(map(len, ids)) == limits.EVENT_ID_CHARS_MAX

    def test_a_number_too_long_to_be_an_id_is_a_reason(self) -> None:
        with pytest.raises(Corruption):
            event(b'{"id": %b}' % (b"9" * 10_000), reading=Reading(id="data.id"))

    def test_what_nobody_has_thought_of_is_a_reason(self) -> None:
        class Broken(KnownSchemas):
            def reader(self, ref: SchemaRef) -> Any:
                raise AttributeError("nobody has thought of this")

        with pytest.raises(Corruption, match="AttributeError: nobody has thought of this"):
            event(framed(b"x"), schemas=Broken(has_registry=True))

    @pytest.mark.parametrize("format", FORMATS)
    @pytest.mark.parametrize(
        "value",
        [b"", b"\0", b"\0\0\0\0", b"\xc3\x01", b"\xff" * 50, b"{", b"[" * 2_000, b"null", b'"', base64.b64encode(b"x")],
    )
    def test_short_and_broken_values_are_an_event_or_a_reason(self, format: str, value: bytes) -> None:
        with suppress(Corruption):
            assert isinstance(json.loads(event(value, reading=Reading(format)).data), dict)
