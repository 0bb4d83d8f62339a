"""A clock that is set is noticed by the monotonic clock, and said once, with what stands still until when."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import pytest

from millstream.roles.clock import LOOK_EVERY_S, ClockWatch, watch_clock
from millstream.telemetry import Telemetry

NOON_MS = 1_795_348_800_000
HOUR_MS = 3_600_000


@dataclass
class Clocks:
    """The two clocks of a machine."""

    wall_ms: int = NOON_MS
    monotonic_ms: int = 5_000

    def go_on(self, ms: int) -> None:
        """Both show so much more."""
        self.wall_ms += ms
        self.monotonic_ms += ms


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def watch(clocks: Clocks, telemetry: Telemetry) -> ClockWatch:
    return ClockWatch(telemetry, lambda: clocks.wall_ms, lambda: clocks.monotonic_ms)


def behind_s(telemetry: Telemetry) -> float | None:
    return telemetry.registry.get_sample_value("millstream_clock_behind_seconds")


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object]]:
    return [(line.getMessage(), getattr(line, "fields", {}).get("until")) for line in caplog.records]


def test_a_clock_that_is_set_back_is_said_once_with_the_time_at_which_all_goes_on(
    clocks: Clocks, telemetry: Telemetry, watch: ClockWatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clocks.go_on(5_000)
    watch.look()
    assert said(caplog) == [] and behind_s(telemetry) == 0
    clocks.go_on(5_000)
    clocks.wall_ms -= HOUR_MS
    for _ in range(3):
        watch.look()
        clocks.go_on(5_000)
    assert said(caplog) == [("clock was set back", "2026-11-22T12:00:10Z")]
    assert behind_s(telemetry) == 3_590
    clocks.go_on(HOUR_MS)
    watch.look()
    assert said(caplog)[1:] == [("clock has caught up", None)] and behind_s(telemetry) == 0


def test_a_clock_that_is_set_right_again_goes_on_at_once(
    clocks: Clocks, telemetry: Telemetry, watch: ClockWatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clocks.wall_ms -= HOUR_MS
    watch.look()
    clocks.wall_ms += HOUR_MS
    watch.look()
    words = [fact for fact, _ in said(caplog)]
    assert words == ["clock was set back", "clock was set ahead, or the machine slept", "clock has caught up"]
    assert behind_s(telemetry) == 0


def test_a_clock_kept_right_in_small_steps_says_nothing(
    clocks: Clocks, telemetry: Telemetry, watch: ClockWatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(100):
        clocks.go_on(5_000)
        clocks.wall_ms -= 2
        watch.look()
    assert said(caplog) == [] and behind_s(telemetry) == 0


async def test_a_process_looks_more_often_than_every_30_seconds(
    clocks: Clocks, watch: ClockWatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert LOOK_EVERY_S <= 30
    looking = asyncio.create_task(watch_clock(watch, every_s=0.01))
    try:
        await asyncio.sleep(0.05)
        clocks.wall_ms -= HOUR_MS
        async with asyncio.timeout(10):
            while not caplog.records:  # noqa: ASYNC110 (a log line sets no event)
                await asyncio.sleep(0.01)
    finally:
        looking.cancel()
    assert said(caplog)[0][0] == "clock was set back"
