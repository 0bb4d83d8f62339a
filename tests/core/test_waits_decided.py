"""What the home of a place decides: who waits there, what it keeps, what it asks, and when nothing has come.

This lane is the home of the places here; the runs that wait, and half of the readers, are on lane 1.
"""

from __future__ import annotations

from typing import Final

import pytest

from millstream.core.waits import homes, kept
from millstream.core.waits.coverage import IDLE_MS
from millstream.core.waits.interests import FORWARD_NO_MORE
from millstream.model import limits
from millstream.model.commands import (
    AwaitEvent,
    CleanUp,
    EventCame,
    EventsSought,
    FireTimer,
    ForgetWait,
    LaneMessage,
    NothingCame,
    SeekEvents,
    TakeEvent,
    TakeMessage,
)
from millstream.model.event import Envelope
from millstream.model.facts import EventKept, EventNoted, MessageSent
from millstream.model.waits.awaited import event_mark
from tests.core.harness import Harness
from tests.core.values import START_MS, accept, event
from tests.core.wait_moves import ELSEWHERE, HERE, PAID

PLACE: Final = HERE[0]


def waiting(index: int = 0, *, since_ms: int = START_MS, excluded: bytes = b"", expression: str = "") -> AwaitEvent:
    """A step of a run on lane 1 waits here."""
    return AwaitEvent(ELSEWHERE, "wait", index, PLACE, PAID, "data.n", since_ms, expression, b"", excluded)


def paid(number: int = 1, *, at_ms: int = START_MS) -> Envelope:
    """An event of that place."""
    return event(number, PAID, at_ms=at_ms, data=b'{"n":5}')


def took(harness: Harness, *messages: LaneMessage) -> list[LaneMessage]:
    """Lane 1 sends these; what it is sent back."""
    answers: list[LaneMessage] = []
    for message in messages:
        facts = harness.do(TakeMessage(1, harness.story.taken.get(1, 0) + 1, message))
        answers += [fact.message for fact in facts if isinstance(fact, MessageSent)]
    return answers


def fired(harness: Harness, kind: str) -> list[LaneMessage]:
    """The timers of this kind fire until none is left; what lane 1 is sent."""
    answers: list[LaneMessage] = []
    while any(key[1] == kind for key, _ in harness.tables.timers.scan(limit=100)):
        arm = harness.armed(kind)
        facts = harness.do(FireTimer(arm.at_ms, arm.kind, arm.id, arm.step))
        answers += [fact.message for fact in facts if isinstance(fact, MessageSent)]
    return answers


def question(index: int = 0) -> ForgetWait:
    """The time of the wait is over: has nothing come?"""
    return ForgetWait(ELSEWHERE, "wait", index, PLACE, True)


def nothing_comes_before_every_lane_has_looked() -> None:
    harness = Harness()
    asked = took(harness, waiting())
    assert asked == [SeekEvents(PAID, "data.n", 0, 1, START_MS)]
    assert took(harness, question()) == [NothingCame(ELSEWHERE, "wait", 0, is_early=True)]
    harness.do(EventsSought(PAID, "data.n", 0, 1))
    assert took(harness, question()) == [NothingCame(ELSEWHERE, "wait", 0, is_early=True)]
    took(harness, EventsSought(PAID, "data.n", 1, 1))
    assert took(harness, question()) == [NothingCame(ELSEWHERE, "wait", 0)]


def test_nothing_comes_before_every_lane_has_looked() -> None:
    nothing_comes_before_every_lane_has_looked()


def test_an_event_that_came_before_the_wait_is_kept_for_it() -> None:
    harness = Harness()
    assert took(harness, TakeEvent(paid(), (PLACE,))) == []
    assert took(harness, waiting()) == [EventCame(ELSEWHERE, "wait", 0, paid())]
    assert took(harness, waiting(1, since_ms=START_MS + 1)) != [EventCame(ELSEWHERE, "wait", 1, paid())]


def test_an_event_that_is_read_twice_comes_once() -> None:
    harness = Harness()
    took(harness, waiting())
    assert took(harness, TakeEvent(paid(), (PLACE,))) == [EventCame(ELSEWHERE, "wait", 0, paid())]
    took(harness, waiting(1, since_ms=START_MS + 1))
    assert took(harness, TakeEvent(paid(), (PLACE,))) == []


def test_what_is_excluded_is_passed_over() -> None:
    harness = Harness()
    took(harness, waiting(excluded=event_mark(paid(1))))
    assert took(harness, TakeEvent(paid(1), (PLACE,))) == []
    assert took(harness, TakeEvent(paid(2), (PLACE,))) == [EventCame(ELSEWHERE, "wait", 0, paid(2))]


def test_one_event_meets_all_who_wait_for_it_a_limited_number_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "LOOKED_AT_ONCE_MAX", 10)
    harness = Harness()
    took(harness, *(waiting(index) for index in range(35)))
    first = took(harness, TakeEvent(paid(), (PLACE,)))
    assert len(first) == 10
    rest = fired(harness, homes.MATCH)
    assert {m.index for m in (*first, *rest) if isinstance(m, EventCame)} == set(range(35))
    assert len(first) + len(rest) == 35


def test_a_wait_does_not_end_in_vain_beside_an_event_that_still_meets_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 2511: the timer with which the event goes on was later than the end of the wait."""
    monkeypatch.setattr(homes, "LOOKED_AT_ONCE_MAX", 10)
    harness = Harness()
    took(harness, *(waiting(index) for index in range(25)), EventsSought(PAID, "data.n", 0, 1))
    took(harness, EventsSought(PAID, "data.n", 1, 1))
    assert len(took(harness, TakeEvent(paid(), (PLACE,)))) == 10
    assert took(harness, question(24)) == [EventCame(ELSEWHERE, "wait", 24, paid())]
    assert took(harness, question(24)) == [NothingCame(ELSEWHERE, "wait", 24)]
    assert len(fired(harness, homes.MATCH)) == 14
    took(harness, waiting(25, excluded=event_mark(paid())))
    assert took(harness, question(25)) == [NothingCame(ELSEWHERE, "wait", 25)]


def test_a_place_that_is_added_while_an_event_meets_others_is_met_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "LOOKED_AT_ONCE_MAX", 2)
    harness = Harness()
    other = HERE[1]
    took(harness, *(waiting(index) for index in range(5)))
    took(harness, AwaitEvent(ELSEWHERE, "other", 0, other, PAID, "data.n", START_MS, "", b"", b""))
    came = took(harness, TakeEvent(paid(), (PLACE,)), TakeEvent(paid(), (PLACE, other)))
    came += fired(harness, homes.MATCH)
    assert len(came) == 6


def test_a_wait_looks_through_all_that_is_kept_a_limited_number_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "LOOKED_AT_ONCE_MAX", 10)
    harness = Harness()
    took(harness, *(TakeEvent(paid(number), (PLACE,)) for number in range(1, 36)))
    wanted = f"async.id == '{paid(31).id}'"
    assert EventCame(ELSEWHERE, "wait", 0, paid(31)) not in took(harness, waiting(expression=wanted))
    assert took(harness, question()) == [NothingCame(ELSEWHERE, "wait", 0, is_early=True)]
    assert fired(harness, homes.LOOK) == [EventCame(ELSEWHERE, "wait", 0, paid(31))]


def test_a_wait_that_looks_on_where_events_were_let_go_of_has_them_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 146: what was dropped between two looks was neither seen nor asked for again."""
    monkeypatch.setattr(homes, "LOOKED_AT_ONCE_MAX", 10)
    monkeypatch.setattr(limits, "KEPT_EVENTS_MAX", 15)
    harness = Harness()
    took(harness, waiting(1, since_ms=START_MS), EventsSought(PAID, "data.n", 0, 1), EventsSought(PAID, "data.n", 1, 1))
    took(harness, *(TakeEvent(paid(number), (PLACE,)) for number in range(1, 36)))
    wanted = f"async.id == '{paid(18).id}'"
    took(harness, waiting(expression=wanted))
    harness.do(CleanUp())
    assert harness.tables.kept.get((paid(18).received_at_ms, paid(18).internal_id)) is None
    asked = fired(harness, homes.LOOK)
    assert [m.seek for m in asked if isinstance(m, SeekEvents)]
    assert took(harness, question()) == [NothingCame(ELSEWHERE, "wait", 0, is_early=True)]
    assert took(harness, TakeEvent(paid(18), (PLACE,))) == [EventCame(ELSEWHERE, "wait", 0, paid(18))]


def test_waits_without_an_equal_value_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNMATCHED_WAITS_MAX", 2)
    harness = Harness()
    for index in range(2):
        took(harness, AwaitEvent(ELSEWHERE, "wait", index, PLACE, PAID, "", START_MS, "async.data.n > 9", b"", b""))
    one_more = AwaitEvent(ELSEWHERE, "wait", 2, PLACE, PAID, "", START_MS, "async.data.n > 9", b"", b"")
    (refused,) = took(harness, one_more)
    assert isinstance(refused, NothingCame) and "at most 2 waits" in refused.reason


def test_what_is_kept_is_bounded_and_a_wait_that_looks_further_back_has_the_topic_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness()
    took(harness, waiting(), EventsSought(PAID, "data.n", 0, 1), EventsSought(PAID, "data.n", 1, 1))
    took(harness, *(TakeEvent(paid(number, at_ms=START_MS + number), HERE) for number in range(1, 6)))
    monkeypatch.setattr(limits, "KEPT_EVENTS_MAX", 2)
    harness.do(CleanUp())
    assert [key[0] for key, _ in harness.tables.kept.scan(limit=10)] == [START_MS + 4, START_MS + 5]
    asked = took(harness, waiting(1, since_ms=START_MS + 2, expression="async.data.n > 9"))
    assert asked == [SeekEvents(PAID, "data.n", 0, 2, START_MS + 2)]
    older = waiting(2, since_ms=START_MS, expression="async.data.n > 9")
    assert took(harness, older) == [], "one request is under way at a time"
    took(harness, EventsSought(PAID, "data.n", 0, 2))
    assert took(harness, EventsSought(PAID, "data.n", 1, 2)) == [SeekEvents(PAID, "data.n", 0, 3, START_MS)]


def test_what_is_kept_is_bounded_however_fast_events_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEPT_EVENTS_MAX", 4)
    monkeypatch.setattr(kept, "DROPPED_AT_ONCE_MAX", 3)
    harness = Harness()
    for number in range(1, 41):
        took(harness, TakeEvent(paid(number, at_ms=START_MS + number), (PLACE,)))
        assert len(harness.tables.kept.scan(limit=100)) <= 4 + 3
    assert harness.tables.kept.get((START_MS + 40, paid(40).internal_id)) is not None


def test_readers_forward_until_they_are_told_that_nobody_waits_any_more() -> None:
    harness = Harness()
    took(harness, waiting(), EventsSought(PAID, "data.n", 0, 1), EventsSought(PAID, "data.n", 1, 1))
    harness.now_ms += 10 * IDLE_MS
    harness.do(CleanUp())
    assert harness.tables.coverage.scan(limit=1), "somebody waits"
    took(harness, ForgetWait(ELSEWHERE, "wait", 0, PLACE, False))
    harness.now_ms += IDLE_MS + 1
    facts = harness.do(CleanUp())
    assert SeekEvents(PAID, "data.n", 0, 1, FORWARD_NO_MORE) in [f.message for f in facts if isinstance(f, MessageSent)]
    assert not harness.tables.coverage.scan(limit=1) and not harness.tables.interests.scan(limit=1)


def test_an_event_goes_to_those_homes_only_that_want_it() -> None:
    harness = Harness()
    given = event(1, PAID, data=b'{"n":5}')
    took(harness, SeekEvents(PAID, "data.n", 1, 1, START_MS))
    assert [type(fact) for fact in harness.do(accept(given, offset=0))] == [EventNoted], "its home is lane 0"
    took(harness, waiting())
    assert any(isinstance(fact, EventKept) for fact in harness.do(accept(event(2, PAID, data=b'{"n":5}'), offset=1)))


def test_an_event_that_starts_nothing_and_is_waited_for_is_known_when_it_comes_again() -> None:
    harness = Harness()
    took(harness, SeekEvents(PAID, "data.n", 1, 1, START_MS))
    given = event(1, PAID, id="mine", data=b'{"n":5}')
    assert any(isinstance(fact, EventNoted) for fact in harness.do(accept(given, offset=0)))
    again = event(2, PAID, id="mine", data=b'{"n":5}')
    assert not any(isinstance(fact, EventNoted | MessageSent) for fact in harness.do(accept(again, offset=1)))


def test_an_event_whose_data_is_no_json_meets_nobody_and_harms_nobody() -> None:
    harness = Harness()
    took(harness, SeekEvents(PAID, "data.n", 1, 1, START_MS))
    facts = harness.do(accept(event(1, PAID, data=b"{broken"), offset=0))
    assert [type(fact) for fact in facts] == [EventNoted]
