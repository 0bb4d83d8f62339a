"""Is every firing of a cron the right one?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.core.triggers.cron import CRON_CHARS_MAX, parse_cron
from millstream.errors import FunctionError


def at_ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)


def firings(cron: str, after: str, count: int, zone: str = "UTC") -> list[str]:
    """The next firings, as the clock on the wall in that zone shows them."""
    moment, seen = at_ms(after, zone), []
    for _ in range(count):
        moment = parse_cron(cron).next_after(moment)
        seen.append(datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)).strftime("%m-%d %H:%M%z"))
    return seen


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 9 * * 1-5", "2024-03-04T09:00"),
        ("*/15 * * * *", "2024-03-01T12:15"),
        ("30 6 1 * *", "2024-04-01T06:30"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("0 0 * * 7", "2024-03-03T00:00"),
        ("0 0 13 * FRI", "2024-03-08T00:00"),
        ("0 0 L * ?", "2024-03-31T00:00"),
        ("0 0 * jun mon#2", "2024-06-10T00:00"),
        ("TZ=Europe/Paris 0 9 * * *", "2024-03-02T08:00"),
        ("CRON_TZ=Asia/Kolkata 0 9 * * *", "2024-03-02T03:30"),
        ("@hourly", "2024-03-01T13:00"),
        ("@daily", "2024-03-02T00:00"),
        ("@midnight", "2024-03-02T00:00"),
        ("@weekly", "2024-03-03T00:00"),
        ("@monthly", "2024-04-01T00:00"),
        ("@yearly", "2025-01-01T00:00"),
        ("@annually", "2025-01-01T00:00"),
        ("TZ=America/New_York @daily", "2024-03-02T05:00"),
        ("@every 1h30m", "2024-03-01T13:30"),
        ("@every 90s", "2024-03-01T12:01:30"),
    ],
)
def test_a_cron_fires_next_when_its_text_says(cron: str, expected: str) -> None:
    assert parse_cron(cron).next_after(at_ms("2024-03-01T12:00")) == at_ms(expected)


def test_a_firing_is_strictly_later_than_the_moment_asked_for() -> None:
    cron, noon = parse_cron("0 12 * * *"), at_ms("2024-03-01T12:00")
    assert cron.next_after(noon - 1) == noon
    assert cron.next_after(noon) == at_ms("2024-03-02T12:00")
    assert cron.next_after(noon + 1) == at_ms("2024-03-02T12:00")


def test_a_fixed_time_that_spring_skips_fires_once_right_after_the_gap() -> None:
    assert firings("TZ=Europe/Paris 30 2 * * *", "2024-03-30T12:00", 2, "Europe/Paris") == [
        "03-31 03:00+0200",
        "04-01 02:30+0200",
    ]


def test_two_fixed_times_in_the_gap_fire_as_one() -> None:
    assert firings("TZ=Europe/Paris 15,45 2 * * *", "2024-03-30T12:00", 3, "Europe/Paris") == [
        "03-31 03:00+0200",
        "04-01 02:15+0200",
        "04-01 02:45+0200",
    ]


def test_a_fixed_time_that_autumn_repeats_fires_the_first_time_only() -> None:
    assert firings("TZ=Europe/Paris 30 2 * * *", "2024-10-26T12:00", 2, "Europe/Paris") == [
        "10-27 02:30+0200",
        "10-28 02:30+0100",
    ]


def test_asked_in_the_repeated_hour_a_fixed_time_is_not_in_the_past() -> None:
    asked = at_ms("2024-10-27T02:15", "Europe/Paris", fold=1)
    assert parse_cron("TZ=Europe/Paris 30 2 * * *").next_after(asked) == at_ms("2024-10-28T02:30", "Europe/Paris")


def test_a_schedule_by_the_minute_follows_real_time_through_both_changes() -> None:
    spring = firings("TZ=Europe/Paris */30 * * * *", "2024-03-31T01:00", 3, "Europe/Paris")
    autumn = firings("TZ=Europe/Paris 0 * * * *", "2024-10-27T01:30", 3, "Europe/Paris")
    assert spring == ["03-31 01:30+0100", "03-31 03:00+0200", "03-31 03:30+0200"]
    assert autumn == ["10-27 02:00+0200", "10-27 02:00+0100", "10-27 03:00+0100"]


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("", "has 0 fields, expected 5"),
        ("* * * *", "has 4 fields, expected 5"),
        ("0 * * * * *", "has 6 fields, expected 5"),
        ("60 * * * *", "bad minute field: expected 0-59 .* got '60'"),
        ("* 24 * * *", "bad hour field"),
        ("* * 0 * *", "bad day-of-month field"),
        ("* * * 13 *", "bad month field"),
        ("* * * * MOO", "bad day-of-week field"),
        ("*/0 * * * *", "bad minute field"),
        ("0 0 30 2 *", "bad day-of-month field"),
        ("TZ=Europe/Pariss 0 * * * *", "unknown time zone: .* got 'Europe/Pariss'"),
        ("TZ=../../etc/passwd 0 * * * *", "unknown time zone"),
        ("TZ= 0 * * * *", "unknown time zone"),
        ("TZ=Europe 0 * * * *", "unknown time zone"),
        ("@sometimes", "no known schedule"),
        ("@every", "no usable length"),
        ("@every 0s", "no usable length"),
        ("@every 5", "no usable length"),
        ("@every 9999h", "no usable length"),
        ("*" * (CRON_CHARS_MAX + 1), "256 characters, expected at most 255"),
    ],
)
def test_a_bad_cron_is_refused_with_what_was_expected_and_got(cron: str, message: str) -> None:
    with pytest.raises(FunctionError, match=message):
        parse_cron(cron)


ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata")
CRONS = ("0 2 * * *", "15,45 1-3 * * *", "*/20 * * * *", "30 2 * * SUN", "0 */2 * * *", "59 23 31 * *", "5 * L * *")


@given(
    st.sampled_from(ZONES),
    st.sampled_from(CRONS),
    st.datetimes(datetime(1971, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
)
def test_firings_go_forward_and_none_is_left_out_by_asking_later(zone: str, fields: str, start: datetime) -> None:
    cron = parse_cron(f"TZ={zone} {fields}")
    moments = [int(start.timestamp() * 1000)]
    for _ in range(6):
        moments.append(cron.next_after(moments[-1]))
    for earlier, later in pairwise(moments):
        assert earlier < later
        assert later % 1000 == 0
        middle = (earlier + later) // 2
        assert cron.next_after(middle) <= later
        assert cron.next_after(later - 1) == later


def test_every_lane_computes_the_same_ticks_of_an_interval() -> None:
    cron = parse_cron("@every 7m")
    ticks = {cron.next_after(at_ms("2024-03-01T12:00") + offset) for offset in range(0, 420_000, 1_000)}
    assert len(ticks) == 2
    assert max(ticks) - min(ticks) == timedelta(minutes=7) // timedelta(milliseconds=1)
