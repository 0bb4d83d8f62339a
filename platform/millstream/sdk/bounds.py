"""What bounds the runs of a function: ``CancelOn`` and ``Timeouts``, as ``@app.function`` takes them."""

from __future__ import annotations

import msgspec

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.function import CancelTrigger
from millstream.model.text.durations import Duration, to_ms
from millstream.model.text.storable import is_storable, shown, type_name


class CancelOn(msgspec.Struct, frozen=True):
    """An event that cancels a run that is open.

    ``match``    a path, such as ``data.order_id``, that must hold the same value in it and in the run's own event.
    ``if_``      CEL over ``event``, the run's own, and ``async``, the one that comes.
    ``timeout``  for how long after the run's start it counts. Default: as long as the run is open.

    An event received before the run's own cancels nothing.
    """

    event: str
    match: str = ""
    if_: str = ""
    timeout: Duration | None = None


class Timeouts(msgspec.Struct, frozen=True):
    """Times after which a run is cancelled: ``start``, if it has not begun; ``finish``, if it is not over.

    Both count from when the run was to begin.
    """

    start: Duration | None = None
    finish: Duration | None = None


def cancel_triggers(slug: str, cancel_on: object) -> tuple[CancelTrigger, ...]:
    """The events that cancel runs of a function. Raises FunctionError naming what cannot be."""
    given = (cancel_on,) if isinstance(cancel_on, CancelOn) else cancel_on
    if not isinstance(given, list | tuple):
        raise _refused(slug, "cancel_on takes CancelOn(event, match=, if_=, timeout=), one or a list of them", given)
    return tuple(_trigger(slug, one) for one in given)


def _trigger(slug: str, one: object) -> CancelTrigger:
    if not isinstance(one, CancelOn):
        raise _refused(slug, "cancel_on takes CancelOn(event, match=, if_=, timeout=)", one)
    given: tuple[tuple[str, object], ...] = (("event", one.event), ("match", one.match), ("if_", one.if_))
    for what, text in given:
        if not isinstance(text, str) or not is_storable(text) or len(text) > limits.EXPRESSION_CHARS_MAX:
            raise _refused(slug, f"{what} of cancel_on must be text", text)
    if one.match and not all(one.match.split(".")):
        raise _refused(slug, "match of cancel_on must be a path such as 'data.order_id'", one.match)
    timeout_ms = 0 if one.timeout is None else to_ms(one.timeout, f"timeout of cancel_on of function {slug!r}")
    return CancelTrigger(str.__str__(one.event), str.__str__(one.match), str.__str__(one.if_), timeout_ms)


def timeouts_ms(slug: str, timeouts: object) -> tuple[int, int]:
    """The milliseconds of start and finish, 0 for none. Raises FunctionError on anything but Timeouts."""
    if timeouts is None:
        return 0, 0
    if not isinstance(timeouts, Timeouts):
        raise _refused(slug, "timeouts takes Timeouts(start=, finish=)", timeouts)
    return _length(slug, "start", timeouts.start), _length(slug, "finish", timeouts.finish)


def _length(slug: str, what: str, length: Duration | None) -> int:
    if length is None:
        return 0
    ms = to_ms(length, f"timeouts.{what} of function {slug!r}")
    if not 0 < ms <= limits.WAIT_MS_MAX:
        raise _refused(slug, f"timeouts.{what} must be above 0 and at most 366 days", length)
    return ms


def _refused(slug: str, expected: str, got: object) -> FunctionError:
    return FunctionError(f"function {slug!r} refused: {expected}, got {type_name(got)} {shown(got)}.")
