"""A run as the SDKs' protocol shows it to an app: its events, and the steps that it remembers.

Whoever shows a run to an SDK uses this: the call of an app, and the API that an app asks where a call would be too
large. The values rest in rows as JSON already and are not read, so these are bytes put together.

The rule: **one key a step**. An SDK takes ``{"data": …}`` and ``{"error": …}`` as its own words and whatever else as
the value itself, so a sleep is bare null and the event of a wait stands for itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from millstream.errors import INVOKE_TIMEOUT
from millstream.model.error_object import members
from millstream.model.event import Envelope
from millstream.model.operations import failure_of
from millstream.model.rows import Hand, StepRow
from millstream.model.waits.awaited import AwaitedSignal

NOTHING: Final = b"null"
TIMED_OUT: Final = "Timed out waiting for invoked function to complete"
_quoted: Final = msgspec.json.encode
_sorted: Final = msgspec.json.Encoder(order="sorted")


def memo_of(row: StepRow) -> bytes | None:
    """The JSON of a step as an SDK remembers it; None where it is not resolved yet."""
    if row.hand == Hand.DONE:
        match row.kind:
            case "sleep":
                return NOTHING
            case "wait_for_event":
                return _event_that_came(row.data)
            case "wait_for_signal":
                return _signal(row)
        return b'{"data":%b}' % row.data
    if row.hand != Hand.FAILED:
        return None
    return b'{"error":%b}' % _quoted(_error(row), order="sorted")


def memos(rows: Iterable[StepRow]) -> bytes:
    """The JSON object of all steps that are resolved, by step id."""
    remembered = sorted((row.step, memo) for row in rows if (memo := memo_of(row)) is not None)
    return b"{%b}" % b",".join(b"%b:%b" % (_quoted(step), memo) for step, memo in remembered)


def resolved_order(rows: Iterable[StepRow]) -> list[str]:
    """The ids of the resolved steps, in the order in which they were."""
    resolved = [row for row in rows if row.hand in (Hand.DONE, Hand.FAILED)]
    return [row.step for row in sorted(resolved, key=lambda row: row.order)]


def event_object(event: Envelope, *, user: bool) -> bytes:
    """The JSON object of an event, its keys in order. ``user``: with a ``user`` also where it has none."""
    parts = [b'"data":%b' % (event.data or b"{}"), b'"id":%b' % _quoted(event.id)]
    if event.meta:
        parts.append(b'"meta":%b' % event.meta)
    parts += [b'"name":%b' % _quoted(event.name), b'"ts":%d' % event.ts_ms]
    if event.user or user:
        parts.append(b'"user":%b' % (event.user or b"{}"))
    if event.v:
        parts.append(b'"v":%b' % _quoted(event.v))
    return b"{%b}" % b",".join(parts)


def event_objects(events: Iterable[Envelope], *, user: bool) -> bytes:
    """The JSON array of the events."""
    return b"[%b]" % b",".join(event_object(event, user=user) for event in events)


def _event_that_came(data: bytes) -> bytes:
    """The event of a wait: without what only our own SDK knows, and with a user, if an empty one; null: none came."""
    if data == NOTHING:
        return NOTHING
    event = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    event.pop("key", None)
    event.setdefault("user", msgspec.Raw(b"{}"))
    return _sorted.encode(event)


def _signal(row: StepRow) -> bytes:
    """The signal that came, which may have brought null; null: none did."""
    awaits = row.awaits
    if not isinstance(awaits, AwaitedSignal):
        return NOTHING
    return b'{"data":{"data":%b,"signal":%b}}' % (row.data or NOTHING, _quoted(awaits.signal))


def _error(row: StepRow) -> dict[str, object]:
    failure = failure_of(row.data)
    if failure.name == INVOKE_TIMEOUT:  # As its SDKs know it: without a stack, which would be of nobody's code.
        return {"error": f"{INVOKE_TIMEOUT}: {TIMED_OUT}", "message": TIMED_OUT, "name": INVOKE_TIMEOUT}
    error = {**members(failure.more), "message": failure.message, "name": failure.name}
    error.pop("__serialized", None)
    if failure.stack:
        error["stack"] = failure.stack
    return error
