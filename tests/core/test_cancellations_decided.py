"""Many runs cancelled by one request: page by page, exactly those that are meant, whatever happens meanwhile."""

from __future__ import annotations

import json
from typing import Final

import pytest

from millstream.core import timers
from millstream.core.runs import cancellations
from millstream.model import limits
from millstream.model.commands import FireTimer, TakeMessage
from millstream.model.facts import (
    CancellationAdvanced,
    CancellationEnded,
    CancellationStarted,
    Fact,
    MessageSent,
    RequestAnswered,
    RunCancelled,
)
from millstream.model.ids import home_of, ulid
from millstream.model.run_requests import CancelRun, CancelRuns, StopCancelling
from tests.core.harness import Harness
from tests.core.values import HOUR_MS, LANES, PLACE, START_MS, accept, app, event, function, see

ID: Final = next(
    id for n in range(99) if home_of(id := ulid(START_MS, n.to_bytes(10, "big")), LANES) == PLACE.lane
)  # fmt: skip
LATER_MS: Final = START_MS + HOUR_MS


@pytest.fixture
def harness() -> Harness:
    harness = Harness()
    harness.do(see(app(function("shop-f", "order/placed"), function("shop-g", "order/placed"))))
    return harness


def placed(harness: Harness, numbers: range, *, at_ms: int = START_MS) -> None:
    """Orders; each starts a run of both functions."""
    for number in numbers:
        harness.do(accept(event(number, at_ms=at_ms, data=b'{"n":%d}' % number), offset=number), at_ms)


def asked(
    *, from_ms: int = 0, before_ms: int = LATER_MS, expression: str = "", request: str = ID, id: str = ID
) -> CancelRuns:
    return CancelRuns(id, "shop-f", from_ms, before_ms, expression, "a wrong price list", request, 0)


def reply(facts: list[Fact]) -> dict[str, str]:
    (found,) = (fact for fact in facts if isinstance(fact, RequestAnswered))
    decoded: dict[str, str] = json.loads(found.reply)
    return decoded


def look_on(harness: Harness) -> list[Fact]:
    """The next page."""
    arm = harness.armed(timers.CANCEL)
    return harness.do(FireTimer(arm.at_ms, arm.kind, arm.id, arm.step))


def look_at_all(harness: Harness) -> list[Fact]:
    facts: list[Fact] = []
    while harness.tables.cancellations.get(ID) is not None:
        facts += look_on(harness)
    return facts


def of(harness: Harness, slug: str) -> list[str]:
    return [id for id, run in harness.runs.items() if run.function == slug]


def test_the_home_begins_and_has_every_other_lane_begin(harness: Harness) -> None:
    facts = harness.do(asked())
    assert facts[0] == CancellationStarted(ID, 0, "shop-f", 0, LATER_MS, "", "a wrong price list")
    (sent,) = (fact for fact in facts if isinstance(fact, MessageSent))
    assert (sent.to_lane, sent.message) == (1, CancelRuns(ID, "shop-f", 0, LATER_MS, "", "a wrong price list"))
    assert reply(facts) == {"status": "started", "cancellation": ID, "before_ms": str(LATER_MS)}


def test_what_the_home_tells_is_for_this_lane_alone(harness: Harness) -> None:
    facts = harness.do(TakeMessage(1, 1, asked(request="")))
    assert [type(fact).__name__ for fact in facts] == ["MessageTaken", "CancellationStarted"]


def test_asked_again_it_is_answered_the_same_and_begins_once_while_it_looks_and_after(harness: Harness) -> None:
    placed(harness, range(1, 3))
    first = reply(harness.do(asked()))
    for _ in range(2):
        again = harness.do(asked())
        assert [type(fact) for fact in again] == [RequestAnswered] and reply(again) == first
        look_at_all(harness)


def test_only_runs_of_the_function_the_time_and_the_expression_end(harness: Harness) -> None:
    placed(harness, range(1, 4), at_ms=START_MS)
    placed(harness, range(4, 7), at_ms=START_MS + 1_000)
    placed(harness, range(7, 10), at_ms=START_MS + 2_000)
    harness.do(asked(from_ms=START_MS + 1_000, before_ms=START_MS + 2_000, expression="event.data.n >= 5"))
    facts = look_at_all(harness)
    ended = [fact for fact in facts if isinstance(fact, RunCancelled)]
    assert len(ended) == 2 and {fact.function for fact in ended} == {"shop-f"}
    assert {fact.reason for fact in ended} == {f"cancellation {ID}: a wrong price list"}
    assert CancellationEnded(ID, 0, False, len(harness.runs) + 2, 2) in facts
    assert len(of(harness, "shop-g")) == len(of(harness, "shop-f")) + 2


def test_the_range_takes_in_its_beginning_and_leaves_out_its_end(harness: Harness) -> None:
    for number, at_ms in enumerate((999, 1_000, 1_999, 2_000), 1):
        placed(harness, range(number, number + 1), at_ms=START_MS + at_ms)
    harness.do(asked(from_ms=START_MS + 1_000, before_ms=START_MS + 2_000))
    look_at_all(harness)
    assert {harness.runs[run].queued_at_ms for run in of(harness, "shop-f")} == {START_MS + 999, START_MS + 2_000}


def test_runs_that_begin_later_are_none_of_it_however_late_its_end(harness: Harness) -> None:
    placed(harness, range(1, 3))
    harness.do(asked(before_ms=START_MS + 10 * HOUR_MS), START_MS + 1)
    placed(harness, range(3, 6), at_ms=START_MS + 2)
    look_at_all(harness)
    assert len(of(harness, "shop-f")) == 3


def test_many_runs_are_looked_at_a_page_at_a_time_and_others_are_served_between(harness: Harness) -> None:
    runs = 2 * cancellations.CANCELLED_AT_ONCE_MAX + 10
    placed(harness, range(1, runs + 1))
    harness.do(asked())
    pages = 0
    while harness.tables.cancellations.get(ID) is not None:
        facts = look_on(harness)
        (advanced,) = (fact for fact in facts if isinstance(fact, CancellationAdvanced))
        assert advanced.looked <= cancellations.LOOKED_AT_ONCE_MAX
        assert advanced.cancelled <= cancellations.CANCELLED_AT_ONCE_MAX
        pages += 1
        left = of(harness, "shop-f")
        if left:  # One is cancelled by itself between two pages.
            harness.do(CancelRun(left[0], "by hand"))
    assert pages >= 2 and not of(harness, "shop-f") and len(of(harness, "shop-g")) == runs


def test_large_events_make_small_pages(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellations, "EVENT_BYTES_AT_ONCE_MAX", 20)
    placed(harness, range(1, 11))
    harness.do(asked(expression="event.data.n < 0"))
    (advanced,) = (fact for fact in look_on(harness) if isinstance(fact, CancellationAdvanced))
    assert advanced.looked < 20
    look_at_all(harness)
    assert len(of(harness, "shop-f")) == 10


def test_a_run_about_which_the_expression_says_nothing_goes_on(harness: Harness) -> None:
    for number, data in enumerate((b'{"n":1}', b"{}", b'{"n":"x"}', b"{broken", b'{"n":true}'), 1):
        harness.do(accept(event(number, data=data), offset=number))
    open_before = len(of(harness, "shop-f"))
    harness.do(asked(expression="event.data.n == 1 || event.data.n"))
    look_at_all(harness)
    assert len(of(harness, "shop-f")) == open_before - 2, "the ones whose n is 1, and true"


@pytest.mark.parametrize(
    ("expression", "said"),
    [("event.data.n ==", "is not valid"), ("event.dta.n == 1", "no event has"), ("1 + 1", "always gives")],
)
def test_an_expression_that_can_choose_nothing_is_refused_with_a_sentence(
    harness: Harness, expression: str, said: str
) -> None:
    facts = harness.do(asked(expression=expression))
    assert [type(fact) for fact in facts] == [RequestAnswered]
    assert reply(facts)["status"] == "refused" and said in reply(facts)["reason"]


def test_there_is_a_most_of_cancellations_at_a_time(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CANCELLATIONS_MAX", 1)
    harness.do(asked())
    other = next(
        id for n in range(99, 199) if home_of(id := ulid(START_MS, n.to_bytes(10, "big")), LANES) == PLACE.lane
    )
    facts = harness.do(asked(id=other, request=other))
    assert reply(facts)["status"] == "refused" and "1 cancellations are under way" in reply(facts)["reason"]
    assert harness.do(TakeMessage(1, 1, asked(id=other, request="")))[1:], "its home has agreed: the others do"


def test_a_stop_ends_it_here_and_everywhere_and_keeps_what_is_cancelled(harness: Harness) -> None:
    placed(harness, range(1, cancellations.CANCELLED_AT_ONCE_MAX + 11))
    harness.do(asked())
    look_on(harness)
    facts = harness.do(StopCancelling(ID, ulid(START_MS, b"stop-this1"), 0))
    most = cancellations.CANCELLED_AT_ONCE_MAX
    (ended,) = (fact for fact in facts if isinstance(fact, CancellationEnded))
    assert (ended.is_stopped, ended.cancelled) == (True, most) and len(of(harness, "shop-f")) == 10
    assert [fact.message for fact in facts if isinstance(fact, MessageSent)] == [StopCancelling(ID)]
    assert reply(facts)["status"] == "stopping"
    assert not harness.tables.timers.scan(limit=10)


def test_a_stop_of_one_that_is_over_here_still_reaches_the_others(harness: Harness) -> None:
    harness.do(asked())
    look_at_all(harness)
    facts = harness.do(StopCancelling(ID, ulid(START_MS, b"stop-this2"), 0))
    assert [fact.message for fact in facts if isinstance(fact, MessageSent)] == [StopCancelling(ID)]
    assert not any(isinstance(fact, CancellationEnded) for fact in facts)


def test_a_stop_of_one_that_never_was_says_so(harness: Harness) -> None:
    facts = harness.do(StopCancelling(ID, ulid(START_MS, b"stop-this3"), 0))
    assert [type(fact) for fact in facts] == [RequestAnswered] and reply(facts)["status"] == "unknown"
