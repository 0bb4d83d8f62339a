"""Which runs an event starts: names, wildcards, expressions, duplicates, times to come."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from millstream.model import limits
from millstream.model.commands import CleanUp, FireTimer, NoteGap, Opening, RefuseRecord, SeeTopic
from millstream.model.facts import (
    CommandRefused,
    EventAccepted,
    EventDeduplicated,
    Fact,
    FunctionSkipped,
    PublishQueued,
    RunDue,
    RunStarted,
    SourceGap,
    SourceOpened,
    TopicSeen,
)
from millstream.model.function import EventTrigger
from millstream.model.ids import lane_of
from millstream.model.operations import BodyDone
from tests.core.harness import Harness
from tests.core.values import LANES, MINUTE_MS, START_MS, accept, app, event, function, report, see

LONG_AFTER_MS = START_MS + limits.SEEN_IDLE_MS + limits.DAY_MS + 2 * limits.HOUR_MS


def harness_with(*triggers: EventTrigger | str) -> Harness:
    harness = Harness()
    harness.do(see(app(function("shop-f", *triggers))))
    return harness


def started(facts: list[Fact]) -> list[str]:
    return [fact.function for fact in facts if isinstance(fact, RunStarted)]


def test_an_event_starts_each_subscribed_function_once_on_this_lane() -> None:
    harness = Harness()
    harness.do(
        see(app(function("shop-a", "order/placed"), function("shop-b", "order/placed"), function("shop-c", "x")))
    )
    facts = harness.do(accept(event()))
    assert started(facts) == ["shop-a", "shop-b"]
    assert len([fact for fact in facts if isinstance(fact, EventAccepted)]) == 1
    assert all(lane_of(run, LANES) == 0 for run in harness.runs)


def test_several_triggers_that_fit_start_a_function_once() -> None:
    harness = harness_with("order/placed", "order/*", EventTrigger("order/placed", "event.name != ''"))
    assert started(harness.do(accept(event()))) == ["shop-f"]


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("order/*", "order/placed", True),
        ("order/*", "order/placed.late", True),
        ("order/placed.*", "order/placed.late", True),
        ("order/pl*", "order/placed", False),
        ("order/placed.*", "order/placed", False),
        ("order/*", "orders/placed", False),
        ("*", "order/placed", False),
    ],
)
def test_a_wildcard_matches_at_the_end_of_a_segment(pattern: str, name: str, fits: bool) -> None:
    assert bool(started(harness_with(pattern).do(accept(event(name=name))))) is fits


def test_an_event_that_nobody_subscribes_to_leads_to_no_fact() -> None:
    assert harness_with("order/placed").do(accept(event(name="order/lost"))) == []


def test_an_expression_decides_on_the_data_of_the_event() -> None:
    harness = harness_with(EventTrigger("order/placed", "event.data.n > 3"))
    assert started(harness.do(accept(event(1, data=b'{"n":3}'), 0))) == []
    assert started(harness.do(accept(event(2, data=b'{"n":4}'), 1))) == ["shop-f"]
    assert started(harness.do(accept(event(3, data=b"{}"), 2))) == []


def test_an_expression_that_gives_no_bool_skips_the_function_and_says_why() -> None:
    (fact,) = harness_with(EventTrigger("order/placed", "event.data.n")).do(accept(event(data=b'{"n":3}')))
    assert isinstance(fact, FunctionSkipped) and "true or false" in fact.reason


@pytest.mark.parametrize(
    ("expression", "data", "reason"),
    [
        ("event.data.n > 3", b"{}", 'Key not found in map : "n"'),
        ("event.data.n > 3", b'{"n":"4"}', "No matching overloads found : _>_(string, int64)"),
        ("event.data.n > 3", b'{"n":null}', "No matching overloads found"),
        ("event.dat.n > 3", b'{"n":4}', 'Key not found in map : "dat"'),
        ("12 / event.data.n > 3", b'{"n":0}', "divide by zero"),
        ("event.data.n[4] == 1", b'{"n":[1]}', "Index error"),
    ],
)
def test_an_expression_without_an_answer_leaves_a_notice_with_cels_reason(
    expression: str, data: bytes, reason: str
) -> None:
    harness = harness_with(EventTrigger("order/placed", expression))
    (fact,) = harness.do(accept(event(data=data)))
    assert isinstance(fact, FunctionSkipped) and reason in fact.reason
    assert "could not be evaluated" in fact.reason


def test_a_field_that_one_of_many_kinds_of_events_lacks_is_no_news() -> None:
    harness = harness_with(EventTrigger("order/*", "event.data.n > 3"))
    assert harness.do(accept(event(1, data=b"{}"), 0)) == []
    (fact,) = harness.do(accept(event(2, data=b'{"n":"4"}'), 1))
    assert isinstance(fact, FunctionSkipped)


def test_a_side_that_decides_alone_decides() -> None:
    harness = harness_with(EventTrigger("order/placed", "event.data.n > 3 || event.data.m == 1"))
    assert started(harness.do(accept(event(1, data=b'{"m":1}'), 0))) == ["shop-f"]
    assert started(harness.do(accept(event(2, data=b'{"n":4}'), 1))) == ["shop-f"]
    harness = harness_with(EventTrigger("order/placed", "event.data.n > 3 && event.data.m == 1"))
    assert harness.do(accept(event(3, data=b'{"m":2}'), 0)) == []


def test_a_trigger_without_an_answer_is_no_news_where_another_starts_the_function() -> None:
    harness = harness_with(EventTrigger("order/placed", "event.data.n > 3"), EventTrigger("order/placed"))
    assert not [fact for fact in harness.do(accept(event())) if isinstance(fact, FunctionSkipped)]


def test_an_expression_sees_the_key_and_the_meta_of_an_event() -> None:
    harness = harness_with(EventTrigger("order/placed", "event.key == 'k1' && event.meta.shop == 7"))
    seen = replace(event(), key="k1", meta=b'{"shop":7}')
    assert started(harness.do(accept(seen))) == ["shop-f"]


def test_an_expression_that_cannot_be_compiled_skips_the_function_and_stops_nothing() -> None:
    harness = Harness()
    broken = EventTrigger("order/placed", "event.data.n ===")
    harness.do(see(app(function("shop-a", broken), function("shop-b", "order/placed"))))
    facts = harness.do(accept(event()))
    assert started(facts) == ["shop-b"]
    assert any(isinstance(fact, FunctionSkipped) and fact.function == "shop-a" for fact in facts)


def test_a_record_that_was_read_before_is_ignored() -> None:
    harness = harness_with("order/placed")
    harness.do(accept(event(1), offset=7))
    assert harness.do(accept(event(2), offset=7)) == []
    assert harness.do(accept(event(3), offset=6)) == []
    assert started(harness.do(accept(event(4), offset=8))) == ["shop-f"]


def test_a_clients_id_starts_nothing_again_within_24_hours_and_does_after() -> None:
    harness = harness_with("order/placed")
    harness.do(accept(event(1, id="mine"), 0))
    at_ms = START_MS + 23 * limits.HOUR_MS
    harness.do(CleanUp(), at_ms)
    (fact,) = harness.do(accept(event(2, id="mine", at_ms=at_ms), 1))
    assert isinstance(fact, EventDeduplicated)
    at_ms = START_MS + 26 * limits.HOUR_MS
    harness.do(CleanUp(), at_ms)
    assert started(harness.do(accept(event(3, id="mine", at_ms=at_ms), 2))) == ["shop-f"]


def test_an_id_of_ours_is_remembered_for_10_minutes() -> None:
    harness = harness_with("order/placed")
    harness.do(accept(event(1), 0))
    harness.do(report(harness.run.run, 1, BodyDone(b"1")))
    harness.do(accept(event(2, at_ms=START_MS + 9 * MINUTE_MS), 1))
    harness.do(CleanUp(), START_MS + 9 * MINUTE_MS)
    assert started(harness.do(accept(event(1), 2))) == []
    harness.do(accept(event(3, at_ms=START_MS + 12 * MINUTE_MS), 3))
    harness.do(CleanUp(), START_MS + 12 * MINUTE_MS)
    assert len(harness.tables.seen.scan(limit=5)) == 2


def test_how_long_an_id_is_remembered_goes_by_its_source_however_late_that_is_read() -> None:
    harness = harness_with("order/placed")
    late_ms = START_MS + 3 * limits.DAY_MS  # The worker was away; now it reads what was sent meanwhile.
    assert started(harness.do(accept(event(1, id="mine"), 0), late_ms)) == ["shop-f"]
    assert harness.do(CleanUp(), late_ms) == []
    (fact,) = harness.do(accept(event(2, id="mine", at_ms=START_MS + 23 * limits.HOUR_MS), 1), late_ms)
    assert isinstance(fact, EventDeduplicated)
    harness.do(accept(event(3, at_ms=START_MS + 26 * limits.HOUR_MS), 2), late_ms)
    assert len(harness.do(CleanUp(), late_ms)) == 1
    again = event(4, id="mine", at_ms=START_MS + 26 * limits.HOUR_MS)
    assert started(harness.do(accept(again, 3), late_ms)) == ["shop-f"]


def test_an_id_that_comes_again_after_its_time_is_remembered_anew() -> None:
    """Though nothing was dropped meanwhile, and what is dropped then is the first time only."""
    harness = harness_with("order/placed")
    harness.do(accept(event(1, id="mine"), 0))
    again_ms = START_MS + 26 * limits.HOUR_MS
    assert started(harness.do(accept(event(2, id="mine", at_ms=again_ms), 1))) == ["shop-f"]
    assert len(harness.do(CleanUp(), again_ms)) == 1
    (fact,) = harness.do(accept(event(3, id="mine", at_ms=again_ms + limits.HOUR_MS), 2))
    assert isinstance(fact, EventDeduplicated)


def test_the_ids_of_a_source_that_brings_nothing_more_are_forgotten_in_the_end() -> None:
    harness = harness_with("order/placed")
    harness.do(accept(event(1, id="mine"), 0))
    assert harness.do(CleanUp(), START_MS + limits.SEEN_IDLE_MS) == []
    assert len(harness.do(CleanUp(), START_MS + limits.SEEN_IDLE_MS + 26 * limits.HOUR_MS)) == 1


def test_the_same_id_on_another_partition_is_another_event() -> None:
    harness = harness_with("order/placed")
    harness.do(accept(event(1, id="mine"), 0, partition=0))
    assert started(harness.do(accept(event(2, id="mine"), 0, partition=1))) == ["shop-f"]


def test_an_internal_id_that_comes_again_never_restarts_the_run_that_is_still_open() -> None:
    harness = harness_with("order/placed")
    harness.do(accept(event(1), 0))
    assert harness.do(CleanUp(), LONG_AFTER_MS)
    (fact,) = harness.do(accept(event(1), 1))
    assert isinstance(fact, EventDeduplicated)


def test_seen_ids_are_dropped_in_bounded_portions() -> None:
    harness = harness_with("order/placed")
    for number in range(40):  # 40 sources, so 40 buckets and 40 chunks.
        harness.do(accept(event(number), 0, partition=number))
    assert [len(harness.do(CleanUp(), LONG_AFTER_MS)) for _ in range(4)] == [16, 16, 8, 0]
    assert not harness.tables.seen.scan(limit=1) and not harness.tables.seen_buckets.scan(limit=1)


def test_a_bucket_of_many_ids_is_dropped_a_chunk_at_a_time() -> None:
    harness = harness_with("order/placed")
    for number in range(1_100):
        harness.do(accept(event(number), number))
        harness.do(report(harness.run.run, 1, BodyDone(b"1")))
    assert len(harness.tables.seen_chunks.scan(limit=10)) == 3
    assert len(harness.do(CleanUp(), LONG_AFTER_MS)) == 3
    assert not harness.tables.seen.scan(limit=1) and not harness.tables.seen_buckets.scan(limit=1)


def test_an_event_of_the_future_starts_its_run_then() -> None:
    harness = harness_with("order/placed")
    later_ms = START_MS + 5_000
    harness.do(accept(event(at_ms=later_ms)))
    timer = harness.armed("due")
    assert timer.at_ms == later_ms and not harness.story.dispatches
    assert harness.do(FireTimer(timer.at_ms, timer.kind, timer.id, timer.step), later_ms) == [RunDue(harness.run.run)]
    assert harness.out().dispatch == 1


def test_a_clock_a_little_ahead_is_not_the_future() -> None:
    harness = harness_with("order/placed")
    harness.do(accept(event(at_ms=START_MS + 900)))
    assert harness.out().dispatch == 1


@pytest.mark.parametrize("at_ms", [-1, 1 << 60])
def test_an_event_of_an_impossible_time_goes_to_the_dead_letters(at_ms: int) -> None:
    harness = harness_with("order/placed")
    refused, letter = harness.do(accept(event(at_ms=at_ms)))
    assert isinstance(refused, CommandRefused) and "Unix milliseconds" in refused.reason
    assert isinstance(letter, PublishQueued) and letter.topic == "shop.dead-letters"


def test_a_poison_record_goes_to_the_dead_letters_with_its_bytes_and_where_it_was() -> None:
    harness = Harness()
    poison = RefuseRecord("events", 0, 3, "the record is no event", b"k", b"\xff", (("trace", b"\xfe"),))
    refused, letter = harness.do(poison)
    assert isinstance(refused, CommandRefused)
    assert isinstance(letter, PublishQueued) and (letter.key, letter.value) == (b"k", b"\xff")
    assert letter.headers == (
        ("trace", b"\xfe"),
        ("millstream-reason", b"the record is no event"),
        ("millstream-topic", b"events"),
        ("millstream-partition", b"0"),
        ("millstream-offset", b"3"),
        ("millstream-at", b"%d" % harness.now_ms),
    )
    assert harness.do(poison) == []  # Read before: one letter is enough.


def test_data_that_is_no_json_goes_to_the_dead_letters_where_an_expression_asks_for_it() -> None:
    harness = harness_with(EventTrigger("order/placed", "event.data.n > 3"))
    refused, letter = harness.do(accept(event(data=b"{broken")))
    assert isinstance(refused, CommandRefused) and "data must be JSON" in refused.reason
    assert isinstance(letter, PublishQueued) and letter.value == b"{broken"


def test_a_source_is_opened_once_and_a_gap_never_moves_it_back() -> None:
    harness = harness_with("order/placed")
    look = SeeTopic("events", 1, (Opening(0, 5),))
    assert harness.do(look) == [SourceOpened("events", 0, 5), TopicSeen("events", 1)]
    assert harness.do(look) == []
    assert harness.do(NoteGap("events", 0, 5, 9)) == [SourceGap("events", 0, 5, 9)]
    harness.do(accept(event(), 20))
    assert harness.do(NoteGap("events", 0, 5, 9)) == []
