"""What keeps a closing wait alive: its question, or the answer, in an outbox or an inbox and not taken."""

from __future__ import annotations

from typing import Final

import pytest

from millstream.core.under_way import LaneSeen, Question, seen_of, unanswered
from millstream.model.commands import EventCame, FireTimer, ForgetWait, NoteDelivered, NothingCame, SignalCame
from millstream.model.facts import MessageSent
from millstream.model.messages import InboxRecord, Message
from millstream.model.operations import Condition, SignalWaitFound, WaitFound
from millstream.model.waits.awaited import home_of_place, place_of
from tests.core.harness import Harness
from tests.core.values import HOUR_MS, LANES, accept, app, event, function, report, see
from tests.core.wait_moves import PAID, SIGNALS

THERE: Final = next(n for n in range(99) if home_of_place(place_of(PAID, "data.n", str(n)), LANES) == 1)
HERE, OTHER = 0, 1


def closing(signal: str = "") -> tuple[Harness, Question, int]:
    """A step that has asked lane 1; its question, and the number of the message."""
    harness = Harness()
    harness.do(see(app(function("shop-f", "order/placed"))))
    harness.do(accept(event(data=b'{"n":%d}' % THERE)))
    by_value = WaitFound("wait", "wait", (Condition(PAID, "data.n"),), HOUR_MS)
    wait = SignalWaitFound("wait", "wait", signal, HOUR_MS, False) if signal else by_value
    run = harness.run.run
    harness.do(report(run, harness.out().dispatch, wait))
    arm = harness.armed("wait")
    facts = harness.do(FireTimer(arm.at_ms, arm.kind, arm.id, arm.step), arm.at_ms)
    (sent,) = (fact for fact in facts if isinstance(fact, MessageSent))
    return harness, (run, "wait", 0), sent.seq


def lost(harness: Harness, *unread: tuple[int, InboxRecord], home: LaneSeen | None = None) -> list[Question]:
    lanes = [seen_of(harness.tables), home or LaneSeen(OTHER)]
    return [question for _, question in unanswered(lanes, unread)]


@pytest.mark.parametrize("signal", ["", SIGNALS[OTHER]])
def test_a_question_in_the_outbox_or_in_the_home_s_inbox_keeps_the_step_alive(signal: str) -> None:
    harness, question, seq = closing(signal)
    assert not lost(harness)
    sent = harness.tables.outbox.get((OTHER, seq))
    assert sent is not None
    harness.do(NoteDelivered(OTHER, seq))
    assert lost(harness) == [question]
    assert not lost(harness, (OTHER, InboxRecord(HERE, seq, sent.message)))


def test_a_question_that_its_home_has_taken_does_not_though_it_still_lies_there() -> None:
    harness, question, seq = closing()
    home = LaneSeen(OTHER, taken={HERE: seq})
    assert lost(harness, home=home) == [question], "the outbox has not heard that it arrived"
    harness.do(NoteDelivered(OTHER, seq))
    again = InboxRecord(HERE, seq, ForgetWait(*question, "place", True))
    assert lost(harness, (OTHER, again), home=home) == [question]


@pytest.mark.parametrize("kind", [NothingCame, EventCame, SignalCame])
def test_the_answer_on_its_way_keeps_the_step_alive(kind: type) -> None:
    harness, question, seq = closing(SIGNALS[OTHER] if kind is SignalCame else "")
    harness.do(NoteDelivered(OTHER, seq))
    answer: Message = NothingCame(*question)
    if kind is EventCame:
        answer = EventCame(*question, event(7, PAID))
    elif kind is SignalCame:
        answer = SignalCame(*question[:2], b"1")
    assert not lost(harness, home=LaneSeen(OTHER, sent=[(HERE, 1, question)], taken={HERE: seq}))
    assert not lost(harness, (HERE, InboxRecord(OTHER, 1, answer)), home=LaneSeen(OTHER, taken={HERE: seq}))


def test_what_is_about_another_step_or_asks_for_no_answer_does_not() -> None:
    harness, question, seq = closing()
    harness.do(NoteDelivered(OTHER, seq))
    run, _, index = question
    others = (ForgetWait(run, "other", index, "place", True), ForgetWait(*question, "place", False))
    assert lost(harness, *((OTHER, InboxRecord(HERE, seq + n, one)) for n, one in enumerate(others))) == [question]
