"""``lane/lane.py``: what is decided takes effect once, when it is durable, together with the positions it came from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from millstream.core import fold as folding
from millstream.core.tables import Tables
from millstream.errors import InternalError
from millstream.lane.settings import LaneSettings
from millstream.log.memory.faults import REFUSED, UNKNOWN_NOT_WRITTEN, UNKNOWN_WRITTEN, Fate, Verdict
from millstream.log.port import Produced
from millstream.model.commands import AcceptEvent, ParkDispatch
from millstream.model.effects import Effect
from millstream.model.facts import (
    CatalogueSeen,
    DispatchLost,
    LaneFenced,
    RequestAnswered,
    RunCancelled,
    RunCompleted,
    RunStarted,
    SleepEnded,
    SleepStarted,
    SourceOpened,
    StepCompleted,
)
from millstream.model.ids import encode_ulid
from millstream.model.messages import InboxRecord
from millstream.model.operations import BodyDone
from millstream.model.run_requests import CancelRun
from millstream.state.dump import dump
from millstream.wire.journal import decode_record
from millstream.wire.messages import decode_reply, encode_inbox
from tests.core.values import START_MS, app, done, event, function, report, sleep
from tests.lane.rig import EVENTS, INBOX, JOURNAL, REPLIES, Rig, offsets, until

SHOP = app(function("ship", "order/placed"))
LATE = Verdict(fate=Fate.UNKNOWN, written_after_s=0.01, answered_after_s=0.0, outlives_writer=True)
STUCK = Verdict(written_after_s=1_000.0, answered_after_s=1_000.0)


async def test_an_event_becomes_a_run_that_is_handed_out_once_it_is_durable(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    await rig.send(event(1))
    await until(lambda: owner.desk.started)  # The desk itself checks that the run is durable.
    (run,) = rig.facts(RunStarted)
    assert owner.desk.started[0].run == run.run


async def test_a_source_is_opened_by_a_fact_before_anything_it_brings(rig: Rig) -> None:
    await rig.register(SHOP)
    await rig.send(event(1))
    await rig.own()
    await until(lambda: rig.facts(RunStarted))
    kinds = [type(fact) for record in rig.decisions() for fact in record.facts]
    assert kinds.index(SourceOpened) < kinds.index(RunStarted)


@pytest.mark.parametrize(
    "verdicts",
    [[], [REFUSED, REFUSED], [UNKNOWN_NOT_WRITTEN], [UNKNOWN_WRITTEN], [LATE], [REFUSED, LATE, UNKNOWN_NOT_WRITTEN]],
    ids=["calm", "refused", "void", "unknown but there", "late", "all of it"],
)
async def test_a_records_positions_are_those_of_the_events_in_it(rig: Rig, verdicts: Sequence[Verdict]) -> None:
    await rig.register(SHOP)
    await rig.own()
    rig.faults.appends[JOURNAL] += verdicts
    for n in range(1, 21):
        await rig.send(event(n), event(n + 100, "nobody/cares"))
        await rig.here.sleep(0.001 * (n % 3))
    await until(lambda: len(rig.facts(RunStarted)) == 20)
    numbers = {event(n).internal_id: n for n in range(1, 21)}
    last = 0
    for record in rig.decisions():
        started = [numbers[f.events[0]] for f in record.facts if isinstance(f, RunStarted)]
        at = offsets(record).get(EVENTS, last)
        assert at >= last
        assert all(last <= 2 * (n - 1) < at for n in started), "each lies between the last position and this one"
        last = at
    assert sorted(numbers[f.events[0]] for f in rig.facts(RunStarted)) == list(range(1, 21))


async def test_after_a_refusal_the_same_commands_are_decided_again(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    fences = len(rig.facts(LaneFenced))
    rig.faults.appends[JOURNAL] += [REFUSED] * 3
    await rig.send(event(1))
    await until(lambda: owner.desk.started)
    assert len(rig.facts(RunStarted)) == 1
    assert len(rig.facts(LaneFenced)) == fences, "a refusal is no reason to fence"


@pytest.mark.parametrize("verdict", [UNKNOWN_NOT_WRITTEN, LATE], ids=["lost", "late"])
async def test_after_a_void_append_the_lane_fences_and_keeps_what_it_executes(rig: Rig, verdict: Verdict) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    await rig.send(event(1))
    await until(lambda: owner.desk.started)
    rig.faults.appends[JOURNAL].append(verdict)
    await rig.send(event(2))
    await until(lambda: len(owner.desk.started) == 2)
    assert len(rig.facts(LaneFenced)) == 2
    assert len(rig.facts(RunStarted)) == 2
    first = owner.desk.started[0]
    assert all(f.run != first.run for f in rig.facts(DispatchLost)), "what runs in this process is not lost"


async def test_effects_of_a_void_record_are_never_released(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    rig.faults.always[JOURNAL] = UNKNOWN_NOT_WRITTEN
    await rig.send(event(1))
    await rig.here.sleep(5)
    assert owner.desk.started == []
    rig.faults.always.clear()
    await until(lambda: owner.desk.started)
    assert len(owner.desk.started) == 1


async def test_after_any_weather_the_topics_restore_to_the_live_tables(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    rig.faults.appends[JOURNAL] += [LATE, REFUSED, UNKNOWN_WRITTEN, UNKNOWN_NOT_WRITTEN, LATE, LATE]
    for n in range(30):
        await rig.send(event(n))
        await rig.here.sleep(0.05)
        while owner.desk.under_way:
            run, _, dispatch = owner.desk.under_way.pop()
            owner.lane.submit(report(run, dispatch, done("one"), BodyDone(b"1")))
    await until(lambda: len(rig.facts(RunCompleted)) == 30)
    await rig.here.sleep(2)
    await owner.stop()
    assert await rig.rows_from_topics() == dump(owner.lane.tables.durable)


async def test_a_fold_that_fails_stops_the_lane_and_says_which(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(tables: Tables, fact: Any, at_ms: int) -> Sequence[Effect]:
        raise KeyError("row")

    await rig.register(SHOP)
    owner = await rig.own()
    await until(lambda: rig.facts(CatalogueSeen))
    monkeypatch.setitem(folding.FOLD, CatalogueSeen, broken)
    await rig.register(msgspec.structs.replace(SHOP, version="2"))
    await until(owner.task.done)
    error = owner.task.exception()
    assert isinstance(error, InternalError)
    assert "CatalogueSeen" in str(error) and "lane 0" in str(error) and "KeyError" in str(error)
    assert len(rig.facts(CatalogueSeen)) == 1, "what could not be folded was not appended"


async def test_the_queue_is_bounded_in_commands_and_bytes(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own(settings=LaneSettings(queue_max=100, queue_bytes_max=1_000_000))
    await rig.here.sleep(1)
    rig.faults.always[JOURNAL] = STUCK
    await rig.send(event(0))
    await rig.here.sleep(1)
    await rig.send(*(event(n, data=b'{"a":"' + b"x" * 100_000 + b'"}') for n in range(1, 200)))
    await rig.here.sleep(10)
    waiting = sum(len(item.event.data) for item in owner.lane._queue if isinstance(item, AcceptEvent))
    assert 0 < waiting < 1_000_000 + 4_500_000, "a page of 4 MB at most above the limit"
    rig.faults.always.clear()


async def test_reports_are_taken_while_sources_wait_for_a_full_executor(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    await rig.send(event(1))
    await until(lambda: owner.desk.started)
    owner.desk.full = True
    await rig.here.sleep(10)
    await rig.send(event(2), event(3))
    first = owner.desk.started[0]
    owner.lane.submit(report(first.run, first.dispatch, BodyDone(b"1")))
    await until(lambda: rig.facts(RunCompleted))
    owner.desk.full = False
    await until(lambda: len(rig.facts(RunStarted)) == 3)


async def test_what_was_submitted_before_a_graceful_end_is_recorded(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    await rig.send(event(1))
    await until(lambda: owner.desk.started)
    rig.faults.always[JOURNAL] = Verdict(written_after_s=0.5, answered_after_s=0.5)
    owner.lane.stop_intake()
    first = owner.desk.started[0]
    owner.lane.submit(report(first.run, first.dispatch, done("one")))
    await owner.lane.wait_recorded()
    await rig.send(event(2))
    await rig.here.sleep(1)
    await owner.stop()
    assert [f.step for f in rig.facts(StepCompleted)] == ["one"]
    assert len(rig.facts(RunStarted)) == 1


async def test_what_a_dead_owner_ran_is_lost_once_and_handed_out_again(rig: Rig) -> None:
    await rig.register(SHOP)
    first = await rig.own()
    await rig.send(event(1))
    await until(lambda: first.desk.started)
    await first.stop()
    second = await rig.own()
    await until(lambda: second.desk.started)
    assert len(rig.facts(DispatchLost)) == 1
    assert second.desk.started[0].dispatch > first.desk.started[0].dispatch


async def test_what_a_dead_owner_ran_comes_back_no_faster_than_there_is_room(rig: Rig) -> None:
    await rig.register(SHOP)
    first = await rig.own()
    await rig.send(*(event(number) for number in range(1, 41)))
    await until(lambda: len(first.desk.started) == 40)
    await first.stop()
    rig.busy = True
    second = await rig.own(settings=LaneSettings(takeover_runs_per_turn=5))
    await rig.here.sleep(1)
    assert len(rig.facts(DispatchLost)) == 5, "a page at most: this worker has no room (lanes.md rule 27)"
    second.desk.full = False
    await until(lambda: len(rig.facts(DispatchLost)) == 40)


async def test_a_run_whose_time_is_over_when_its_lane_comes_back_is_not_handed_out_again(rig: Rig) -> None:
    bounded = msgspec.structs.replace(function("ship", "order/placed"), finish_ms=60_000)
    await rig.register(app(bounded))
    first = await rig.own()
    await rig.send(event(1), event(2))
    await until(lambda: len(first.desk.started) == 2)
    parked = first.desk.started[0]
    first.desk.left = True  # So it does not take up what it parks.
    first.lane.submit(ParkDispatch(parked.run, parked.step, parked.dispatch))
    await first.lane.wait_recorded()
    await first.stop()
    await rig.here.sleep(3_600)
    second = await rig.own()
    await until(lambda: len(rig.facts(RunCancelled)) == 2)
    await rig.here.sleep(1)
    assert second.desk.started == []
    assert not rig.facts(DispatchLost)


async def test_a_sleep_much_longer_than_the_lane_is_idle_ends_on_time(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    await rig.send(event(1))
    await until(lambda: owner.desk.started)
    first = owner.desk.started[0]
    owner.lane.submit(report(first.run, first.dispatch, sleep("nap", 300_000)))
    await rig.here.sleep(299)
    assert len(owner.desk.started) == 1
    assert not owner.lane.timers.paused
    await rig.here.sleep(2)
    assert len(owner.desk.started) == 2


async def test_a_clock_far_off_the_logs_fires_no_timers_until_it_is_right_again(rig: Rig) -> None:
    await rig.register(SHOP)
    rig.here.off_ms = 120_000
    owner = await rig.own()
    await rig.send(event(1))
    await until(lambda: owner.desk.started)
    await rig.here.sleep(40)
    assert owner.lane.timers.paused
    first = owner.desk.started[0]
    owner.lane.submit(report(first.run, first.dispatch, sleep("nap", 20_000)))
    await rig.here.sleep(60)
    assert len(owner.desk.started) == 1, "nothing fires meanwhile (lanes.md rule 8)"
    rig.here.off_ms = 0
    await rig.here.sleep(300)
    assert not owner.lane.timers.paused
    assert len(owner.desk.started) == 2


async def test_a_worker_with_a_wrong_clock_fires_no_timer_of_a_lane_it_takes_over(rig: Rig) -> None:
    await rig.register(SHOP)
    before = await rig.own()
    await rig.send(event(1))
    await until(lambda: before.desk.started)
    first = before.desk.started[0]
    before.lane.submit(report(first.run, first.dispatch, sleep("nap", 3_600_000)))
    await until(lambda: rig.facts(SleepStarted))
    await before.stop()
    rig.here.off_ms = 7_200_000
    owner = await rig.own()
    assert owner.lane.timers.paused
    await rig.here.sleep(60)
    assert not rig.facts(SleepEnded), "an hour's sleep has not lasted an hour (lanes.md rule 8)"
    rig.here.off_ms = 0
    await rig.here.sleep(3_400)
    assert not rig.facts(SleepEnded)
    await rig.here.sleep(300)
    assert rig.facts(SleepEnded)


async def test_a_record_is_never_older_than_the_one_before_it(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    await rig.send(event(1))
    await until(lambda: len(owner.desk.started) == 1)
    rig.here.off_ms = -10_000
    await rig.send(event(2))
    await until(lambda: len(owner.desk.started) == 2)
    times = [record.at_ms for record in rig.decisions()]
    assert times == sorted(times)
    assert times[0] >= START_MS


async def test_other_tasks_get_their_turns_while_commands_keep_coming(rig: Rig) -> None:
    owner = await rig.own()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    for _ in range(50):
        for n in range(200):
            owner.lane.submit(report(f"nobody{n}", 1, done("x")))
        await asyncio.sleep(0)
    counting.cancel()
    assert turns >= 40


async def test_an_answer_names_the_record_that_holds_it(rig: Rig) -> None:
    """It named the one behind: whoever waited to read what was done waited for the lane's next record."""
    await rig.register(app(function("ship", "order/placed")))
    await rig.own()
    request = CancelRun(encode_ulid(START_MS << 80), "", encode_ulid(START_MS << 80 | 7), 0)
    await rig.put(INBOX, Produced(encode_inbox(InboxRecord(-1, 0, request))))
    await until(lambda: rig.records(REPLIES))
    reply = decode_reply(rig.records(REPLIES)[0].value or b"")
    (found,) = [record for record in rig.records(JOURNAL) if record.offset == reply.offset]
    assert RequestAnswered in {type(fact) for fact in decode_record(found.value or b"").facts}
