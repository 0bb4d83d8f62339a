"""The one place from which a run starts: events, records, scans, crons and requests all come here.

    Start(event, origin, …) ──start──> [EventAccepted] RunStarted …     ──at once──> body OUT
                                                                        └─later────> SCHEDULED ──timer──> RunDue ─> OUT

What may keep a run from starting (flow control) is decided here and nowhere else, before ``RunStarted`` is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.handles import Handles
from millstream.core.runs.bounds import bounded, in_time, is_bounded
from millstream.core.runs.hands import OUT, SCHEDULED, hand_out_body, leave_hand, open_run
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue
from millstream.errors import BadRequest
from millstream.model import limits
from millstream.model.commands import FireTimer
from millstream.model.effects import Effect, Execute
from millstream.model.event import Envelope
from millstream.model.facts import EventAccepted, Fact, RunDue, RunStarted
from millstream.model.function import FunctionSpec
from millstream.model.ids import run_id
from millstream.model.rows import RunRow


class Origin(NamedTuple):
    """Where an event was read, and the hash by which its id is remembered (empty: it is not).

    The default is an event that the lane made itself: a cron's tick, an invocation.
    """

    topic: str = ""
    partition: int = 0
    offset: int = 0
    seen: bytes = b""


OWN_EVENT = Origin()


def start(
    tables: Tables,
    event: Envelope,
    functions: Iterable[str],
    origin: Origin,
    *,
    cause: str = "",
    at_ms: int = 0,
    is_held: bool = False,
) -> list[Fact]:
    """Start each function (a slug) on the event. No functions, no facts. Raises BadRequest on a time no run can have.

    ``cause``    makes the runs others than those that the event itself started: a request's or backfill's id.
    ``at_ms``    when they are handed out; 0: at once.
    ``is_held``  open runs hold this very event: it is not accepted anew, so that it does not change under them.
    """
    runs = [run_started(tables, function, (event,), cause=cause, at_ms=at_ms) for function in functions]
    if not runs:
        return []
    known = catalogue(tables).functions
    facts: list[Fact] = [] if is_held else [accepted(event, origin)]
    for run in runs:
        facts.append(run)
        function = known.get(run.function)
        if function is not None and is_bounded(function):
            facts += bounded(tables, function, run, event)
    return facts


def starts_at_once(function: FunctionSpec) -> bool:
    """Whether nothing can keep the function from starting on an event: the quick path takes only such functions.

    A gate that holds runs back says here which functions have it; what bounds a run takes the long way, too.
    """
    return not is_bounded(function)


def run_started(
    tables: Tables, function: str, events: Sequence[Envelope], *, cause: str = "", at_ms: int = 0
) -> RunStarted:
    """The fact that a function's run on these events exists: for ``start``, and for the quick path of an event that
    starts one function. Raises BadRequest on a time that no run can have.
    """
    id = new_run_id(tables, function, events[0], cause)
    return RunStarted(id, function, tuple([event.internal_id for event in events]), cause, at_ms)


def new_run_id(tables: Tables, function: str, event: Envelope, cause: str) -> str:
    """The id that a function's run on this event (the first of several) has. The same arguments give the same id.

    Raises BadRequest on a time that no run can have.
    """
    if not 0 <= event.ts_ms <= limits.EVENT_TS_MAX_MS:
        raise BadRequest(
            f"event {event.id!r} refused: ts must be Unix milliseconds up to {limits.EVENT_TS_MAX_MS}, "
            f"got {event.ts_ms}. Fix the producer's clock or unit."
        )
    place = tables.place
    return run_id(event.ts_ms, event.internal_id, function, cause, lane=place.lane, lanes=place.lanes)


def accepted(event: Envelope, origin: Origin) -> EventAccepted:
    """The fact that holds the event's payload, once for all runs that it starts."""
    return EventAccepted(
        event.internal_id, event.id, event.id_is_clients, event.name, event.data, event.ts_ms, event.received_at_ms,
        event.key, event.user, event.v, event.meta, *origin,
    )  # fmt: skip


def fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    """The time of a scheduled run has come."""
    return [RunDue(command.id)]


# --- fold -----------------------------------------------------------------------------------------


def fold_run_started(tables: Tables, f: RunStarted, at_ms: int) -> Sequence[Effect]:
    """A run begins: its body goes out at once, or is scheduled."""
    for id in f.events:
        held = tables.events.get(id)
        assert held is not None, f"run {f.run} started on event {id}, which was not accepted"
        tables.events.put(id, replace(held, runs=held.runs + 1))
    if f.start_at_ms:
        tables.runs.put(f.run, RunRow(f.run, f.function, f.events, f.cause, at_ms, SCHEDULED, wake_at_ms=f.start_at_ms))
        return (timers.arm(tables, f.start_at_ms, timers.DUE, f.run, ""),)
    tables.runs.add(f.run, RunRow(f.run, f.function, f.events, f.cause, at_ms, OUT, 1, 1))
    return (Execute(f.run, f.function, "", 0, 1),)


def run_due(tables: Tables, f: RunDue, at_ms: int) -> Sequence[Effect]:
    """A scheduled run begins."""
    run = open_run(tables, f.run)
    gone = leave_hand(tables, run, None)
    return [*gone, *hand_out_body(tables, run, attempt=0, lost=0)]


HANDLES = Handles(
    timers={timers.DUE: in_time(fire)},
    facts={RunStarted: fold_run_started, RunDue: run_due},
)
