"""What keeps a step alive whose wait is closing: the question to the home of each place, or the answer, is under way.

    CLOSING ──ForgetWait, ForgetSignal──> outbox, the home's inbox ──NothingCame, EventCame, SignalCame──> its inbox

The home answers in the record that takes the question, so it never holds one. A lane that is its own home asks and is
answered in one record. So of each condition that is not over, one of the two must lie in an outbox or an inbox and not
be taken: that needs the rows of two lanes, and the records between. ``millstream lanes verify`` has both.

Rows of several lanes are of several moments. Who reads all rows first and the inboxes last, each from where its lane's
rows say, sees every message somewhere, for a lane that goes on only takes what lies there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from millstream.core.liveness import open_runs
from millstream.core.runs.hands import CLOSING
from millstream.core.tables import Tables
from millstream.model.commands import EventCame, ForgetSignal, ForgetWait, NothingCame, SignalCame
from millstream.model.messages import InboxRecord, group_topic
from millstream.model.rows import RunRow
from millstream.model.waits.awaited import AwaitedEvents

PAGE_ROWS = 500
Question = tuple[str, str, int]
"""(run, step, condition)."""


@dataclass(slots=True)
class LaneSeen:
    """What the rows of a lane say of questions.

    ``asked``       those of its closing steps that are not answered.
    ``sent``        messages about questions in its outbox: (to lane, number, question).
    ``taken``       by lane, the number of the last message that it has taken.
    ``inbox_from``  where its inbox is read next.
    """

    lane: int
    asked: list[Question] = field(default_factory=list)
    sent: list[tuple[int, int, Question]] = field(default_factory=list)
    taken: dict[int, int] = field(default_factory=dict)
    inbox_from: int = 0


def seen_of(tables: Tables) -> LaneSeen:
    """Look at a lane's rows."""
    seen = LaneSeen(tables.place.lane)
    for run in open_runs(tables):
        seen.asked += asked_by(tables, run)
    at: tuple[int, int] | None = None
    while page := tables.outbox.scan(at, limit=PAGE_ROWS):
        for (to_lane, seq), row in page:
            at = (to_lane, seq + 1)
            if (question := about(row.message)) is not None:
                seen.sent.append((to_lane, seq, question))
    seen.taken = {lane: row.taken for lane, row in tables.inbox_cursors.scan(limit=1 << 30)}
    position = tables.positions.get((group_topic(tables.place.group, "inbox"), seen.lane))
    seen.inbox_from = position.offset if position is not None else 0
    return seen


def asked_by(tables: Tables, run: RunRow) -> Iterator[Question]:
    """The questions of a run's closing steps that are not answered."""
    for id in run.steps if run.pending else ():
        step = tables.steps.get((run.run, id))
        if step is None or step.hand != CLOSING:
            continue
        if not isinstance(step.awaits, AwaitedEvents):
            yield run.run, id, 0
            continue
        for index, condition in enumerate(step.awaits.conditions):
            if condition.place and not condition.came and not condition.is_over:
                yield run.run, id, index


def about(message: object) -> Question | None:
    """The question that a message asks or answers; None: it has to do with none."""
    match message:
        case ForgetWait(is_answered=True) | NothingCame() | EventCame():
            return message.run, message.step, message.index
        case ForgetSignal(is_answered=True) | SignalCame():
            return message.run, message.step, 0
        case _:
            return None


def unanswered(lanes: Sequence[LaneSeen], unread: Iterable[tuple[int, InboxRecord]]) -> Iterator[tuple[int, Question]]:
    """The questions, with their lanes, of which nothing is under way. ``unread``: records of inboxes, by lane."""
    taken = {(seen.lane, of): number for seen in lanes for of, number in seen.taken.items()}

    def is_new(to_lane: int, from_lane: int, seq: int) -> bool:
        return seq > taken.get((to_lane, from_lane), 0)

    alive = {q for seen in lanes for to_lane, seq, q in seen.sent if is_new(to_lane, seen.lane, seq)}
    alive |= {
        question
        for to_lane, record in unread
        if is_new(to_lane, record.from_lane, record.seq) and (question := about(record.message)) is not None
    }
    for seen in lanes:
        yield from ((seen.lane, question) for question in seen.asked if question not in alive)
