"""Is a Protobuf value read by its descriptor alone, as its ``.proto`` file means it?"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from millstream.errors import Corruption
from millstream.model.function import Reading
from millstream.wire.foreign import read_record
from millstream.wire.formats.content import ForeignRecord
from millstream.wire.formats.foreign_schema import ForeignSchema
from millstream.wire.formats.framing import SchemaRef
from millstream.wire.formats.known import KnownSchemas
from millstream.wire.formats.protobuf_value import message_reader

pytest.importorskip("google.protobuf", reason="the extra 'protobuf' is not installed")
from google.protobuf import descriptor_pb2, text_format

MONEY = """
name: "money.proto" package: "shop" syntax: "proto3"
message_type { name: "Money" field { name: "cents" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL } }
"""
ORDER = """
name: "order.proto" package: "shop" syntax: "proto3"
dependency: "money.proto" dependency: "google/protobuf/timestamp.proto"
message_type { name: "Other" }
message_type {
  name: "Order"
  field { name: "order_id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "total" number: 2 type: TYPE_MESSAGE type_name: ".shop.Money" label: LABEL_OPTIONAL }
  field { name: "at" number: 3 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL }
  field { name: "state" number: 4 type: TYPE_ENUM type_name: ".shop.State" label: LABEL_OPTIONAL }
  field { name: "raw" number: 5 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "lines" number: 6 type: TYPE_MESSAGE type_name: ".shop.Order.Line" label: LABEL_REPEATED }
  field { name: "parent" number: 7 type: TYPE_MESSAGE type_name: ".shop.Order" label: LABEL_OPTIONAL }
  field { name: "weight" number: 8 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "counts" number: 9 type: TYPE_MESSAGE type_name: ".shop.Order.CountsEntry" label: LABEL_REPEATED }
  nested_type { name: "Line" field { name: "sku" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }
  nested_type {
    name: "CountsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL }
  }
}
enum_type { name: "State" value { name: "NEW" number: 0 } value { name: "PAID" number: 1 } }
"""


def descriptor(text: str) -> str:
    file = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    return base64.b64encode(file.SerializeToString()).decode()


FILES = (descriptor(MONEY), descriptor(ORDER))
SECOND = b"\x02\x02"  # One number: the second message of the file.
ID = b"\x0a\x03o-1"
PAID = ID + b"\x12\x0b\x08" + b"\xff" * 9 + b"\x01" + b"\x1a\x02\x08\x01" + b"\x20\x01" + b"\x2a\x02\x00\xff"
PAID += b"\x32\x03\x0a\x01x" + b"\x4a\x04\x08\x07\x10\x09"
PAID_JSON = {
    "order_id": "o-1", "total": {"cents": -1}, "at": "1970-01-01T00:00:01Z", "state": "PAID", "raw": "\x00ÿ",
    "lines": [{"sku": "x"}], "weight": 0.0, "counts": {"7": 9},
}  # fmt: skip


def test_every_kind_of_field_gets_its_json_form() -> None:
    assert message_reader(FILES)(SECOND + PAID) == PAID_JSON


def test_a_message_inside_another_is_found_and_defaults_are_shown() -> None:
    assert message_reader(FILES)(b"\x04\x02\x00\x0a\x01y") == {"sku": "y"}
    assert message_reader(FILES)(b"\x00") == {}
    empty: Any = message_reader(FILES)(SECOND)
    assert empty == {"order_id": "", "state": "NEW", "raw": "", "lines": [], "weight": 0.0, "counts": {}}


@pytest.mark.parametrize(
    "data", [b"", b"\x02", b"\x02\x0a", b"\x02\x01", b"\x7f", SECOND + b"\x0a\x7f", SECOND + b"\x0a\x01\xff"]
)
def test_bytes_that_do_not_fit_are_refused(data: bytes) -> None:
    with pytest.raises(Corruption, match="does not fit its schema"):
        message_reader(FILES)(data)


def test_a_message_too_deep_is_refused() -> None:
    value = b""
    for _ in range(70):
        length = len(value)
        prefix = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
        value = b"\x3a" + prefix + value
    with pytest.raises(Corruption, match="deep"):
        message_reader(FILES)(SECOND + value)


@pytest.mark.parametrize("files", [("no base64",), ("AAAA",), FILES[1:], ()])
def test_a_descriptor_that_is_none_is_refused(files: tuple[str, ...]) -> None:
    with pytest.raises(Corruption, match="a schema was refused"):
        message_reader(files)


@pytest.mark.parametrize("format", ["auto", "avro"])
def test_a_framed_record_is_read_with_the_message_named_in_front_or_in_the_header(format: str) -> None:
    schemas = KnownSchemas(has_registry=True)
    schemas.learn(SchemaRef("id", "9"), ForeignSchema("PROTOBUF", FILES[1], FILES[:1]))
    mark = b"\0\0\0\0\x09" + SECOND
    for value, headers in ((mark + PAID, ()), (PAID, (("__value_schema_id", mark),))):
        record = ForeignRecord("orders", 0, 7, 1, b"k", value, headers)
        event = read_record(Reading(format), record, schemas)
        assert event is not None and json.loads(event.data) == PAID_JSON
