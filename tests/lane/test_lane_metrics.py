"""``lane/metrics.py``: what the facts of durable records are counted and timed as."""

from __future__ import annotations

from millstream.lane.metrics import RUNS_TIMED_MAX, TIMED_PER_RECORD_MAX, Counts
from millstream.model.facts import EventAccepted, Fact, RunCompleted, RunFailed, RunStarted, StepCompleted
from millstream.telemetry import Telemetry


class World:
    """One lane's counts, and the facts to count."""

    def __init__(self) -> None:
        self.telemetry = Telemetry()
        self._counts = Counts(self.telemetry, 0)

    def take(self, at_ms: int, *facts: Fact) -> None:
        self._counts.take(facts, at_ms, size=1, took_s=0.0)

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, labels)


def accepted(received_at_ms: int, topic: str = "events") -> EventAccepted:
    return EventAccepted("e", "", False, "n", b"{}", 1, received_at_ms, "", b"", "", b"", topic, 0, 0, b"")


def step(started_at_ms: int, kind: str = "run") -> StepCompleted:
    return StepCompleted("r", "s", "one", kind, 0, 1, b"1", started_at_ms, True)


def started(run: str) -> RunStarted:
    return RunStarted(run, "shop-pay", ("e",), "", 0)


def test_a_run_is_timed_from_its_start_to_its_end() -> None:
    world = World()
    world.take(1_000, started("a"), started("b"))
    world.take(3_000, RunCompleted("a", "shop-pay", 1, b"1"), RunFailed("unknown here", "shop-pay", 1, "E", "", ""))
    world.take(5_000, RunFailed("b", "shop-pay", 1, "E", "", ""))
    assert world.value("millstream_run_seconds_count", function="shop-pay") == 2
    assert world.value("millstream_run_seconds_sum", function="shop-pay") == 6


def test_events_are_timed_from_their_receipt_and_those_a_lane_made_are_not() -> None:
    world = World()
    world.take(1_500, accepted(1_000), accepted(1_500, topic=""))
    assert world.value("millstream_event_start_seconds_count") == 1
    assert world.value("millstream_event_start_seconds_sum") == 0.5


def test_only_steps_that_call_code_are_timed() -> None:
    world = World()
    world.take(1_500, step(1_000), step(0, "sleep"))
    assert world.value("millstream_step_seconds_sum") == 0.5


def test_a_record_of_many_is_timed_in_part_and_counted_whole() -> None:
    world = World()
    world.take(1_500, *(step(1_000) for _ in range(100)))
    assert world.value("millstream_step_seconds_count") == TIMED_PER_RECORD_MAX
    assert world.value("millstream_step_attempts_total", status="completed") == 100


def test_so_many_runs_are_timed_and_no_more() -> None:
    world = World()
    world.take(1_000, *(started(f"r{n}") for n in range(RUNS_TIMED_MAX + 1)))
    world.take(2_000, RunCompleted(f"r{RUNS_TIMED_MAX}", "shop-pay", 1, b"1"))
    assert world.value("millstream_run_seconds_count", function="shop-pay") is None
    world.take(2_000, RunCompleted("r0", "shop-pay", 1, b"1"))
    world.take(3_000, started("another"))
    world.take(4_000, RunCompleted("another", "shop-pay", 1, b"1"))
    assert world.value("millstream_run_seconds_count", function="shop-pay") == 2


def test_every_end_of_a_function_is_shown_as_0_from_its_first_run_on() -> None:
    world = World()
    assert world.value("millstream_runs_finished_total", function="shop-pay", status="failed") is None
    world.take(1_000, started("a"))
    for status in ("completed", "failed", "cancelled"):
        assert world.value("millstream_runs_finished_total", function="shop-pay", status=status) == 0


def test_what_alerts_wait_for_is_shown_as_0_from_the_start() -> None:
    world = World()
    assert world.value("millstream_events_refused_total", status="503") == 0
    assert world.value("millstream_dead_letters_total", reason="RefuseRecord") == 0
    assert world.value("millstream_step_attempts_total", status="failed") == 0
