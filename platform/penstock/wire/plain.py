"""Structs as plain dicts for Avro and back: the forms that journal, messages and rows share.

fastavro writes dicts. A flat Struct becomes one in 0.15 µs (``msgspec.structs.asdict``); only classes with something
inside need a hand-written form, and those insides are here. The branch of a union of records is named by a *tuple
hint*, ``(full name, dict)``: without it fastavro tries one branch after the other.

The rule: what is read equals what was written, in value and in type. Bytes that are not a whole record are Corruption,
never a guess. Add a message between lanes: a class in ``model/commands.py``, a branch in the schemas, a case here.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import fastavro
from msgspec.structs import asdict

from penstock.errors import Corruption
from penstock.model.commands import CancelRun, InvokeFunction
from penstock.model.event import Envelope
from penstock.model.messages import Message

# What fastavro and the Structs raise on bytes that are not a record. Overflow and Memory: absurd lengths.
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
        f"(first bytes {data[:16].hex(' ')}). The stored bytes are not what was written, or a newer penstock wrote "
        f"them: compare with a backup or replica, and run the version that wrote them."
    )


def plain_message(message: Message, namespace: str) -> tuple[str, dict[str, Any]]:
    """A message between lanes as a tuple hint for a union of ``namespace``."""
    if type(message) is CancelRun:
        return f"{namespace}.CancelRun", asdict(message)
    assert type(message) is InvokeFunction, f"expected a message between lanes, got {type(message).__name__}"
    plain = asdict(message)
    plain["event"] = asdict(message.event)
    return f"{namespace}.InvokeFunction", plain


def message_of(branch: tuple[str, dict[str, Any]]) -> Message:
    """The message of a union's ``(full name, dict)``."""
    name, plain = branch
    if name.endswith(".CancelRun"):
        return CancelRun(**plain)
    plain["event"] = Envelope(**plain["event"])
    return InvokeFunction(**plain)


def plain_publish(publish: Any) -> dict[str, Any]:
    """A record to be produced (the fact or the row) as a dict."""
    plain = asdict(publish)
    plain["headers"] = [{"name": name, "value": value} for name, value in publish.headers]
    if publish.event is not None:
        plain["event"] = asdict(publish.event)
    return plain


def publish_fields(plain: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record to be produced, from its dict."""
    plain["headers"] = headers_of(plain["headers"])
    if plain["event"] is not None:
        plain["event"] = Envelope(**plain["event"][1])
    return plain


def headers_of(headers: Iterable[dict[str, Any]]) -> tuple[tuple[str, bytes], ...]:
    """Headers as pairs, in order."""
    return tuple((header["name"], header["value"]) for header in headers)
