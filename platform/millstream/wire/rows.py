"""Rows as bytes: what the tables hold on disk and what checkpoints write to the compacted topics.

    01  the row as Avro by its schema under schemas/state/

The first byte is the *level* of the row schemas. A row can be much older than the code that reads it (nothing rewrites
a run that sleeps for a year), so each says by which schemas it was written. Level 1 is the only one so far.

Change a row: the new schemas become level 2, the old files move to ``schemas/state/1/``, and ``decode_row`` reads
level 1 with them; a new field has a default, in the schema and in the class. Add a row: a class in ``model/rows.py``,
and its schema. The bytes themselves: the compiled codecs of ``compiled_avro.py``.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar, cast, get_args

from millstream.model.commands import HandOut, LaneMessage
from millstream.model.event import Envelope
from millstream.model.gates.declared import RunFlow, Slot
from millstream.model.operations import Failure
from millstream.model.rows import Row
from millstream.model.waits.awaited import Awaited, AwaitedEvent
from millstream.wire.compiled_avro import CompiledCodec
from millstream.wire.reference_avro import corrupt
from millstream.wire.schemas import load_schema

LEVEL: Final = b"\x01"
"""The first byte of every row that this version writes."""

AnyRow = TypeVar("AnyRow", bound=Row)


def encode_row(row: Row) -> bytes:
    """The bytes of a row, without its key. Deterministic: equal rows have equal bytes."""
    return LEVEL + _CODECS[type(row)].encode(row)


def decode_row(row_type: type[AnyRow], data: bytes) -> AnyRow:
    """The row of this type that the bytes hold; equals what was encoded.

    Raises Corruption on bytes that are not exactly one such row, or one of a level this version does not know.
    Bytes do not name their type: reading them as another row's is not always found out.
    """
    if data[:1] != LEVEL:
        raise corrupt(row_type.__name__, data, f"level {data[:1].hex() or 'nothing'} (this version knows 01)")
    return cast("AnyRow", _CODECS[row_type].decode(data, row_type.__name__, len(LEVEL)))


def schema_name(row_type: type[Row]) -> str:
    """Where the schema of a row is: ``state/seen_bucket`` for SeenBucketRow."""
    words = re.findall("[A-Z][a-z]*", row_type.__name__.removesuffix("Row"))
    return "state/" + "_".join(words).lower()


ROWS: Final[tuple[type[Row], ...]] = get_args(Row)
"""Every row class, in the order of ``model/rows.py``."""
_PARTS: Final = (Envelope, HandOut, Failure, RunFlow, Slot, AwaitedEvent, *get_args(Awaited), *get_args(LaneMessage))
_CLASSES: Final[dict[str, type[Any]]] = {"Header": tuple, **{kind.__name__: kind for kind in (*_PARTS, *ROWS)}}
_CODECS: Final[dict[type[Any], CompiledCodec[Any]]] = {
    kind: CompiledCodec(load_schema(schema_name(kind)), _CLASSES) for kind in ROWS
}
