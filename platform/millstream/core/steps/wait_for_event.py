"""``step.wait_for_event``, ``wait_for_any`` and ``wait_for_all``: the run goes on when an event comes, or time is over.

WaitFound ─> WaitStarted; AwaitEvent to the home of each condition's place (core/waits)
EventCame ─> EventTaken; the first of any, or the last of all: StepCompleted with it
timer     ─> WaitClosing; each home is asked ─> NothingCame ─> WaitOver; of the last: StepCompleted with null
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from millstream.core import timers
from millstream.core.runs.awaiting import show_started, show_taken, too_long
from millstream.core.runs.closing import close_step
from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.hands import CLOSING
from millstream.core.runs.moves import Move, Moves
from millstream.core.runs.resolving import complete, fail_step
from millstream.core.step_kinds import StepKind
from millstream.core.tables import Tables
from millstream.core.triggers.readable import readable
from millstream.core.waits.places import placed
from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.announcement import RunEnd, event_json
from millstream.model.commands import AwaitEvent, EventCame, ForgetWait, NothingCame
from millstream.model.event import Envelope
from millstream.model.facts import (
    EventTaken,
    Fact,
    Post,
    StepCompleted,
    StepFailed,
    WaitClosing,
    WaitOver,
    WaitPostponed,
    WaitStarted,
)
from millstream.model.operations import WaitFound
from millstream.model.rows import Hand, RunRow, StepRow
from millstream.model.waits.awaited import (
    AwaitedEvent,
    AwaitedEvents,
    condition_mark,
    event_mark,
    home_of_place,
    taken_by,
)

NAME: Final = "wait_for_event"
NOTHING: Final = b"null"
"""The result where nothing came in time."""
ASKED_AGAIN_MS: Final = 1_000
"""After so long the homes are asked again, where not every lane had looked yet."""
CLOCKS_MS: Final = 1_000
"""An event received so much before the run's own counts as received after it, where several doors took them: their
clocks differ, and an answer must not be lost for that. With one lane there is one clock."""


def found(case: Case, draft: Draft, op: WaitFound) -> Decided:
    """The body wants to wait."""
    if op.timeout_ms > limits.WAIT_MS_MAX:
        return fail_step(draft, too_long(case, op, NAME))
    own = [row.event for id in case.run.events if (row := case.tables.events.get(id)) is not None]
    try:
        value = readable(own[0])
        every = [placed(condition, value) for condition in op.conditions]
    except FunctionError as error:
        failed = StepFailed(
            case.run.run, op.step, op.name, NAME, 0, case.dispatch, "FunctionError", str(error), "", case.now_ms, False
        )
        return fail_step(draft, failed)
    since_ms = _since_ms(case, own, op.lookback_ms)
    awaits = AwaitedEvents(tuple(found.condition for found in every), op.is_all, since_ms)
    until_ms = case.now_ms + max(op.timeout_ms, 0)
    facts: list[Fact] = [WaitStarted(case.run.run, op.step, op.name, NAME, case.dispatch, until_ms, awaits)]
    own_marks = b"".join(map(event_mark, own))
    for index, (condition, given) in enumerate(every):
        if condition.place:
            excluded = own_marks + taken_by(case.run.taken, condition_mark(condition))
            message = AwaitEvent(
                case.run.run, op.step, index, condition.place, condition.event, condition.path, since_ms,
                condition.expression, given, excluded,
            )  # fmt: skip
            facts.append(Post(home_of_place(condition.place, case.tables.place.lanes), message))
    return facts, draft


def _since_ms(case: Case, own: Sequence[Envelope], lookback_ms: int) -> int:
    if lookback_ms >= 0:
        return max(case.now_ms - lookback_ms, 0)
    earliest_ms = min((event.received_at_ms for event in own), default=case.run.queued_at_ms)
    return max(earliest_ms - (CLOCKS_MS if case.tables.place.lanes > 1 else 0), 0)


def came(case: Case, row: StepRow, message: EventCame) -> list[Fact]:
    """The event of one condition has come."""
    awaits = _awaits(row)
    condition = awaits.conditions[message.index]
    if condition.came or condition.is_over:
        return []
    data = _event(message.event)
    others = [c for at, c in enumerate(awaits.conditions) if at != message.index]
    goes_on = awaits.is_all and not all(c.came for c in others)
    marks = condition_mark(condition) + event_mark(message.event)
    taken = EventTaken(case.run.run, row.step, message.index, marks, data if goes_on else b"")
    if not goes_on:
        result = _together(awaits, message.index, data) if len(awaits.conditions) > 1 else data
        facts, draft = complete(case, Draft.of(case.run), _result(case, row, result))
        return [taken, *_forgotten(case.run, row, case.tables, but=message.index), *close_step(case, facts, draft)]
    return [taken]


def _event(event: Envelope) -> bytes:
    """The event as the body sees it: name, data, id, ts; of user, v, key and meta what it has.

    Executors of endpoints send it without the key, and with a user, if an empty one: as their SDKs read an event.
    """
    value = event_json(event)
    if event.key:
        value["key"] = event.key
    if event.meta:
        value["meta"] = json.loads(event.meta)
    return json.dumps(value, separators=(",", ":")).encode()


def _together(awaits: AwaitedEvents, index: int, data: bytes) -> bytes:
    """The result of a wait for several events: the one with its place among them, or all in their order."""
    if not awaits.is_all:
        return b'{"index":%d,"event":%b}' % (index, data)
    return b"[%b]" % b",".join(c.came if at != index else data for at, c in enumerate(awaits.conditions))


def nothing(case: Case, row: StepRow, message: NothingCame) -> list[Fact]:
    """A home was asked, and knows of no event; or it refuses the wait."""
    awaits = _awaits(row)
    condition = awaits.conditions[message.index]
    if message.reason:
        failed = StepFailed(
            case.run.run, row.step, row.name, NAME, 0, 0, "LimitExceeded", message.reason, "", case.now_ms, False
        )
        facts, draft = fail_step(Draft.of(case.run), failed)
        return [*_forgotten(case.run, row, case.tables, but=message.index), *close_step(case, facts, draft)]
    if row.hand != CLOSING or condition.came or condition.is_over:
        return []
    if message.is_early:
        return [WaitPostponed(case.run.run, row.step, case.now_ms + ASKED_AGAIN_MS)]
    over = WaitOver(case.run.run, row.step, message.index)
    others = _forgotten(case.run, row, case.tables, but=message.index)
    if others and not awaits.is_all:
        return [over]  # They were asked, too.
    return [over, *others, *_ended(case, row)]


def times_out(case: Case, row: StepRow) -> list[Fact]:
    """The time is over: ask the homes, each for itself; the run goes on when all have answered."""
    asked = _forgotten(case.run, row, case.tables, is_answered=True)
    return [WaitClosing(case.run.run, row.step), *asked] if asked else _ended(case, row)


def _ended(case: Case, row: StepRow) -> list[Fact]:
    """The wait ends without an event, or without all of them."""
    facts, draft = complete(case, Draft.of(case.run), _result(case, row, NOTHING))
    return close_step(case, facts, draft)


def _result(case: Case, row: StepRow, data: bytes) -> StepCompleted:
    return StepCompleted(case.run.run, row.step, row.name, NAME, 0, 0, data, case.now_ms, False)


def _forgotten(run: RunRow, row: StepRow, tables: Tables, *, is_answered: bool = False, but: int = -1) -> list[Fact]:
    """The messages by which homes forget the wait; with an answer: those that ask them whether nothing came."""
    lanes = tables.place.lanes
    return [
        Post(home_of_place(c.place, lanes), ForgetWait(run.run, row.step, index, c.place, is_answered))
        for index, c in enumerate(_awaits(row).conditions)
        if index != but and _is_open(c)
    ]


def withdraw(tables: Tables, run: RunRow, row: StepRow, fact: RunEnd) -> list[Fact]:
    """The run ends while it waits."""
    return _forgotten(run, row, tables)


def _is_open(condition: AwaitedEvent) -> bool:
    return bool(condition.place) and not condition.came and not condition.is_over


def _awaits(row: StepRow) -> AwaitedEvents:
    assert isinstance(row.awaits, AwaitedEvents), f"step {row.step} of run {row.run} does not wait for events"
    return row.awaits


KIND = StepKind(
    name=NAME,
    finds={WaitFound: found},
    hears={EventCame: came, NothingCame: nothing},
    times_out=times_out,
    withdraws=withdraw,
    moves=Moves(
        step=(
            Move(Hand.WAITING, EventTaken, Hand.WAITING),
            Move(Hand.CLOSING, EventTaken, Hand.CLOSING),
            Move(Hand.CLOSING, WaitOver, Hand.CLOSING),
        ),
        run_fields={EventTaken: frozenset({"taken"})},
        step_fields={EventTaken: frozenset({"awaits"}), WaitOver: frozenset({"awaits"})},
    ),
    hands={Hand.WAITING: timers.WAIT, Hand.CLOSING: ""},
    shows={WaitStarted: show_started, EventTaken: show_taken},
    timed_out_result=NOTHING,
)
