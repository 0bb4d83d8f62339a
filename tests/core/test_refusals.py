"""A command that cannot be decided never stops the lane and leaves nobody waiting (lanes.md rule 22)."""

from __future__ import annotations

import pytest

from millstream.core.handles import Handler
from millstream.core.intake import crons
from millstream.core.nouns import DECIDE, FIRE
from millstream.core.runs import reports
from millstream.core.step_kinds import QUICK_TIMERS
from millstream.core.tables import Tables
from millstream.model.commands import Command, FireTimer, LoseDispatch, ParkDispatch, Report
from millstream.model.event import FUNCTION_FAILED
from millstream.model.facts import CommandRefused, CronDisarmed, Fact, PublishQueued, RunFailed
from millstream.model.function import CronTrigger
from millstream.model.operations import StepDone
from millstream.model.rows import Hand
from millstream.model.run_requests import CancelRun
from tests.core.harness import Harness
from tests.core.values import START_MS, accept, app, done, event, found, function, home_slug, report, see, sleep


@pytest.fixture
def harness() -> Harness:
    harness = Harness()
    on_failure = function("shop-on", FUNCTION_FAILED)
    harness.do(see(app(function("shop-f", "order/placed"), on_failure)))
    harness.do(accept(event()))
    harness.may_raise = True
    return harness


def broken(tables: Tables, command: Command, now_ms: int) -> list[Fact]:
    raise ZeroDivisionError("broken")


@pytest.mark.parametrize("kind", [Report, LoseDispatch, ParkDispatch])
def test_a_run_about_which_nothing_can_be_decided_fails(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, kind: type[Command]
) -> None:
    run = harness.run.run
    commands: dict[type[Command], Command] = {
        Report: report(run, 1, done("a")),
        LoseDispatch: LoseDispatch(run, "", 1),
        ParkDispatch: ParkDispatch(run, "", 1),
    }
    monkeypatch.setitem(DECIDE, kind, broken)
    refused, failed, told = harness.do(commands[kind])
    assert refused == CommandRefused(kind.__name__, run, "ZeroDivisionError: broken")
    assert isinstance(failed, RunFailed) and failed.error_name == "InternalError"
    assert isinstance(told, PublishQueued)
    assert not harness.runs


def test_a_run_whose_timer_cannot_be_decided_fails(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.do(report(harness.run.run, 1, sleep("nap")))
    timer = harness.armed("sleep")
    monkeypatch.setitem(FIRE, "sleep", Handler(broken, FIRE["sleep"].refuse))
    facts = harness.do(FireTimer(timer.at_ms, timer.kind, timer.id, timer.step), timer.at_ms)
    assert isinstance(facts[1], RunFailed) and not harness.runs


def test_a_cron_that_cannot_be_decided_fires_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    slug = home_slug("shop-tick")
    harness = Harness()
    harness.may_raise = True
    harness.do(see(app(function(slug, CronTrigger("0 * * * *")))))
    timer = harness.armed("cron")
    monkeypatch.setattr(crons, "parse_cron", lambda text: 1 // 0)
    facts = harness.do(FireTimer(timer.at_ms, timer.kind, timer.id, timer.step), timer.at_ms)
    assert facts[1:] == [CronDisarmed(slug, "0 * * * *")]


def test_an_event_that_cannot_be_decided_goes_to_the_dead_letters(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DECIDE, type(accept(event())), broken)
    refused, letter = harness.do(accept(event(2, data=b'{"n":1}'), 1))
    assert refused == CommandRefused("AcceptEvent", "events/0@1", "ZeroDivisionError: broken")
    assert isinstance(letter, PublishQueued) and letter.topic == "shop.dead-letters" and b'"n": 1' in letter.value


def test_a_late_report_is_never_refused(harness: Harness) -> None:
    run = harness.run.run
    harness.do(report(run, 1, done("a")))
    assert reports.report(harness.tables, report(run, 1, done("a"), attempt=3), 0) == []


def test_a_result_of_a_kind_that_a_newer_worker_knows_is_kept_and_goes_with_its_run(harness: Harness) -> None:
    run = harness.run.run
    fetched = StepDone("f", "f", b"1", START_MS, "fetch")
    harness.do(report(run, 1, fetched, found("a"), found("b")))
    assert (harness.step("f").kind, harness.step("f").hand) == ("fetch", Hand.DONE)
    harness.do(CancelRun(run, "tests"))
    assert not harness.runs and not harness.tables.steps.scan(limit=1)


def test_a_result_alone_of_a_kind_that_a_newer_worker_knows_takes_the_long_way() -> None:
    harness = Harness()
    harness.do(see(app(function("shop-f", "order/placed"))))
    harness.do(accept(event()))
    harness.do(report(harness.run.run, 1, StepDone("f", "f", b"1", START_MS, "fetch")))
    assert harness.step("f").data == b"1" and harness.out().step == ""


def test_a_timer_of_a_kind_that_a_newer_version_set_fails_its_run(harness: Harness) -> None:
    harness.do(report(harness.run.run, 1, sleep("nap")))
    timer = harness.armed("sleep")
    handler = FIRE.pop("sleep")
    quick = QUICK_TIMERS.pop("sleep")
    try:
        facts = harness.do(FireTimer(timer.at_ms, timer.kind, timer.id, timer.step), timer.at_ms)
    finally:
        FIRE["sleep"], QUICK_TIMERS["sleep"] = handler, quick
    assert isinstance(facts[1], RunFailed) and not harness.runs
