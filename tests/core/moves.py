"""Moves: commands, plausible and not, made of small numbers and the state they meet.

A sequence of moves is a list of numbers, so hypothesis can shrink it and the mutants can draw it from a seed. ``play``
turns each into one command for a harness: answers to what is outstanding, answers late or never asked for, timers,
losses, repetitions of any earlier command, requests, messages, catalogue versions, time going by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeVar

import msgspec

from millstream.core.waits.interests import SEEK
from millstream.model import limits
from millstream.model.commands import (
    AcceptRecord,
    AdvanceScan,
    BackfillFunction,
    CancelScan,
    CleanUp,
    Command,
    FireTimer,
    HandOut,
    InvokeFunction,
    LoseDispatch,
    NoteDelivered,
    NotePublished,
    Opening,
    ParkDispatch,
    ReadRecord,
    ReleaseLane,
    Report,
    ScanRange,
    ScanStart,
    SeeTopic,
    StillRunning,
    TakeMessage,
    Unpark,
)
from millstream.model.effects import Arm, CodeWanted, Deliver, Execute, Publish
from millstream.model.event import FUNCTION_FAILED, FUNCTION_FINISHED
from millstream.model.function import HOLD, AppSpec, CancelTrigger, CronTrigger, EventTrigger, Reading, TopicTrigger
from millstream.model.ids import lane_of_source, run_id, ulid, ulid_time_ms
from millstream.model.operations import (
    BodyDone,
    GatewayFound,
    Operation,
    PublishFound,
    RetryPolicy,
    SendFound,
    SleepFound,
)
from millstream.model.run_requests import CancelRun, CancelRuns, FailRun, ResumeRun, StopCancelling
from tests.core import gate_moves, wait_moves
from tests.core.harness import Harness
from tests.core.values import (
    HOUR_MS,
    LANES,
    MINUTE_MS,
    START_MS,
    accept,
    app,
    body_errored,
    done,
    errored,
    event,
    found,
    function,
    home_slug,
    see,
    sleep,
)
from tests.core.wait_moves import STEPS

CRON: Final = "*/5 * * * *"
PLACE_ORDER: Final = function("shop-place", "order/placed", EventTrigger("order/*", "event.data.n > 3"), retries=2)
FAILING: Final = function("shop-bill", EventTrigger("order/placed", "event.data.n"), "order/paid", retries=0)
BILL: Final = msgspec.structs.replace(FAILING, on_exhausted=HOLD)
BOUNDED: Final = msgspec.structs.replace(
    BILL, cancel_on=(CancelTrigger("order/lost.late", "data.n"), CancelTrigger("order/placed")), start_ms=HOUR_MS,
    finish_ms=6 * HOUR_MS,
)  # fmt: skip
TICK: Final = function(home_slug("shop-tick"), CronTrigger(CRON), retries=1)
ON_FAILURE: Final = function("shop-place-failure", FUNCTION_FAILED, retries=0)
ON_END: Final = function("shop-audit", EventTrigger(FUNCTION_FINISHED, "event.data.function_id != 'shop-audit'"))
PAY: Final = "payments"
FIRST: Final = function("shop-first", TopicTrigger(PAY), retries=0)
LATE: Final = function("shop-late", TopicTrigger(PAY, since_ms=0), retries=0)
VERSIONS: Final[tuple[AppSpec | None, ...]] = (
    app(PLACE_ORDER, BOUNDED, TICK, FIRST, gate_moves.SHIP),
    app(PLACE_ORDER, TICK, ON_FAILURE, ON_END, FIRST, LATE),
    app(PLACE_ORDER, BILL, gate_moves.SHIP_FREELY),
    app(PLACE_ORDER, FAILING),
    None,
)
ELSEWHERE: Final = run_id(START_MS, "x", "f", "", lane=1, lanes=LANES)
NOWHERE: Final = run_id(START_MS, "y", "f", "", lane=0, lanes=LANES)

T = TypeVar("T")


class Move(NamedTuple):
    """What to do (an index into ``MOVES``) and three numbers that choose among what is possible."""

    kind: int
    x: int
    y: int
    z: int


def play(harness: Harness, moves: Iterable[Move]) -> None:
    """Do the moves; the harness checks after each."""
    harness.do(see(VERSIONS[0]))
    for number, move in enumerate(moves):
        command = MOVES[move.kind % len(MOVES)](harness, move, number + 1)
        if command is not None:
            harness.do(command)


def end_everything(harness: Harness, turns_max: int = 500) -> None:
    """Answer and fire what is outstanding until no run is open, and nobody looks for runs to cancel."""
    for _ in range(turns_max):
        for looking in [e for e in harness.outstanding if isinstance(e, Arm) and e.kind == "cancel"]:
            harness.do(FireTimer(looking.at_ms, looking.kind, looking.id, looking.step))
        if not harness.runs:
            break
        for (_, run, _), _ in harness.tables.held.scan(limit=1_000):
            harness.do(ResumeRun(run))
        for answer in (*wait_moves.last_answers(harness), *gate_moves.last_answers(harness)):
            harness.do(TakeMessage(1, harness.story.taken.get(1, 0) + 1, answer))
        if not harness.runs:
            break
        # None: all that is left asks gates of another lane, whose answers come with the next turn.
        effect = min((e for e in harness.outstanding if _ends(e)), key=repr, default=None)
        if isinstance(effect, Execute):
            harness.do(Report(effect.run, effect.step, effect.attempt, effect.dispatch, (_ending(effect),)))
        elif isinstance(effect, CodeWanted):
            harness.do(Unpark(effect.run, effect.step, effect.dispatch))
        elif isinstance(effect, Arm):
            harness.do(FireTimer(effect.at_ms, effect.kind, effect.id, effect.step), effect.at_ms)
    assert not harness.runs, f"runs that never end: {harness.runs}"


def _ends(effect: object) -> bool:
    return isinstance(effect, Execute | CodeWanted) or (isinstance(effect, Arm) and effect.kind != "cron")


def _ending(effect: Execute) -> Operation:
    return done(effect.step) if effect.step else BodyDone(b"null")


# --- the moves ----------------------------------------------------------------------------------


def _pick(options: Iterable[T], number: int) -> T | None:
    listed = sorted(options, key=repr)
    return listed[number % len(listed)] if listed else None


def _event(harness: Harness, move: Move, number: int) -> Command:
    name = ("order/placed", "order/paid", "order/lost.late", "nobody/cares")[move.x % 4]
    id = ("", "one", "two")[move.y % 3]
    data = (b'{"n":5}', b'{"n":true}', b"{}", b"{broken", b'{"n":"\\ud800"}')[move.z % 5]
    given = event(number, name, id=id, at_ms=harness.now_ms, data=data)
    if move.z % 7 == 6:
        given = event(number, name, id=id, at_ms=harness.now_ms + HOUR_MS, data=data)
    return accept(given, offset=number, partition=move.z % 2)


def _answer(harness: Harness, move: Move, number: int) -> Command | None:
    effect = _pick((e for e in harness.outstanding if isinstance(e, Execute)), move.x)
    if effect is None:
        return None
    if effect.step:
        own = (None, RetryPolicy(), RetryPolicy(0), RetryPolicy(5, (MINUTE_MS,), 1_000))[move.z % 4]
        failed = errored(effect.step, retriable=move.y % 8 != 7, retry=own)
        operation = failed if move.y % 4 == 3 else done(effect.step)
        return Report(effect.run, effect.step, effect.attempt, effect.dispatch, (operation,))
    joint = (None, None, True, False)[move.x // 2 % 4]
    return Report(effect.run, "", effect.attempt, effect.dispatch, _body_operations(move), joint)


def _body_operations(move: Move) -> tuple[Operation, ...]:
    first, second = STEPS[move.z % 4], STEPS[move.z // 4 % 4]
    plans: tuple[tuple[Operation, ...], ...] = (
        (done(first),),
        _beside(first, second, move.x),
        (done(first), found(second), sleep(STEPS[move.x % 4])),
        (errored(first),),
        (sleep(first), errored(second)),
        (),
        (SendFound(first, first, (event(1, "order/paid"), event(2, "nobody/cares", id="mine"))), done(second)),
        (PublishFound(first, first, "topic", b"k", b"v"), found(second)),
        (done(first), BodyDone(b"1")),
        (done(first), body_errored(retriable=move.x % 2 == 0)),
        (errored(first, retriable=False), SleepFound(second, second, 0, START_MS)),
        (BodyDone(b'{"sum":1}'),),
        wait_moves.found(first, move.x),
        (*wait_moves.found(first, move.x), *wait_moves.found(second, move.z)),
        (done(first), *wait_moves.found(second, move.z)),
    )
    return plans[move.y % len(plans)]


def _beside(first: str, second: str, number: int) -> tuple[Operation, ...]:
    """Two steps that are handed out each on its own; of one in four bodies the executor makes requests."""
    if number % 4 < 3:
        return found(first), found(second)
    return GatewayFound(first, first, b'{"url":"x"}'), GatewayFound(second, second, b"{}", "ai_gateway")


def _stranger(harness: Harness, move: Move, number: int) -> Command:
    """A report that nobody asked for: any run, step, attempt and dispatch, any operations."""
    run = _pick([*harness.story.open, *harness.story.ended, NOWHERE], move.x) or NOWHERE
    step = ("", *STEPS)[move.y % 5]
    operations = _body_operations(move)
    if step and move.x % 3:
        operations = (done(step), errored(step), *operations)[: move.x % 4]
    return Report(run, step, move.z % 3, move.z // 3 % 8, operations)


def _again(harness: Harness, move: Move, number: int) -> Command | None:
    """Any earlier command once more."""
    commands = harness.commands
    command = commands[-1 - (move.x + 64 * (move.y % 2)) % len(commands)]
    asked = command.message if isinstance(command, TakeMessage) else command
    if isinstance(asked, InvokeFunction) and ulid_time_ms(asked.request) < harness.now_ms - limits.DAY_MS + HOUR_MS:
        return None  # Apis must not: request ids are kept for a day.
    return command


def _timer(harness: Harness, move: Move, number: int) -> Command | None:
    arm = _pick((e for e in harness.outstanding if isinstance(e, Arm)), move.x)
    if arm is None:
        return None
    harness.now_ms = max(harness.now_ms, arm.at_ms)
    return FireTimer(arm.at_ms, arm.kind, arm.id, arm.step)


def _lose(harness: Harness, move: Move, number: int) -> Command | None:
    effect = _pick((e for e in harness.outstanding if isinstance(e, Execute)), move.x)
    return LoseDispatch(effect.run, effect.step, effect.dispatch - (move.y % 5 == 4)) if effect is not None else None


def _lose_again(harness: Harness, move: Move, number: int) -> Command | None:
    """What was lost most often is lost once more, or its time to be handed out again has come."""
    counts = [(row.lost, row.run, "") for _, row in harness.tables.runs.scan(limit=1_000)]
    counts += [(row.lost, row.run, row.step) for _, row in harness.tables.steps.scan(limit=1_000)]
    times, run, step = max(counts, default=(0, "", ""))
    if not times:
        return None
    for effect in harness.outstanding:
        if isinstance(effect, Execute) and (effect.run, effect.step) == (run, step):
            return LoseDispatch(effect.run, effect.step, effect.dispatch)
        if isinstance(effect, Arm) and (effect.kind, effect.id, effect.step) == ("retry", run, step):
            harness.now_ms = max(harness.now_ms, effect.at_ms)
            return FireTimer(effect.at_ms, effect.kind, effect.id, effect.step)
    return None


def _park(harness: Harness, move: Move, number: int) -> Command | None:
    effect = _pick((e for e in harness.outstanding if isinstance(e, Execute)), move.x)
    if effect is None:
        return None
    reason = ("", "its code has changed")[move.z % 2]
    return ParkDispatch(effect.run, effect.step, effect.dispatch - (move.y % 5 == 4), reason)


def _unpark(harness: Harness, move: Move, number: int) -> Command | None:
    effect = _pick((e for e in harness.outstanding if isinstance(e, CodeWanted)), move.x)
    return Unpark(effect.run, effect.step, effect.dispatch - (move.y % 5 == 4)) if effect is not None else None


def _request(move: Move, at_ms: int) -> str:
    return ulid(at_ms // HOUR_MS * HOUR_MS, bytes(9) + bytes([move.z % 3])) if move.z % 4 else ""


def _cancel(harness: Harness, move: Move, number: int) -> CancelRun:
    run = _pick([*harness.story.open, *harness.story.ended, NOWHERE, ELSEWHERE, "no id"], move.x)
    return CancelRun(run or NOWHERE, "tests", _request(move, harness.now_ms), move.y % 3 - 1)


def _cancel_many(harness: Harness, move: Move, number: int) -> CancelRuns:
    """As an api asks the home (some are this lane's), or as the home tells this lane."""
    cancellation = ulid(harness.now_ms // HOUR_MS * HOUR_MS, bytes(9) + bytes([move.z % 5]))
    request = cancellation if move.y % 3 else ""
    from_ms = harness.now_ms - HOUR_MS if move.y % 2 else 0
    expression = ("", "event.data.n == 5", "event.data.n", "event.id != '")[move.x // 3 % 4]
    function = ("shop-place", "shop-bill", "nobody")[move.x % 3]
    before_ms = harness.now_ms + (0, 1, HOUR_MS)[move.z % 3]
    return CancelRuns(cancellation, function, from_ms, before_ms, expression, "tests", request, move.y % 3 - 1)


def _stop_cancelling(harness: Harness, move: Move, number: int) -> StopCancelling:
    under_way = _pick((id for id, _ in harness.tables.cancellations.scan(limit=100)), move.x)
    request = ulid(harness.now_ms, number.to_bytes(10, "big")) if move.y % 3 else ""
    return StopCancelling(under_way or ulid(harness.now_ms, bytes(10)), request, move.y % 3 - 1)


def _held(harness: Harness, move: Move) -> str:
    """A run that is held, or any other."""
    held = [run for (_, run, _), _ in harness.tables.held.scan(limit=1_000)] if move.y % 8 else []
    every = (*harness.story.open, *harness.story.ended, NOWHERE, ELSEWHERE, "no id")
    return _pick(held or every, move.x) or NOWHERE


def _resume(harness: Harness, move: Move, number: int) -> ResumeRun:
    return ResumeRun(_held(harness, move), _request(move, harness.now_ms), move.y % 3 - 1)


def _fail(harness: Harness, move: Move, number: int) -> FailRun:
    return FailRun(_held(harness, move), _request(move, harness.now_ms), move.y % 3 - 1)


def _invoke(harness: Harness, move: Move, number: int) -> InvokeFunction:
    function = ("shop-place", "shop-bill", "nobody", "shop-ship")[move.x % 4]
    request = _request(move, harness.now_ms) or ulid(harness.now_ms, number.to_bytes(10, "big"))
    return InvokeFunction(function, event(1_000 + number), request, move.y % 3 - 1)


def _message(harness: Harness, move: Move, number: int) -> Command:
    seq = harness.story.taken.get(1, 0) + 1 + move.x % 3 - 1
    sent = (_invoke, _cancel, _cancel_many, _stop_cancelling)[move.y % 4]
    return TakeMessage(1, seq, sent(harness, move, number))


def _delivered(harness: Harness, move: Move, number: int) -> Command:
    delivered = _pick((e for e in harness.outstanding if isinstance(e, Deliver)), move.x)
    return NoteDelivered(1, delivered.seq + move.y % 2 if delivered is not None else move.y % 4)


def _published(harness: Harness, move: Move, number: int) -> Command:
    numbers = sorted(e.number for e in harness.outstanding if isinstance(e, Publish))
    return NotePublished((*numbers[: move.x % 5], move.y))


def _version(harness: Harness, move: Move, number: int) -> Command:
    return see(VERSIONS[move.x % len(VERSIONS)], offset=number if move.y % 4 else move.y)


def _release(harness: Harness, move: Move, number: int) -> Command:
    """The owner lets go, and says what it still runs: some of what is out, or nothing."""
    out = sorted((e for e in harness.outstanding if isinstance(e, Execute)), key=repr)[: move.x % 4]
    return ReleaseLane("worker", f"worker-{number}", tuple(HandOut(e.run, e.step, e.dispatch) for e in out))


def _holder_speaks(harness: Harness, move: Move, number: int) -> Command:
    holder = _pick(harness.story.holders, move.x) if move.y % 4 else "nobody"
    return StillRunning(holder or "nobody", move.z % 2)


def _wait(harness: Harness, move: Move, number: int) -> Command:
    day_ms = limits.DAY_MS + 2 * HOUR_MS
    forgotten_ms = limits.SEEN_IDLE_MS + day_ms  # Often: then a record that comes again is known by its place alone.
    harness.now_ms += (MINUTE_MS, 11 * MINUTE_MS, HOUR_MS, day_ms, *(forgotten_ms,) * 4)[move.x % 8]
    return CleanUp()


def _topic(harness: Harness, move: Move, number: int) -> Command:
    """A look at the foreign topic: with the functions that are there, or one that misses some."""
    starts = tuple(ScanStart(slug, move.y % 4) for slug in ("shop-first", "shop-late")[: 1 + move.z % 2])
    return SeeTopic(PAY, 1 + move.x % 2, tuple(Opening(p, 4, starts) for p in range(1 + move.x % 2)))


def _read(harness: Harness, move: Move, partition: int, offset: int) -> ReadRecord:
    """A record; its own id is that of its place, as in every foreign topic.

    All are as old as the story, however late they are read: an id that comes again is known, until the story is so
    old that the source is taken for idle.
    """
    place = 2_000 + 10_000 * partition + offset
    young = harness.now_ms < START_MS + limits.SEEN_IDLE_MS
    given = None if move.z % 4 == 3 else event(place, PAY, id="known" if move.y % 4 == 1 and young else "")
    return ReadRecord(offset, Reading(), given, "poison", b"k", b"v")


def _record(harness: Harness, move: Move, number: int) -> Command:
    return AcceptRecord(PAY, move.x % 2, number, (_read(harness, move, move.x % 2, number),))


def _advance(harness: Harness, move: Move, number: int) -> Command | None:
    """A page of a scan, from where it is or from elsewhere."""
    row = _pick([row for _, row in harness.tables.scans.scan(limit=100) if row.purpose != SEEK], move.x)
    if row is None:
        return None
    begin = row.at if move.y % 4 else move.z
    reads = tuple(_read(harness, move, row.partition, max(begin, 0) + n) for n in range(move.z % 3))
    return AdvanceScan(row.scan, row.partition, begin, max(begin, 0) + move.z % 3 + (move.y % 2), reads)


def _backfill(harness: Harness, move: Move, number: int) -> Command:
    request = ulid(harness.now_ms, number.to_bytes(10, "big"))
    partitions = [p for p in range(2) if lane_of_source(PAY, p, LANES) == harness.tables.place.lane or move.z % 5 == 4]
    ranges = tuple(ScanRange(p, move.x % 3, move.y % 60) for p in partitions)
    return BackfillFunction(("shop-first", "nobody")[move.z % 7 == 6], PAY, ranges, request, request, move.y % 3 - 1)


def _cancel_scan(harness: Harness, move: Move, number: int) -> Command:
    row = _pick([row for _, row in harness.tables.scans.scan(limit=100)], move.x)
    return CancelScan(row.scan if row is not None else "none", ulid(harness.now_ms, number.to_bytes(10, "big")), -1)


def _of_wait(wait: wait_moves.Wait) -> Callable[[Harness, Move, int], Command | None]:
    return lambda harness, move, number: wait(harness, move.x, move.y, number)


MOVES: Final[tuple[Callable[[Harness, Move, int], Command | None], ...]] = (
    *(_event,) * 3,
    *(_answer,) * 8,
    *(_stranger,) * 4,
    *(_again,) * 4,
    *(_timer,) * 4,
    *(_lose,) * 2,
    *(_lose_again,) * 4,
    _park,
    _unpark,
    _cancel,
    *(_cancel_many,) * 2,
    _stop_cancelling,
    *(_resume,) * 2,
    *(_fail,) * 2,
    _invoke,
    _message,
    _delivered,
    _published,
    _version,
    _release,
    _holder_speaks,
    _wait,
    _topic,
    _record,
    *(_advance,) * 2,
    _backfill,
    _cancel_scan,
    *(_of_wait(wait) for wait in (*wait_moves.MOVES, *gate_moves.MOVES) for _ in range(3)),
)
"""Often the moves that make a run go on, else it would not get far."""
