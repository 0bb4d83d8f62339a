"""Times in requests: Unix milliseconds or RFC 3339, and what a number was probably meant to be where it is neither.

Nothing in a request is from before 1980 or after 2100, so a number outside of that is a mistake; when it would be a
time of today as seconds, microseconds or nanoseconds, the answer says so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from millstream.errors import BadRequest
from millstream.model import limits

DIGITS_MAX: Final = 20
_UNITS: Final = (("seconds", 1_000, 1), ("microseconds", 1, 1_000), ("nanoseconds", 1, 1_000_000))


def meant(number: float) -> str:
    """What to write instead of a number that is no time in milliseconds: with a space before it; "" for no idea."""
    for unit, times, by in _UNITS:
        at_ms = int(number * times) // by
        if limits.EVENT_TS_MIN_MS <= at_ms <= limits.EVENT_TS_MAX_MS:
            return f" {number} looks like {unit}: send milliseconds, {at_ms}."
    return ""


def parse_time(text: str, parameter: str) -> int:
    """Unix milliseconds of a query parameter: RFC 3339, or milliseconds themselves. Raises BadRequest.

    What lies outside of all that is kept is moved to its edges, 1 and ``limits.EVENT_TS_MAX_MS``.
    """
    if text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX:
        at_ms = int(text)
        if not limits.EVENT_TS_MIN_MS <= at_ms <= limits.EVENT_TS_MAX_MS and (idea := meant(at_ms)):
            raise BadRequest(f"Invalid {parameter} query parameter: expected Unix milliseconds.{idea}")
    else:
        try:
            at = datetime.fromisoformat(text)
            at_ms = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):  # The second: its offset leads out of the calendar.
            raise BadRequest(
                f"Invalid {parameter} query parameter: expected a time such as 2026-01-31T12:00:00Z, or Unix "
                f"milliseconds, got {text[:64]!r}"
            ) from None
    return min(max(at_ms, 1), limits.EVENT_TS_MAX_MS)
