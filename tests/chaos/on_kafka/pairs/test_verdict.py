"""Would the proof notice? Every kind of violation, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from millstream.model.facts import (
    EventAccepted,
    EventTaken,
    Fact,
    RunCompleted,
    RunFailed,
    RunStarted,
    StepCompleted,
    WaitStarted,
)
from millstream.model.journal import JournalRecord
from millstream.model.waits.awaited import AwaitedEvents
from tests.chaos.on_kafka.pairs.asking import SLUG, START, answer_id, start_id
from tests.chaos.on_kafka.pairs.verdict import Judged, judge

START_EVENT = EventAccepted(
    "I7", start_id(7), True, START, b'{"order_id":7}', 1, 1, "", b"", "", b"", "events", 0, 0, b""
)  # fmt: skip
RESULT = msgspec.json.encode({"order_id": 7, "answer": answer_id(7)})
WAITED = StepCompleted("R7", "answer", "answer", "wait_for_event", 0, 0, b'{"data":%b}' % RESULT, 1, False)
ENDED = RunCompleted("R7", SLUG, 3, RESULT)
LIFE: list[Fact] = [
    START_EVENT,
    RunStarted("R7", SLUG, ("I7",), "", 0),
    WaitStarted("R7", "answer", "answer", "wait_for_event", 1, 9, AwaitedEvents((), False, 0)),
    EventTaken("R7", "answer", 0, b"", b""),
    WAITED,
    StepCompleted("R7", "after", "after", "run", 0, 0, RESULT, 1, False),
    ENDED,
]


def judged(facts: Sequence[Fact], wanted: Sequence[int] = (7,)) -> Judged:
    """As if so many pairs had been sent, of which these are the orders."""
    return judge([JournalRecord(b"", n, 100 + n, (fact,)) for n, fact in enumerate(facts)], wanted)


def changed(old: Fact, new: Fact) -> list[str]:
    return judged([new if fact is old else fact for fact in LIFE]).wrong


def test_a_life_without_a_flaw_is_passed() -> None:
    found = judged(LIFE)
    assert found.wrong == []
    assert (found.runs, found.resolved_ms, found.closed) == ({"R7": 7}, {7: 104}, {"R7"})


def test_an_order_without_a_run_and_a_run_that_is_open_are_noticed() -> None:
    assert "1 orders have no run, such as 8" in judged(LIFE, [7, 8]).wrong[0]
    assert "is open" in judged(LIFE[:-1]).wrong[0]


def test_whatever_happens_twice_is_noticed() -> None:
    for fact in LIFE[1:]:
        assert any("twice" in line for line in judged([*LIFE, fact]).wrong), fact
    second: list[Fact] = [msgspec.structs.replace(fact, run="R8") for fact in LIFE[1:]]
    assert any("an event has started two" in line for line in judged([*LIFE, *second]).wrong)


def test_a_wait_that_ended_in_vain_or_with_another_answer_is_noticed() -> None:
    assert "waited in vain" in changed(WAITED, msgspec.structs.replace(WAITED, data=b"null"))[0]
    other = b'{"data":{"order_id":8,"answer":"answer-8"}}'
    assert "took the answer" in changed(WAITED, msgspec.structs.replace(WAITED, data=other))[0]


def test_a_run_that_failed_or_ended_with_something_else_is_noticed() -> None:
    assert "should have completed" in changed(ENDED, RunFailed("R7", SLUG, 0, "E", "", ""))[0]
    other = b'{"order_id":7,"answer":null}'
    assert "ended with" in changed(ENDED, msgspec.structs.replace(ENDED, result=other))[0]
