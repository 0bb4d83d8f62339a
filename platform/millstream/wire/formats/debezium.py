"""Debezium change events: ``{before, after, source, op, ts_ms}``, alone or inside ``{schema, payload}``.

The rule: the data stays the envelope, so that an expression can ask for ``event.data.op`` or ``event.data.after.id``;
what wraps it is taken off. The event's time is the change's. The tombstone that follows a deletion is no event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from millstream.errors import Corruption
from millstream.wire.formats.avro_value import json_object
from millstream.wire.formats.content import Content

OPERATIONS: Final = {"c": "created", "u": "updated", "d": "deleted", "r": "read", "t": "truncated", "m": "message"}


def change_of(value: object) -> Mapping[str, Any] | None:
    """The change envelope in a decoded value, or None where it is something else."""
    if not isinstance(value, Mapping):
        return None
    payload = value.get("payload") if "schema" in value and isinstance(value.get("payload"), Mapping) else value
    assert isinstance(payload, Mapping)
    is_change = payload.get("op") in OPERATIONS and "source" in payload and ("before" in payload or "after" in payload)
    return payload if is_change or (payload.get("op") in ("t", "m") and "source" in payload) else None


def read_change(value: object) -> Content:
    """The content of a change. Raises Corruption where the value is none."""
    change = change_of(value)
    if change is None:
        shown = sorted(value)[:8] if isinstance(value, Mapping) else type(value).__name__
        raise Corruption(
            f"a Debezium change was refused: expected op, source and before or after, got {shown}. "
            "Where the connector unwraps its records, subscribe with format='auto'."
        )
    ts_ms = change.get("ts_ms")
    return Content(data=json_object(change), ts_ms=ts_ms if isinstance(ts_ms, int) and ts_ms >= 0 else -1)
