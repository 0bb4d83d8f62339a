"""Rows as bytes: what the tables hold on disk and what checkpoints write to the compacted topics.

    01  the row as Avro by its schema under schemas/state/

The first byte is the *level* of the row schemas. A row can be much older than the code that reads it (nothing rewrites
a run that sleeps for a year), so each says by which schemas it was written. Level 1 is the only one so far.

Change a row: the new schemas become level 2, the old files move to ``schemas/state/1/``, and ``decode_row`` reads
level 1 with them; a new field has a default, in the schema and in the class. Add a row: a class in ``model/rows.py``,
its schema, and a case in the tables below only if it is not flat.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final, TypeVar, get_args

import fastavro
from msgspec.structs import asdict

from penstock.model.event import Envelope
from penstock.model.rows import EventRow, OutboxRow, PublishRow, Row, RunRow
from penstock.wire.plain import corrupt, message_of, plain_message, plain_publish, publish_fields, read_datum
from penstock.wire.schemas import load_schema

LEVEL: Final = b"\x01"
"""The first byte of every row that this version writes."""
_NAMESPACE: Final = "penstock.state"

AnyRow = TypeVar("AnyRow", bound=Row)


def encode_row(row: Row) -> bytes:
    """The bytes of a row, without its key. Deterministic: equal rows have equal bytes."""
    schema, plain = _WRITERS[type(row)]
    target = BytesIO()
    target.write(LEVEL)
    fastavro.schemaless_writer(target, schema, plain(row))
    return target.getvalue()


def decode_row(row_type: type[AnyRow], data: bytes) -> AnyRow:
    """The row of this type that the bytes hold; equals what was encoded.

    Raises Corruption on bytes that are not exactly one such row, or one of a level this version does not know.
    Bytes do not name their type: reading them as another row's is not always found out.
    """
    schema, fields = _READERS[row_type]
    if data[:1] != LEVEL:
        raise corrupt(row_type.__name__, data, f"level {data[:1].hex() or 'nothing'} (this version knows 01)")
    plain = read_datum(schema, data[1:], row_type.__name__)
    return row_type(**(fields(plain) if fields is not None else plain))


def schema_name(row_type: type[Row]) -> str:
    """Where the schema of a row is: ``state/seen_bucket`` for SeenBucketRow."""
    words = re.findall("[A-Z][a-z]*", row_type.__name__.removesuffix("Row"))
    return "state/" + "_".join(words).lower()


def _plain_event(row: EventRow) -> dict[str, Any]:
    return {"event": asdict(row.event), "runs": row.runs}


def _event_fields(plain: dict[str, Any]) -> dict[str, Any]:
    plain["event"] = Envelope(**plain["event"])
    return plain


def _plain_outbox(row: OutboxRow) -> dict[str, Any]:
    return {"to_lane": row.to_lane, "seq": row.seq, "message": plain_message(row.message, _NAMESPACE)}


def _outbox_fields(plain: dict[str, Any]) -> dict[str, Any]:
    plain["message"] = message_of(plain["message"])
    return plain


def _run_fields(plain: dict[str, Any]) -> dict[str, Any]:
    plain["events"] = tuple(plain["events"])
    plain["steps"] = tuple(plain["steps"])
    return plain


# Rows that are not flat: how they become a dict, and how the dict read becomes their fields.
_PLAIN: Final[dict[type[Any], Callable[[Any], dict[str, Any]]]] = {
    EventRow: _plain_event,
    OutboxRow: _plain_outbox,
    PublishRow: plain_publish,
}
_FIELDS: Final[dict[type[Any], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    EventRow: _event_fields,
    OutboxRow: _outbox_fields,
    PublishRow: publish_fields,
    RunRow: _run_fields,
}
ROWS: Final[tuple[type[Row], ...]] = get_args(Row)
"""Every row class, in the order of ``model/rows.py``."""
_SCHEMAS: Final = {kind: load_schema(schema_name(kind)) for kind in ROWS}
_WRITERS: Final[dict[type[Any], tuple[Any, Callable[[Any], dict[str, Any]]]]] = {
    kind: (_SCHEMAS[kind], _PLAIN.get(kind, asdict)) for kind in ROWS
}
_READERS: Final[dict[type[Any], tuple[Any, Callable[[dict[str, Any]], dict[str, Any]] | None]]] = {
    kind: (_SCHEMAS[kind], _FIELDS.get(kind)) for kind in ROWS
}
