"""Which schema wrote a record's value: the marks that producers put in front of it or into its headers.

    00 + 4 bytes            a registry's id, big-endian, then the value (the Confluent wire format)
    01 + 16 bytes           a registry's global id, in the header ``__value_schema_id``; the value stands alone
    00 + 4 bytes            ... in that header: the id, the same
    C3 01 + 8 bytes         Avro's single-object encoding: the CRC-64-AVRO fingerprint, little-endian, then the value

Behind an id that stands for Protobuf comes which message of its file it is (``protobuf_value.py``), in front of the
value or in the header; behind one of JSON Schema comes JSON.

The rule: a mark is only what is certainly one. Bytes that begin with 0 by chance are no mark where nobody can tell what
the id means; ``reading.py`` decides that, by the topic's format and by whether there is a registry.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import fastavro

from millstream.errors import Corruption

ID_HEADERS: Final = {False: "__value_schema_id", True: "__key_schema_id"}
SINGLE_OBJECT: Final = b"\xc3\x01"
ID_IN_FRONT_BYTES: Final = 5
GUID_BYTES: Final = 17


@dataclass(frozen=True, slots=True)
class SchemaRef:
    """A reference to a schema: ``kind`` is "id" or "guid" (a registry's), or "fingerprint" (of a file)."""

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


def schema_in_headers(headers: Iterable[tuple[str, bytes]], *, key: bool = False) -> tuple[SchemaRef, bytes] | None:
    """The schema that a header names, and what stands behind it there. Raises Corruption where that header is there and
    says nothing readable."""
    wanted = ID_HEADERS[key]
    for name, value in headers:
        if name != wanted or value is None:
            continue
        if len(value) >= GUID_BYTES and value[0] == 1:
            return SchemaRef("guid", str(UUID(bytes=bytes(value[1:GUID_BYTES])))), value[GUID_BYTES:]
        if len(value) >= ID_IN_FRONT_BYTES and value[0] == 0:
            return _id(value), value[ID_IN_FRONT_BYTES:]
        raise Corruption(f"header {wanted} was refused: expected 0 and 4 bytes, or 1 and 16 bytes, got {value[:20]!r}")
    return None


def id_in_front(data: bytes) -> tuple[SchemaRef, bytes] | None:
    """The registry's id in front of a value, and the value behind it; None where there is none."""
    if len(data) < ID_IN_FRONT_BYTES or data[0] != 0:
        return None
    return _id(data), data[ID_IN_FRONT_BYTES:]


def single_object(data: bytes) -> tuple[SchemaRef, bytes] | None:
    """The fingerprint of a single-object encoded value, and the value behind it; None where it is none."""
    if len(data) < 10 or data[:2] != SINGLE_OBJECT:
        return None
    return SchemaRef("fingerprint", data[2:10].hex()), data[10:]


def fingerprint(schema: Any) -> str:
    """The CRC-64-AVRO fingerprint of a parsed schema, as ``SchemaRef`` has it: hexadecimal, in the order of the bytes
    of a single-object value."""
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")).hex()


def _id(data: bytes) -> SchemaRef:
    return SchemaRef("id", str(struct.unpack(">I", data[1:ID_IN_FRONT_BYTES])[0]))
