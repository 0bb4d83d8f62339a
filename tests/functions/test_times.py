"""Times and lengths that users give are kept within what 64 bits and a calendar hold, or refused with their range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo

import pytest

from millstream import Topic
from millstream.errors import FunctionError, RetryAfterError
from millstream.execute.failures import step_errored
from millstream.model import limits
from millstream.model.text.durations import LENGTH_MS_MAX, instant_ms, to_ms

NOW_MS = 1_795_356_850_000
EAST, WEST = timezone(timedelta(hours=23, minutes=59)), timezone(-timedelta(hours=23, minutes=59))
HUGE = 10**5_000
FAR = [datetime.max, datetime.min]  # noqa: DTZ901 (zones are added)


@pytest.mark.parametrize(
    "length",
    [
        1e300,
        10**400,
        10**5_000,
        -1,
        -(10**400),
        float("nan"),
        float("inf"),
        "9" * 400 + "d",
        "36501d",
        True,
        None,
        b"5m",
    ],
    ids=lambda value: f"{value:.0e}" if isinstance(value, float) else type(value).__name__,
)
def test_a_length_out_of_range_is_refused(length: object) -> None:
    with pytest.raises(FunctionError, match="refused: expected a"):
        to_ms(length, "timeout")  # type: ignore[arg-type]


def test_the_longest_length_is_taken() -> None:
    assert to_ms("36500d", "timeout") == to_ms(timedelta(days=36_500), "timeout") == LENGTH_MS_MAX


@pytest.mark.parametrize("zone", [UTC, EAST, WEST], ids=str)
def test_a_time_at_the_ends_of_the_calendar_is_kept_within_what_is_stored(zone: tzinfo) -> None:
    assert instant_ms(datetime.min.replace(tzinfo=zone), "sleep") == 0
    assert instant_ms(datetime.max.replace(tzinfo=zone), "sleep") == limits.EVENT_TS_MAX_MS


@pytest.mark.parametrize(
    "since", [1, -1, 10**30, HUGE, True, 1.5, "soon", None], ids=lambda value: type(value).__name__
)
def test_a_topic_since_no_time_is_refused(since: object) -> None:
    with pytest.raises(FunctionError, match="since must be"):
        Topic("t", since=since)  # type: ignore[arg-type]


def test_a_topic_since_seconds_says_what_was_meant() -> None:
    with pytest.raises(FunctionError, match="looks like seconds: write 1767225600000"):
        Topic("t", since=1_767_225_600)


@pytest.mark.parametrize("zone", [UTC, EAST, WEST], ids=str)
def test_a_topic_since_a_far_time_begins_at_the_edge_and_never_at_a_word(zone: tzinfo) -> None:
    edges = (limits.EVENT_TS_MIN_MS, limits.EVENT_TS_MAX_MS)
    for at, edge in zip(reversed(FAR), edges, strict=True):
        assert Topic("t", since=at.replace(tzinfo=zone)).trigger("").since_ms == edge
    before_1970 = datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert Topic("t", since=before_1970).trigger("").since_ms == limits.EVENT_TS_MIN_MS


@pytest.mark.parametrize(
    "after",
    [1e300, -1e300, 10**300, timedelta.max, timedelta.min, "999999999999999d", "-5", 0]
    + [at.replace(tzinfo=zone) for at in FAR for zone in (UTC, EAST, WEST)]
    + FAR
    + ["Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359"],
    ids=lambda value: str(value)[:32],
)
def test_a_retry_is_asked_for_within_a_day_whatever_is_said(after: object) -> None:
    reported = step_errored("a", "a", _asking(after), NOW_MS, NOW_MS)
    assert -1 <= reported.retry_after_ms <= limits.RETRY_AFTER_MS_MAX


def _asking(after: object) -> Exception:
    """The error that asks for it; or its refusal, which is as good."""
    try:
        return RetryAfterError("busy", after)  # type: ignore[arg-type]
    except FunctionError as refused:
        return refused
