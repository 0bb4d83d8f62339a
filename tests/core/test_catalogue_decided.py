"""Catalogue versions and the crons that come and go with them."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from millstream.core.intake.crons import delay_of
from millstream.core.triggers.catalogue import catalogue
from millstream.errors import FunctionError
from millstream.model.commands import FireTimer
from millstream.model.event import SCHEDULED_TIMER
from millstream.model.facts import (
    CatalogueSeen,
    CronArmed,
    CronDisarmed,
    CronTicked,
    EventAccepted,
    Fact,
    FunctionSkipped,
    RunStarted,
)
from millstream.model.function import (
    AppSpec,
    CancelTrigger,
    CronTrigger,
    EventTrigger,
    FunctionSpec,
    decode_app_spec,
    encode_app_spec,
)
from millstream.model.gates.declared import ConcurrencyRule, DebounceRule, FlowSpec, RateLimitRule, ThrottleRule
from millstream.model.operations import BodyDone
from tests.core.harness import Harness
from tests.core.values import HOUR_MS, MINUTE_MS, START_MS, accept, app, event, function, home_slug, report, see

HOURLY = "0 * * * *"
HERE = home_slug("shop-tick")
ELSEWHERE = home_slug("shop-tick", lane=1)
NEXT_HOUR_MS = (START_MS // HOUR_MS + 1) * HOUR_MS


def ticking(cron: str = HOURLY, slug: str = HERE) -> Harness:
    harness = Harness()
    harness.do(see(app(function(slug, CronTrigger(cron)))))
    return harness


def fire(harness: Harness, at_ms: int) -> list[Fact]:
    timer = harness.armed("cron")
    return harness.do(FireTimer(timer.at_ms, timer.kind, timer.id, timer.step), at_ms)


def test_a_version_is_taken_once_and_an_older_one_never() -> None:
    harness = Harness()
    assert isinstance(harness.do(see(app(function("shop-f", "a")), offset=5))[0], CatalogueSeen)
    assert harness.do(see(app(function("shop-f", "b")), offset=5)) == []
    assert harness.do(see(app(function("shop-f", "b")), offset=4)) == []
    assert harness.do(accept(event(name="a"), 0))


def test_a_new_version_decides_what_later_events_start() -> None:
    harness = Harness()
    harness.do(see(app(function("shop-f", "a")), offset=0))
    harness.do(see(app(function("shop-f", "b")), offset=1))
    assert harness.do(accept(event(1, "a"), 0)) == []
    assert harness.do(accept(event(2, "b"), 1))


def test_an_app_that_is_gone_starts_nothing_and_other_apps_go_on() -> None:
    harness = Harness()
    harness.do(see(app(function("shop-f", "a")), offset=0))
    harness.do(see(app(function("till-f", "a"), id="till"), offset=1, id="till"))
    harness.do(see(None, offset=2))
    facts = harness.do(accept(event(name="a"), 0))
    assert [fact.function for fact in facts if isinstance(fact, RunStarted)] == ["till-f"]


def test_an_open_run_outlives_its_function() -> None:
    harness = Harness()
    harness.do(see(app(function("shop-f", "a")), offset=0))
    harness.do(accept(event(name="a"), 0))
    harness.do(see(None, offset=1))
    assert harness.out().function == "shop-f"


def test_a_cron_is_armed_on_its_home_lane_only() -> None:
    assert ticking().armed("cron").at_ms == NEXT_HOUR_MS
    assert not ticking(slug=ELSEWHERE).outstanding


def test_a_cron_starts_a_run_at_its_time_and_is_armed_for_the_next() -> None:
    harness = ticking()
    ticked, accepted, started = fire(harness, NEXT_HOUR_MS + 3)
    assert ticked == CronTicked(HERE, HOURLY, NEXT_HOUR_MS, 0, NEXT_HOUR_MS + HOUR_MS)
    assert isinstance(accepted, EventAccepted) and accepted.name == SCHEDULED_TIMER
    assert json.loads(accepted.data)["cron"] == HOURLY and accepted.ts_ms == NEXT_HOUR_MS
    assert isinstance(started, RunStarted) and started.function == HERE
    assert harness.armed("cron").at_ms == NEXT_HOUR_MS + HOUR_MS


def test_a_run_of_a_cron_with_jitter_begins_up_to_so_much_later_another_time_for_each_tick() -> None:
    harness = Harness()
    harness.do(see(app(function(HERE, CronTrigger(HOURLY, jitter_ms=5 * MINUTE_MS)))))
    late = []
    for hour in range(20):
        tick_ms = NEXT_HOUR_MS + hour * HOUR_MS
        started = fire(harness, tick_ms)[-1]
        assert isinstance(started, RunStarted)
        late.append(started.start_at_ms - tick_ms)
    assert len(set(late)) > 10 and min(late) > 0 and max(late) < 5 * MINUTE_MS


def test_a_tick_whose_jitter_has_passed_starts_its_run_at_once() -> None:
    harness = Harness()
    harness.do(see(app(function(HERE, CronTrigger(HOURLY, jitter_ms=MINUTE_MS)))))
    started = fire(harness, NEXT_HOUR_MS + MINUTE_MS)[-1]
    assert isinstance(started, RunStarted) and started.start_at_ms == 0


def test_a_timer_that_fires_twice_ticks_once() -> None:
    harness = ticking()
    timer = harness.armed("cron")
    command = FireTimer(timer.at_ms, timer.kind, timer.id, timer.step)
    assert harness.do(command, timer.at_ms)
    assert harness.do(command) == []


def test_firings_missed_during_downtime_are_one_run() -> None:
    harness = ticking()
    facts = fire(harness, NEXT_HOUR_MS + 5 * HOUR_MS + MINUTE_MS)
    last_ms = NEXT_HOUR_MS + 5 * HOUR_MS
    assert facts[0] == CronTicked(HERE, HOURLY, last_ms, 5, last_ms + HOUR_MS)
    assert len(harness.runs) == 1


def test_very_many_missed_firings_are_one_run_too() -> None:
    harness = ticking("* * * * *")
    now_ms = START_MS + 30 * 24 * HOUR_MS
    (ticked, *_) = fire(harness, now_ms)
    assert isinstance(ticked, CronTicked)
    assert now_ms - MINUTE_MS < ticked.at_ms <= now_ms < ticked.next_at_ms <= now_ms + MINUTE_MS
    assert len(harness.runs) == 1


@pytest.mark.parametrize(("cron", "hour"), [("TZ=Europe/Paris 30 9 * * *", 8), ("30 9 * * *", 9)])
def test_a_cron_goes_by_its_time_zone(cron: str, hour: int) -> None:
    at_ms = ticking(cron).armed("cron").at_ms  # In January 2027 Paris is an hour ahead.
    assert at_ms // HOUR_MS % 24 == hour and at_ms // MINUTE_MS % 60 == 30


def test_a_new_version_arms_new_crons_disarms_old_ones_and_leaves_the_others_alone() -> None:
    harness = ticking()
    facts = harness.do(see(app(function(HERE, CronTrigger(HOURLY), CronTrigger("5 * * * *"))), offset=1))
    assert [type(fact) for fact in facts] == [CatalogueSeen, CronArmed]
    facts = harness.do(see(app(function(HERE, CronTrigger("5 * * * *"))), offset=2))
    assert facts[1:] == [CronDisarmed(HERE, HOURLY)]
    harness.do(see(None, offset=3))
    assert not harness.outstanding and not harness.tables.crons.scan(limit=1)


def test_a_cron_that_cannot_be_read_is_skipped_and_said_so() -> None:
    harness = Harness()
    facts = harness.do(see(app(function(HERE, CronTrigger("every day"))), offset=0))
    assert isinstance(facts[1], FunctionSkipped) and "every day" in facts[1].reason
    assert not harness.outstanding


def jittering(jitter_ms: int) -> Harness:
    harness = Harness()
    harness.do(see(app(function(HERE, CronTrigger(HOURLY, jitter_ms)))))
    return harness


def test_a_run_of_a_cron_with_jitter_begins_within_it_and_says_when() -> None:
    delays = set()
    harness = jittering(5 * MINUTE_MS)
    for hour in range(4):
        tick_ms = NEXT_HOUR_MS + hour * HOUR_MS
        facts = fire(harness, tick_ms)
        (started,) = (fact for fact in facts if isinstance(fact, RunStarted))
        (tick,) = (fact for fact in facts if isinstance(fact, EventAccepted))
        data = json.loads(tick.data)
        begins_ms = started.start_at_ms or tick_ms
        assert 0 <= begins_ms - tick_ms <= 5 * MINUTE_MS and tick.ts_ms == tick_ms
        assert datetime.fromisoformat(data["scheduledAt"]).timestamp() * 1_000 == tick_ms
        assert datetime.fromisoformat(data["fireAt"]).timestamp() * 1_000 == begins_ms // 1_000 * 1_000
        delays.add(begins_ms - tick_ms)
        due = harness.armed("due")
        harness.do(FireTimer(due.at_ms, due.kind, due.id, due.step), due.at_ms)
        harness.do(report(harness.run.run, 1, BodyDone(b"null")))
    assert len(delays) == 4, "each tick has its own"


def test_the_delay_of_a_tick_is_the_same_whoever_computes_it() -> None:
    assert [delay_of("f", HOURLY, NEXT_HOUR_MS, 60_000) for _ in range(3)] == [
        delay_of("f", HOURLY, NEXT_HOUR_MS, 60_000)
    ] * 3
    assert delay_of("f", HOURLY, NEXT_HOUR_MS, 0) == 0


def test_a_tick_that_is_looked_at_long_after_its_delay_starts_at_once() -> None:
    harness = jittering(MINUTE_MS)
    (started,) = (fact for fact in fire(harness, NEXT_HOUR_MS + 30 * MINUTE_MS) if isinstance(fact, RunStarted))
    assert started.start_at_ms == 0


@pytest.mark.parametrize("jitter_ms", [-1, 999, 300_001])
def test_jitter_has_bounds(jitter_ms: int) -> None:
    with pytest.raises(FunctionError, match="jitter must be 1s to 5m"):
        CronTrigger(HOURLY, jitter_ms)


def test_a_cron_without_jitter_is_registered_as_it_was() -> None:
    assert b'{"cron":"0 * * * *","type":"cron"}' in encode_app_spec(app(function(HERE, CronTrigger(HOURLY))))
    spec = app(function(HERE, CronTrigger(HOURLY, 1_000)))
    assert decode_app_spec(encode_app_spec(spec)) == spec


def test_what_the_sdks_may_register_is_taken() -> None:
    long = "wire py-" + "n" * 247
    everything = FlowSpec(
        concurrency=(ConcurrencyRule(2, "event.data.u"), ConcurrencyRule(9, "'k'", "env")),
        throttle=ThrottleRule(10, 60_000, 2, "event.data.u"),
        rate_limit=RateLimitRule(5, 3_600_000, "event.data.u"),
        debounce=DebounceRule(10_000, "event.data.u", 270_000),
        priority="event.data.vip ? 60 : 0",
        idempotency="event.data.id",
    )
    stop = CancelTrigger("wire/stop", "", "event.data.id == async.data.id", HOUR_MS)
    configured = FunctionSpec(
        "wire py-configured", "configured", (EventTrigger("wire/conf", "event.data.x > 1"), CronTrigger(HOURLY)),
        retries=3, cancel_on=(stop,), start_ms=30_000, finish_ms=2 * HOUR_MS, flow=everything,
    )  # fmt: skip
    nothing = FunctionSpec(long, "n" * 255)
    spec = AppSpec("wire py", (configured, nothing), "http://127.0.0.1:3000/api/inngest?x=a b")
    assert decode_app_spec(encode_app_spec(spec)) == spec
    harness = Harness()
    assert harness.do(see(spec, id="wire py"))
    assert {"wire py-configured", long} <= catalogue(harness.tables).functions.keys()
