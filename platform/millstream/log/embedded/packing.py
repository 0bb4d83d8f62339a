"""How the embedded log packs the records of one append into one blob, and how it checks it.

One append is one row, so that it is there whole or not at all. Nearly all of them are one journal record or
a hundred events without keys and headers: those two forms cost a join, no per-record Python.

    00  one value           the rest of the blob
    01  values only         u32 count, u32 length of each, then the values
    02  anything            u32 count, then per record: i32 value length, i32 key length (-1: None),
                            u16 headers, value, key, then per header: u16 length, u32 length, name, value

All numbers are little-endian. The checksum covers position, count, time and blob, so that a row that was
moved or whose time changed is found as well. Add a form: a new first byte; old ones stay readable for ever.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from millstream.log.port import Produced, Record

_ONE = b"\x00"
_VALUES_ONLY = 1
_ANY = 2
_FORM_HEAD = struct.Struct("<BI")
_RECORD_HEAD = struct.Struct("<iiH")
_HEADER_HEAD = struct.Struct("<HI")
_CHECKED_HEAD = struct.Struct("<qiq")


def pack(records: Sequence[Produced]) -> bytes:
    """The records of one append as one blob."""
    if len(records) == 1:
        only = records[0]
        if only.key is None and not only.headers and only.value is not None:
            return _ONE + only.value
    contents = [record.value for record in records if record.key is None and not record.headers]
    values = [value for value in contents if value is not None]
    if len(values) == len(records):
        lengths = struct.pack(f"<{len(values)}I", *map(len, values))
        return b"".join((_FORM_HEAD.pack(_VALUES_ONLY, len(values)), lengths, *values))
    parts = [_FORM_HEAD.pack(_ANY, len(records))]
    for record in records:
        value_len = -1 if record.value is None else len(record.value)
        key_len = -1 if record.key is None else len(record.key)
        parts.append(_RECORD_HEAD.pack(value_len, key_len, len(record.headers)))
        parts.append(record.value or b"")
        parts.append(record.key or b"")
        for name, content in record.headers:
            encoded = name.encode()
            parts += (_HEADER_HEAD.pack(len(encoded), len(content)), encoded, content)
    return b"".join(parts)


def unpack(blob: bytes, first_offset: int, at_ms: int) -> list[Record]:
    """The records of a blob whose checksum was right; the first one has ``first_offset``."""
    form = blob[0]
    if form == 0:
        return [Record(first_offset, at_ms, blob[1:])]
    count = _FORM_HEAD.unpack_from(blob)[1]
    at = _FORM_HEAD.size
    if form == _VALUES_ONLY:
        lengths = struct.unpack_from(f"<{count}I", blob, at)
        at += 4 * count
        records = []
        for offset, length in enumerate(lengths, first_offset):
            records.append(Record(offset, at_ms, blob[at : at + length]))
            at += length
        return records
    assert form == _ANY, f"unknown packing form {form}: the row was written by a newer version"
    return _unpack_any(blob, at, [(first_offset + n, at_ms) for n in range(count)])


def _unpack_any(blob: bytes, at: int, stamps: list[tuple[int, int]]) -> list[Record]:
    records = []
    for offset, at_ms in stamps:
        value_len, key_len, header_count = _RECORD_HEAD.unpack_from(blob, at)
        at += _RECORD_HEAD.size
        value = None if value_len < 0 else blob[at : at + value_len]
        at += max(value_len, 0)
        key = None if key_len < 0 else blob[at : at + key_len]
        at += max(key_len, 0)
        headers = []
        for _ in range(header_count):
            name_len, content_len = _HEADER_HEAD.unpack_from(blob, at)
            at += _HEADER_HEAD.size
            name = blob[at : at + name_len].decode()
            headers.append((name, blob[at + name_len : at + name_len + content_len]))
            at += name_len + content_len
        records.append(Record(offset, at_ms, value, key, tuple(headers)))
    return records


def checksum(position: int, count: int, at_ms: int, blob: bytes) -> int:
    """The CRC-32 stored beside a row and compared at every read from disk."""
    return zlib.crc32(blob, zlib.crc32(_CHECKED_HEAD.pack(position, count, at_ms)))
