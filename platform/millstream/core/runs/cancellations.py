"""Cancellations: the open runs of a function that were queued in some time and fit an expression, ended on every lane.

    an api ──CancelRuns──> the cancellation's home ──CancelRuns──> every other lane
    each lane    CancellationStarted ─timer─> CancellationAdvanced, CancelRun to itself … ─timer─> … CancellationEnded

A lane looks through its runs in the order of their ids, a limited number by each timer, which is due at once: a lane
with 100,000 open runs goes on with all else between two pages. The place is a row, moved by a fact of the record that
ends the runs: a crash anywhere goes on exactly there. Which runs are meant is known when the lane records it: those
that begin later are none of them, so it ends however many keep coming.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.handles import Handler, Handles
from millstream.core.messages import MessageKind
from millstream.core.requests import answer
from millstream.core.tables import Tables
from millstream.core.triggers.expressions import compile_expression
from millstream.core.triggers.problems import expression_warnings
from millstream.core.triggers.readable import readable
from millstream.errors import BadRequest, FunctionError
from millstream.model import limits
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect
from millstream.model.event import Envelope
from millstream.model.facts import (
    CancellationAdvanced,
    CancellationEnded,
    CancellationStarted,
    CommandRefused,
    Fact,
    Post,
)
from millstream.model.ids import home_of
from millstream.model.rows import CancellationRow, RunRow
from millstream.model.run_requests import CancelRun, CancelRuns, StopCancelling

LOOKED_AT_ONCE_MAX: Final = 500
CANCELLED_AT_ONCE_MAX: Final = 100
FACTS_AT_ONCE_MAX: Final = 1_000
EVENT_BYTES_AT_ONCE_MAX: Final = 512 * 1024


def begin(tables: Tables, command: CancelRuns, now_ms: int) -> list[Fact]:
    """Begin to look; the home has the others begin, too."""
    under_way = len(tables.cancellations.scan(limit=limits.CANCELLATIONS_MAX))
    if command.request and under_way >= limits.CANCELLATIONS_MAX:
        reason = f"{under_way} cancellations are under way, which is the most there may be: ask again under another id"
        return answer(command, {"status": "refused", "reason": reason})
    if command.request and (wrong := problem_of(command.expression)):
        return answer(command, {"status": "refused", "reason": wrong})
    facts: list[Fact] = []
    if tables.cancellations.get(command.cancellation) is None:
        facts.append(
            CancellationStarted(
                command.cancellation, tables.place.lane, command.function, command.from_ms, command.before_ms,
                command.expression, command.reason,
            )
        )  # fmt: skip
    if command.request:
        facts += _told(tables, replace(command, request="", reply_to=-1))
    reply = {"status": "started", "cancellation": command.cancellation, "before_ms": str(command.before_ms)}
    return [*facts, *answer(command, reply)]


def problem_of(text: str) -> str:
    """Why an expression cannot choose runs, as a sentence; empty: it can."""
    if not text:
        return ""
    try:
        expression = compile_expression(text)
    except FunctionError as error:
        return str(error)
    return next(expression_warnings(expression), "")


def stop(tables: Tables, command: StopCancelling, now_ms: int) -> list[Fact]:
    """Stop looking; the home has the others stop, too."""
    id = command.cancellation
    row = tables.cancellations.get(id)
    if command.request and row is None and tables.requests.get(id) is None:
        return answer(command, {"status": "unknown", "cancellation": id})
    facts: list[Fact] = [_ended(row, tables.place.lane, is_stopped=True)] if row is not None else []
    if command.request:
        facts += _told(tables, StopCancelling(id))
    return [*facts, *answer(command, {"status": "stopping", "cancellation": id})]


def _told(tables: Tables, message: CancelRuns | StopCancelling) -> list[Fact]:
    place = tables.place
    return [Post(lane, message) for lane in range(place.lanes) if lane != place.lane]


def _home(tables: Tables, command: CancelRuns | StopCancelling) -> int:
    """Where a cancellation is asked for; what its home tells the others is for them alone."""
    place = tables.place
    return home_of(command.cancellation, place.lanes) if command.request else place.lane


# --- looking --------------------------------------------------------------------------------------


def look_on(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """The next page of runs."""
    row = tables.cancellations.get(command.id)
    assert row is not None, "a cancellation's timer goes with it"
    page = tables.runs.scan(f"{row.behind}\x00" if row.behind else None, limit=LOOKED_AT_ONCE_MAX)
    behind, looked, bytes_read, made = row.behind, 0, 0, 0
    ends: list[Fact] = []
    for id, run in page:
        if bytes_read >= EVENT_BYTES_AT_ONCE_MAX or made >= FACTS_AT_ONCE_MAX or len(ends) >= CANCELLED_AT_ONCE_MAX:
            break
        behind, looked = id, looked + 1
        if not _is_in_range(row, run):
            continue
        event = _event_of(tables, run)
        bytes_read += len(event.data) if event is not None else 0
        if _fits(row.expression, event):
            ends.append(Post(tables.place.lane, CancelRun(id, reason_of(row))))
            made += 2 + run.pending + len(run.cancels)
    facts: list[Fact] = [CancellationAdvanced(row.cancellation, tables.place.lane, behind, looked, len(ends)), *ends]
    if looked == len(page) < LOOKED_AT_ONCE_MAX:
        counted = replace(row, looked=row.looked + looked, cancelled=row.cancelled + len(ends))
        facts.append(_ended(counted, tables.place.lane, is_stopped=False))
    return facts


def reason_of(row: CancellationRow) -> str:
    """Why the runs of a cancellation ended."""
    return f"cancellation {row.cancellation}{f': {row.reason}' if row.reason else ''}"


def refuse_look(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of a page that raised: nothing of it is cancelled, and the cancellation is stopped here."""
    refused: list[Fact] = [CommandRefused("FireTimer", command.id, reason)]
    row = tables.cancellations.get(command.id)
    return refused if row is None else [*refused, _ended(row, tables.place.lane, is_stopped=True)]


def _is_in_range(row: CancellationRow, run: RunRow) -> bool:
    return (
        run.function == row.function
        and row.from_ms <= run.queued_at_ms < row.before_ms
        and run.queued_at_ms <= row.began_ms
    )


def _event_of(tables: Tables, run: RunRow) -> Envelope | None:
    held = tables.events.get(run.events[0]) if run.events else None
    return held.event if held is not None else None


def _fits(expression: str, event: Envelope | None) -> bool:
    """Whether the run's event fulfils the expression; one about which it says nothing does not."""
    if not expression:
        return True
    try:
        return event is not None and compile_expression(expression).matches(readable(event))
    except (FunctionError, BadRequest):
        return False


def _ended(row: CancellationRow, lane: int, *, is_stopped: bool) -> CancellationEnded:
    return CancellationEnded(row.cancellation, lane, is_stopped, row.looked, row.cancelled)


CANCEL_RUNS = MessageKind(message=CancelRuns, decide=begin, home=_home)
STOP_CANCELLING = MessageKind(message=StopCancelling, decide=stop, home=_home)


# --- fold -----------------------------------------------------------------------------------------


def started(tables: Tables, f: CancellationStarted, at_ms: int) -> Sequence[Effect]:
    """It looks at the first page at once."""
    row = CancellationRow(f.cancellation, f.function, f.from_ms, f.before_ms, f.expression, f.reason, at_ms, at_ms)
    tables.cancellations.put(f.cancellation, row)
    return (timers.arm(tables, at_ms, timers.CANCEL, f.cancellation, ""),)


def advanced(tables: Tables, f: CancellationAdvanced, at_ms: int) -> Sequence[Effect]:
    """It goes on with the next page at once."""
    row = _open(tables, f.cancellation)
    gone = timers.disarm(tables, row.timer_ms, timers.CANCEL, f.cancellation, "")
    looked, cancelled = row.looked + f.looked, row.cancelled + f.cancelled
    row = replace(row, behind=f.behind, looked=looked, cancelled=cancelled, timer_ms=at_ms)
    tables.cancellations.put(f.cancellation, row)
    return (gone, timers.arm(tables, at_ms, timers.CANCEL, f.cancellation, ""))


def ended(tables: Tables, f: CancellationEnded, at_ms: int) -> Sequence[Effect]:
    """It is over here."""
    row = _open(tables, f.cancellation)
    tables.cancellations.delete(f.cancellation)
    return (timers.disarm(tables, row.timer_ms, timers.CANCEL, f.cancellation, ""),)


def _open(tables: Tables, id: str) -> CancellationRow:
    row = tables.cancellations.get(id)
    assert row is not None, f"a fact about cancellation {id}, which is not under way here"
    return row


HANDLES = Handles(
    timers={timers.CANCEL: Handler(look_on, refuse_look, starts_work=False)},
    facts={CancellationStarted: started, CancellationAdvanced: advanced, CancellationEnded: ended},
)
