"""Crons: when a schedule fires next.

    0 9 * * 1-5                    minute hour day-of-month month day-of-week
    TZ=Europe/Paris 0 9 * * 1-5    in that zone (CRON_TZ= means the same); without it: UTC
    @hourly @daily @weekly @monthly @yearly (also @midnight, @annually)
    @every 1h30m                   multiples of that length since 1970, so that every lane and every restart agree

Fields take ``*``, ``?`` (= ``*``), lists, ranges, steps, names (``JAN``, ``MON``), ``L``, ``LW`` and ``MON#2``. When
both day fields are restricted, either of them is enough; when one starts with ``*``, both must match (as in Debian's
cron).

Daylight saving, as in Debian's cron: a schedule with a fixed hour and minute fires once a day whatever the clocks do. A
time that is skipped in spring fires right after the gap; a time that comes twice in autumn fires the first time only.
A schedule with ``*`` in its minute or hour field follows real time: it fires in both of the repeated hours, and not in
the hour that does not exist.

Rule kept: pure; the time comes in as an argument. To add a descriptor: one line in ``_DESCRIPTORS``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from millstream.errors import FunctionError

CRON_CHARS_MAX = 255
EVERY_MIN_MS = 1_000
EVERY_MAX_MS = 366 * 24 * 3_600_000
COMPILED_MAX = 1_024

_AT_MAX_MS = (
    200_000_000_000_000  # In the year 8307: far from datetime's end, so a search for the next firing cannot overflow.
)
_FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day-of-month", "1-31 or L"),
    ("month", "1-12 or JAN-DEC"),
    ("day-of-week", "0-7 or SUN-SAT"),
)
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EXAMPLE = "Write for instance '0 9 * * 1-5' or 'TZ=Europe/Paris 0 9 * * 1-5'."
_LENGTH = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed schedule: its five ``fields``, or how often in ``every_ms``. Made by ``parse_cron``."""

    text: str
    zone: str
    fields: str
    every_ms: int

    def next_after(self, at_ms: int) -> int:
        """The first firing strictly after that moment; both in Unix milliseconds, a firing in whole seconds."""
        assert 0 <= at_ms <= _AT_MAX_MS, f"a moment in Unix ms between 1970 and 8307, got {at_ms}"
        if self.every_ms:
            return (at_ms // self.every_ms + 1) * self.every_ms
        for firing in CronSim(self.fields, _moment(at_ms, self.zone)):
            firing_at_ms = _unix_ms(firing)
            # In the hour that comes twice cronsim goes by the clock on the wall and may name a moment already past.
            if firing_at_ms > at_ms:
                return firing_at_ms
        raise AssertionError(f"cron {self.text!r} fired once when it was parsed and must fire again after {at_ms}")


@lru_cache(maxsize=COMPILED_MAX)
def parse_cron(text: str) -> Cron:
    """Parse a schedule. Raises FunctionError saying what was expected and what was got."""
    if len(text) > CRON_CHARS_MAX:
        raise FunctionError(
            f"cron has {len(text)} characters, expected at most {CRON_CHARS_MAX}: {text[:60]!r}…. {_EXAMPLE}"
        )
    zone, schedule = _split_zone(text)
    name, _, rest = schedule.partition(" ")
    if name.lower() == "@every":
        return Cron(text, zone, "", _every_ms(text, rest.strip()))
    fields = _DESCRIPTORS.get(schedule.lower(), schedule)
    if fields.startswith("@"):
        known = ", ".join(_DESCRIPTORS)
        raise FunctionError(
            f"cron {text!r} names no known schedule: expected {known} or '@every 1h30m', got {schedule!r}."
        )
    fields = " ".join("*" if part == "?" else part for part in fields.split())
    _check_fields(text, fields)
    return Cron(text, zone, fields, 0)


def _split_zone(text: str) -> tuple[str, str]:
    """The zone (default UTC) and the schedule without its prefix."""
    stripped = text.strip()
    prefix = re.match(r"(?:CRON_TZ|TZ)=(\S*)\s*", stripped)
    if prefix is None:
        return "UTC", stripped
    zone = prefix[1]
    try:
        _zone(zone)
    except (KeyError, ValueError, OSError):
        raise FunctionError(
            f"cron {text!r} has an unknown time zone: expected a name of the IANA database such as"
            f" Europe/Paris, got {zone!r}."
        ) from None
    return zone, stripped[prefix.end() :]


def _every_ms(text: str, length: str) -> int:
    match = _LENGTH.fullmatch(length)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    every_ms = ((hours * 60 + minutes) * 60 + seconds) * 1_000
    if not EVERY_MIN_MS <= every_ms <= EVERY_MAX_MS:
        raise FunctionError(
            f"cron {text!r} has no usable length: expected hours, minutes and seconds such as '@every 1h30m', from 1s"
            f" to 8784h, got {length!r}."
        )
    return every_ms


def _check_fields(text: str, fields: str) -> None:
    parts = fields.split()
    if len(parts) != len(_FIELDS):
        names = ", ".join(name for name, _ in _FIELDS)
        raise FunctionError(f"cron {text!r} has {len(parts)} fields, expected 5 ({names}). {_EXAMPLE}")
    try:
        # The days of 2000 to 2050 hold every combination of date and weekday, so what does not fire then never fires.
        next(CronSim(fields, datetime(2000, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise FunctionError(_bad_field(text, parts, str(error))) from None
    except StopIteration:
        raise FunctionError(f"cron {text!r} never fires: no day of the next 50 years fits. {_EXAMPLE}") from None


def _bad_field(text: str, parts: list[str], problem: str) -> str:
    for (name, allowed), part in zip(_FIELDS, parts, strict=True):
        if name == problem.removeprefix("Bad "):
            return f"cron {text!r} has a bad {name} field: expected {allowed} (with * , - /), got {part!r}. {_EXAMPLE}"
    return f"cron {text!r} is not valid: {problem}. {_EXAMPLE}"


@lru_cache(maxsize=COMPILED_MAX)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _moment(at_ms: int, zone: str) -> datetime:
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return moment if zone == "UTC" else moment.astimezone(_zone(zone))


def _unix_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
