"""What the tools that wait are given, checked where they are called, and what they give back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.operations import Condition
from millstream.model.text.durations import Duration, to_ms
from millstream.model.text.storable import is_storable, shown, type_name
from millstream.sdk.payloads import encode, reader_of
from millstream.sdk.received import Received, recorded

T = TypeVar("T")
INVOKE_TIMEOUT: Duration = "365d"


class On(msgspec.Struct, Generic[T], frozen=True):
    """One of the events that ``wait_for_any`` and ``wait_for_all`` wait for.

    ``event``  the name of the event, no wildcard.
    ``match``  a path, such as ``data.order_id``, that must hold the same value in it and in the run's own event.
    ``if_``    CEL over ``event``, the run's own, and ``async``, the one that comes.
    ``type_``  what its data is decoded into; None: plain JSON.
    """

    event: str
    match: str = ""
    if_: str = ""
    type_: type[T] | None = None


def conditions(id: str, on: object) -> tuple[Condition, ...]:
    """The conditions of a wait. Raises FunctionError naming the first that cannot be."""
    if not isinstance(on, Sequence) or isinstance(on, str | bytes):
        raise FunctionError(
            f"step {id!r} refused: expected a list of On(event, match=, if_=), got {type_name(on)} {shown(on)}. "
            'Write ctx.step.wait_for_any("paid", [On("order/paid", match="data.id")], timeout="1h").'
        )
    if not 1 <= len(on) <= limits.WAIT_CONDITIONS_MAX:
        raise FunctionError(
            f"step {id!r} refused: a wait names 1 to {limits.WAIT_CONDITIONS_MAX} events, got {len(on)}. "
            "Wait in several steps, beside each other with asyncio.gather."
        )
    return tuple(_condition(id, one) for one in on)


def _condition(id: str, on: object) -> Condition:
    if not isinstance(on, On):
        raise FunctionError(f"step {id!r} refused: expected On(event, match=, if_=), got {type_name(on)} {shown(on)}.")
    name = _text(id, "event", on.event, limits.EVENT_NAME_CHARS_MAX)
    match, expression = _text(id, "match", on.match, limits.EXPRESSION_CHARS_MAX), on.if_
    if not name or "*" in name:
        raise FunctionError(
            f"step {id!r} refused: event must be the name of the events that are waited for, without wildcards, "
            f"got {shown(on.event)}. Name several with wait_for_any."
        )
    if match and not all(match.split(".")):
        raise FunctionError(
            f"step {id!r} refused: match must be a path such as 'data.order_id', got {shown(match)}. "
            "For anything else there is if_."
        )
    return Condition(name, match, _text(id, "if_", expression, limits.EXPRESSION_CHARS_MAX))


def _text(id: str, what: str, value: object, chars_max: int) -> str:
    if not isinstance(value, str) or not is_storable(value) or len(value) > chars_max:
        raise FunctionError(
            f"step {id!r} refused: {what} must be text of at most {chars_max} characters, got {type_name(value)} "
            f"{shown(value)}."
        )
    return str.__str__(value)


def timeout_ms(id: str, timeout: Duration) -> int:
    """How long a wait lasts at most, up to 366 days."""
    ms = to_ms(timeout, f"the timeout of step {id!r}")
    if ms > limits.WAIT_MS_MAX:
        raise FunctionError(f"step {id!r} refused: a wait may last at most 366 days, got {shown(timeout)}.")
    return ms


def lookback_ms(id: str, lookback: Duration | None) -> int:
    """How far back events count; −1: to the run's own event."""
    return -1 if lookback is None else to_ms(lookback, f"the lookback of step {id!r}")


def signal_name(id: str, signal: object) -> str:
    """The name of a signal."""
    name = _text(id, "signal", signal, limits.SIGNAL_NAME_CHARS_MAX)
    if not name:
        raise FunctionError(f"step {id!r} refused: a signal has a name, got an empty text.")
    return name


def is_replacing(id: str, on_conflict: object) -> bool:
    """Whether a wait takes a signal from the run that waits for it already."""
    if on_conflict not in ("fail", "replace"):
        raise FunctionError(f"step {id!r} refused: on_conflict must be 'fail' or 'replace', got {shown(on_conflict)}.")
    return on_conflict == "replace"


def invoked_data(id: str, data: Mapping[str, object] | None) -> bytes:
    """The data of the event that an invoked function gets. Raises FunctionError on anything but an object."""
    written = encode(data if data is not None else {}, f"the data of step {id!r}")
    if not written.startswith(b"{"):
        raise FunctionError(
            f"step {id!r} refused: data must be a JSON object, got {shown(data)}. Write data={{'order': 1}}."
        )
    return written


# --- results ----------------------------------------------------------------------------------------


class _Any(msgspec.Struct, frozen=True):
    """The result of a wait for the first of several events."""

    index: int
    event: msgspec.Raw


_ANY = msgspec.json.Decoder(_Any)
_ALL = msgspec.json.Decoder(list[msgspec.Raw])
NOTHING = b"null"


def first_of(data: bytes, on: Sequence[On[Any]]) -> Received[Any] | None:
    """The event that came first; None: none came in time."""
    if data == NOTHING:
        return None
    if len(on) == 1:
        return recorded(data, reader_of(on[0].type_))
    found = _ANY.decode(data)
    return recorded(bytes(found.event), reader_of(on[found.index].type_), found.index)


def all_of(data: bytes, on: Sequence[On[Any]]) -> list[Received[Any]] | None:
    """The events, in the order of their conditions; None: not all came in time."""
    if data == NOTHING:
        return None
    if len(on) == 1:
        return [recorded(data, reader_of(on[0].type_))]
    every = enumerate(zip(_ALL.decode(data), on, strict=True))
    return [recorded(bytes(part), reader_of(one.type_), at) for at, (part, one) in every]
