"""Moves about waits: of steps that wait here, and of this lane as the home of places and signals, and as a reader.

What other lanes say comes as messages of lane 1, in any order and number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from millstream.core.waits.interests import SEEK
from millstream.model.commands import (
    AdvanceScan,
    AwaitEvent,
    AwaitSignal,
    ChildEnded,
    Command,
    EventCame,
    EventsSought,
    ForgetSignal,
    ForgetWait,
    LaneMessage,
    NothingCame,
    ReadRecord,
    ResolveCallback,
    SeekEvents,
    SendSignal,
    SignalCame,
    TakeEvent,
    TakeMessage,
)
from millstream.model.function import Reading
from millstream.model.ids import home_of, run_id, ulid
from millstream.model.operations import (
    CallbackFound,
    Condition,
    Failure,
    InvokeFound,
    Operation,
    PostWaitFound,
    SignalWaitFound,
    WaitFound,
)
from millstream.model.rows import Hand, StepRow
from millstream.model.waits.awaited import (
    AwaitedCallback,
    AwaitedEvents,
    AwaitedPost,
    AwaitedRun,
    AwaitedSignal,
    home_of_place,
    place_of,
)
from millstream.model.waits.callback_token import mark_of
from tests.core.harness import Harness
from tests.core.values import HOUR_MS, LANES, MINUTE_MS, PLACE, START_MS, event

ELSEWHERE: Final = run_id(START_MS, "x", "f", "", lane=1, lanes=LANES)
PAID: Final = "order/paid"
"""The event that is waited for, by ``data.n``."""
VALUES: Final = ("5", "true", "null")
SIGNALS: Final = tuple(next(s for n in range(99) if home_of(s := f"signal{n}", LANES) == lane) for lane in range(LANES))
HERE: Final = tuple(
    place for value in VALUES if home_of_place(place := place_of(PAID, "data.n", value), LANES) == PLACE.lane
)
"""The places whose home this lane is."""
DAY_MS: Final = 24 * HOUR_MS
STEPS: Final = ("a", "b", "c", "d")
"""The steps of a body."""


def found(step: str, x: int) -> tuple[Operation, ...]:
    """What a body may wait for."""
    by_value, any_of_name = Condition(PAID, "data.n"), Condition("order/placed", "", "async.data.n == event.data.n")
    rest = Condition(PAID, "data.n", "async.id != event.id"), Condition("nobody/cares", "", "async.data.n > 3")
    timeout_ms = (MINUTE_MS, HOUR_MS, 0)[x % 3]
    plans: tuple[Operation, ...] = (
        WaitFound(step, step, (by_value,), timeout_ms),
        WaitFound(step, step, (by_value, any_of_name), timeout_ms),
        WaitFound(step, step, (by_value, *rest), timeout_ms, True),
        WaitFound(step, step, (by_value,), timeout_ms, False, HOUR_MS),
        WaitFound(step, step, (Condition(PAID, "data.gone"),), timeout_ms),
        WaitFound(step, step, (Condition(PAID, "", "this is no CEL"),), timeout_ms),
        WaitFound(step, step, (by_value,), 400 * DAY_MS),
        SignalWaitFound(step, step, SIGNALS[x % 2], timeout_ms, x % 4 == 0),
        CallbackFound(step, step, timeout_ms),
        CallbackFound(step, step, HOUR_MS),
        PostWaitFound(step, step, STEPS[x // 7 % 4]),
        PostWaitFound(step, step, STEPS[x // 5 % 4]),
        InvokeFound(step, step, ("shop-place", "nobody")[x % 2], b"{}", timeout_ms, x % 3 == 0),
    )
    return (plans[x % len(plans)],)


def heard(harness: Harness, x: int, y: int, number: int) -> LaneMessage | None:
    """An answer of another lane to a step that waits, or waited."""
    waiting = [row for _, row in harness.tables.steps.scan(limit=1_000) if row.hand in (Hand.WAITING, Hand.CLOSING)]
    if not waiting:
        return None
    row = waiting[x % len(waiting)]
    return answer(row, y, number)


def answer(row: StepRow, y: int, number: int) -> LaneMessage:
    """One of the answers that the step may hear."""
    match row.awaits:
        case AwaitedEvents(conditions=conditions):
            index = y % len(conditions)
            given = event(5_000 + number, conditions[index].event, data=b'{"n":5}')
            return (
                EventCame(row.run, row.step, index, given),
                NothingCame(row.run, row.step, index),
                NothingCame(row.run, row.step, index, True),
                NothingCame(row.run, row.step, index, False, "too many"),
            )[y // 3 % 4]
        case AwaitedSignal():
            return (
                SignalCame(row.run, row.step, b"1"),
                SignalCame(row.run, row.step, b"", "another waits"),
                NothingCame(row.run, row.step, 0),
            )[y % 3]
        case AwaitedRun(run=child):
            failure = Failure("ValueError", "boom") if y % 2 else None
            return ChildEnded(row.run, row.step, child, b"1" if failure is None else b"", failure)
        case AwaitedCallback(callback=callback):
            return posted(row.run, callback, number)
    raise AssertionError(f"it waits for nothing: {row}")


def posted(run: str, callback: str, number: int) -> ResolveCallback:
    """A post to the callback of a step."""
    return ResolveCallback(run, mark_of(callback), b'{"n":%d}' % number, ulid(START_MS, number.to_bytes(10, "big")), -1)


def posts(harness: Harness, x: int, y: int, number: int) -> Command | None:
    """Somebody posts to a callback, in time or not, for the first time or not; or to none."""
    made = [row for _, row in harness.tables.steps.scan(limit=1_000) if isinstance(row.awaits, AwaitedPost)]
    if not made:
        return posted(next(iter(harness.runs), ELSEWHERE), STEPS[x % 4], number) if y % 8 == 0 else None
    row = made[x % len(made)]
    return posted(row.run, row.step, number if y % 4 else number // 2)


def at_home(harness: Harness, x: int, y: int, number: int) -> LaneMessage:
    """What another lane says to this one as a home, or as a reader."""
    place = HERE[y % len(HERE)]
    step = ("a", "b")[x % 2]
    waiters = [row for _, row in harness.tables.waiters.scan(limit=100)]
    at_ms = START_MS + (y % 4) * MINUTE_MS
    since_ms = max(START_MS - (y % 3) * HOUR_MS, 0)
    signal = SIGNALS[PLACE.lane]
    asked = [row for _, row in harness.tables.coverage.scan(limit=100)]
    messages: list[LaneMessage] = [
        AwaitEvent(ELSEWHERE, step, number, place, PAID, "data.n", since_ms, "", b"", b""),
        AwaitEvent(ELSEWHERE, step, number, place, PAID, "data.n", since_ms, "async.data.n == 5", b"{}", b""),
        TakeEvent(event(6_000 + x % 8, PAID, at_ms=at_ms, data=b'{"n":5}'), (place,)),
        TakeEvent(event(7_000 + number, PAID, at_ms=harness.now_ms, data=b'{"n":5}'), HERE),
        SeekEvents(PAID, "data.n", 1, number, since_ms if x % 3 else -1),
        AwaitSignal(ELSEWHERE, step, signal, x % 3 == 0),
        ForgetSignal(ELSEWHERE, step, signal, x % 2 == 0),
        SendSignal(signal, b"1", ulid(harness.now_ms, number.to_bytes(10, "big")), -1),
    ]
    if waiters:
        row = waiters[x % len(waiters)]
        messages.append(ForgetWait(row.run, row.step, row.index, row.place, y % 2 == 0))
        messages.append(ForgetWait(row.run, row.step, row.index, row.place, True))
    messages += [EventsSought(row.event, row.path, 1, row.seek) for row in asked]
    return messages[(x + 3 * y) % len(messages)]


def said(harness: Harness, message: LaneMessage | None) -> Command | None:
    """The message, as the next of lane 1."""
    return TakeMessage(1, harness.story.taken.get(1, 0) + 1, message) if message is not None else None


def advanced(harness: Harness, x: int, y: int) -> Command | None:
    """A page of a scan that looks for events."""
    rows = [row for _, row in harness.tables.scans.scan(limit=100) if row.purpose == SEEK]
    if not rows:
        return None
    row = rows[x % len(rows)]
    if row.at < 0:
        return AdvanceScan(row.scan, row.partition, row.at, y % 3, (), y % 5)
    given = event(8_000 + row.at, (PAID, "nobody/cares")[y % 2], data=b'{"n":5}')
    reads = (ReadRecord(row.at, Reading(), given),) if y % 3 else ()
    return AdvanceScan(row.scan, row.partition, row.at, row.at + 1, reads)


def last_answers(harness: Harness) -> Iterable[LaneMessage]:
    """What lets every step go that still waits for the word of another lane."""
    for _, asked in harness.tables.coverage.scan(limit=1_000):
        for lane, answered in enumerate(asked.answered):
            if answered < asked.seek:
                yield EventsSought(asked.event, asked.path, lane, asked.seek)
    for _, row in harness.tables.steps.scan(limit=1_000):
        if row.hand == Hand.CLOSING:
            indices = range(len(row.awaits.conditions)) if isinstance(row.awaits, AwaitedEvents) else (0,)
            yield from (NothingCame(row.run, row.step, index) for index in indices)


Wait = Callable[[Harness, int, int, int], Command | None]
MOVES: Final[tuple[Wait, ...]] = (
    lambda harness, x, y, number: said(harness, heard(harness, x, y, number)),
    lambda harness, x, y, number: said(harness, at_home(harness, x, y, number)),
    lambda harness, x, y, number: advanced(harness, x, y),
    posts,
)
