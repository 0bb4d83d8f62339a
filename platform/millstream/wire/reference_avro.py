"""The reference reader: Avro read by fastavro, and the error for bytes that are no record.

Frequent records have compiled codecs (``compiled_avro.py``); all other records, and every error, go through here. The
rule: bytes that are not exactly one record are Corruption, never a guess.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro

from millstream.errors import Corruption

# What fastavro raises on bytes that are not a record. Overflow and Memory: absurd lengths.
_BROKEN = (EOFError, ValueError, LookupError, TypeError, OverflowError, MemoryError, RecursionError)


def read_datum(schema: Any, data: bytes, what: str) -> dict[str, Any]:
    """The record that ``data`` holds from its first byte to its last; union branches as ``(full name, dict)``.

    Raises Corruption, naming ``what`` was expected.
    """
    source = BytesIO(data)
    try:
        datum: dict[str, Any] = fastavro.schemaless_reader(source, schema, None, return_record_name=True)  # type: ignore[assignment]
    except _BROKEN as broken:
        raise corrupt(what, data, f"{type(broken).__name__}: {broken}") from broken
    if source.tell() != len(data):
        raise corrupt(what, data, f"a record that ends after {source.tell()} bytes")
    return datum


def corrupt(what: str, data: bytes, got: str) -> Corruption:
    """The error for bytes that should be ``what`` and are not."""
    return Corruption(
        f"{what} cannot be read: expected one whole Avro record in {len(data)} bytes, got {got[:200]} "
        f"(first bytes {data[:16].hex(' ')}). The stored bytes are not what was written, or a newer millstream wrote "
        f"them: compare with a backup or replica, and run the version that wrote them."
    )
