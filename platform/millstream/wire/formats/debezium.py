"""Debezium change events: ``{before, after, source, op, ts_ms}``, alone or inside ``{schema, payload}``.

The rule: the data stays the envelope, so that an expression can ask for ``event.data.op`` or ``event.data.after.id``;
what wraps it is taken off. The event's time is the change's. The tombstone that follows a deletion is no event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from millstream.errors import Corruption
from millstream.wire.formats.content import Content
from millstream.wire.formats.json_text import event_data, member, plain

OPERATIONS: Final = {"c": "created", "u": "updated", "d": "deleted", "r": "read", "t": "truncated", "m": "message"}
WITHOUT_ROWS: Final = ("t", "m")


def change_of(value: object) -> object | None:
    """The change envelope in a decoded value, with its own text where it has one; None where it is something else."""
    held = plain(value)
    if not isinstance(held, Mapping):
        return None
    if _is_change(held):
        return value
    inside = held.get("payload") if "schema" in held else None
    return member(value, "payload") if isinstance(inside, Mapping) and _is_change(inside) else None


def _is_change(envelope: Mapping[object, object]) -> bool:
    """An ``op`` that is no text, such as a list of edits, is some other program's."""
    op = envelope.get("op")
    if not isinstance(op, str) or op not in OPERATIONS or "source" not in envelope:
        return False
    return op in WITHOUT_ROWS or "before" in envelope or "after" in envelope


def read_change(value: object) -> Content:
    """The content of a change. Raises Corruption where the value is none."""
    change = change_of(value)
    if change is None:
        held = plain(value)
        shown = sorted(map(str, held))[:8] if isinstance(held, Mapping) else type(held).__name__
        raise Corruption(
            f"a Debezium change was refused: expected op, source and before or after, got {shown}. "
            "Where the connector unwraps its records, subscribe with format='auto'."
        )
    envelope = plain(change)
    assert isinstance(envelope, Mapping)
    ts_ms = envelope.get("ts_ms")
    return Content(data=event_data(change), ts_ms=ts_ms if type(ts_ms) is int and ts_ms >= 0 else -1)
