"""Lengths of time as users write them: a timedelta, seconds, or text like ``"5m"``, ``"4m30s"``, ``"7d"``.

Inside millstream a length is a whole number of milliseconds; this is the one place where other forms are read.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.text.storable import shown

Duration = timedelta | int | float | str

LENGTH_MS_MAX: Final = 36_500 * limits.DAY_MS
"""Of any length that a user may give: far below what 64 bits hold, also when a time of today is added to it."""
_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+")


def to_ms(value: Duration, what: str) -> int:
    """The milliseconds of a length, rounded to the nearest. ``what`` names the option in the error.

    Raises FunctionError when the value is no length, is negative, or is longer than LENGTH_MS_MAX.
    """
    if isinstance(value, timedelta):
        ms = value / timedelta(milliseconds=1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        ms = float(min(max(value, -1), LENGTH_MS_MAX)) * 1_000 if isinstance(value, int) else value * 1_000
    elif isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        ms = sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(value))
    else:
        raise FunctionError(
            f'{what} refused: expected a timedelta, seconds, or text like "5m", "4m30s", "1h", "7d", got '
            f"{shown(value)}."
        )
    if not 0 <= ms <= LENGTH_MS_MAX:
        raise FunctionError(f"{what} refused: expected a length of 0 to 36,500 days, got {shown(value)}.")
    return round(ms)


def instant_ms(value: datetime | str, what: str) -> int:
    """The Unix milliseconds of an aware datetime or an ISO 8601 text with an offset, kept within 1970 to 2100.

    Raises FunctionError when there is no offset: a time without one means another moment on every machine.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise FunctionError(
                f'{what} refused: expected an ISO 8601 time such as "2026-11-23T09:00:00+01:00", got {shown(value)}.'
            ) from error
    if value.tzinfo is None:
        raise FunctionError(
            f"{what} refused: expected a time with a zone, got {shown(value)}. Add tzinfo=timezone.utc, or an offset."
        )
    return round(min(max(value.timestamp(), 0.0), limits.EVENT_TS_MAX_MS / 1_000) * 1_000)


def duration_text(ms: int) -> str:
    """Milliseconds as they are written: ``90000`` is ``1m30s``."""
    parts = []
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, ms = divmod(ms, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
