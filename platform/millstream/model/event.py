"""Events: what users send (``Event``) and how one rests in a topic (``Envelope``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=False):
    """An immutable named fact from a user.

    ``name``   for example ``order/placed``; names starting ``inngest/`` are the server's own.
    ``data``   a JSON object.
    ``id``     the sender's id; the same id within 24 h starts nothing a second time.
    ``ts``     Unix milliseconds; in the future: functions start then. Default: now.
    ``key``    events of one key go to one partition, in order. Default: the id.
    ``user``, ``v``, ``meta``  carried along untouched.
    """

    name: str
    data: Mapping[str, Any] = msgspec.field(default_factory=dict)
    id: str | None = None
    ts: int | None = None
    key: str | None = None
    user: Mapping[str, Any] | None = None
    v: str | None = None
    meta: Mapping[str, Any] | None = None


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """An event as it rests in the events topic; ``schemas/messages/event.avsc`` field for field.

    ``internal_id``     ULID text given at the door: one per event *received*.
    ``id``              the client's id, else the internal one: one per event *meant*.
    ``id_is_clients``   who gave ``id``; decides how long it is remembered (24 h or 10 min).
    ``data``            UTF-8 JSON of an object.
    ``user``, ``meta``  UTF-8 JSON, or empty.
    ``catalogue``       how much of the functions topic the door had seen (lanes.md rule 23).
    """

    internal_id: str
    id: str
    id_is_clients: bool
    name: str
    data: bytes
    ts_ms: int
    received_at_ms: int
    key: str = ""
    user: bytes = b""
    v: str = ""
    meta: bytes = b""
    catalogue: int = 0


ID_HEADER = "millstream-id"
"""The header that names a record of a foreign topic, where its producer gives it an id."""
TOMBSTONE = ("millstream-tombstone", b"1")
"""The header of a record without a value, which deletes what its key has in a compacted topic."""
NOT_SENT = "millstream-not-sent"
"""The header of a record that a step publishes and that its topic cannot take: why, as text. It is never sent."""
INTERNAL_PREFIX = "inngest/"
FUNCTION_FINISHED = "inngest/function.finished"
FUNCTION_FAILED = "inngest/function.failed"
FUNCTION_CANCELLED = "inngest/function.cancelled"
FUNCTION_INVOKED = "inngest/function.invoked"
SCHEDULED_TIMER = "inngest/scheduled.timer"
