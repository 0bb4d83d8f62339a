"""The end of a run: completed, failed or cancelled; the events that announce it; and its rows, which all go.

RunCompleted, RunFailed, RunCancelled ─> no row of the run, its steps, timers or parking places; its events too,
where no other run needs them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core import timers
from millstream.core.flow.leaving import leaving
from millstream.core.handles import Handles
from millstream.core.messages import MessageKind
from millstream.core.publishes import queue_event
from millstream.core.requests import answer
from millstream.core.runs.deciding import Case, Decided, Draft, Fate
from millstream.core.runs.hands import CLOSING, IDLE, WAITING, leave_hand, open_run
from millstream.core.step_kinds import kind_of
from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import catalogue, seen_upto
from millstream.core.waits.awaited_names import awaited
from millstream.model.announcement import RunEnd, announcement, announcement_names, handled_function
from millstream.model.commands import ChildEnded, FireTimer, ForgetWait
from millstream.model.effects import Abandon, Effect
from millstream.model.error_object import members, more_of, why_ended
from millstream.model.event import Envelope
from millstream.model.facts import CommandRefused, Fact, Post, RequestAnswered, RunCancelled, RunCompleted, RunFailed
from millstream.model.ids import is_ulid, lane_of
from millstream.model.operations import Failure
from millstream.model.rows import RunRow
from millstream.model.run_requests import CancelRun
from millstream.model.waits.awaited import home_of_place

CHILD_CANCELLED = "RunCancelled"
NOT_STARTED = "FunctionNotStarted"


def end(case: Case, draft: Draft, fact: RunEnd) -> Decided:
    """End the run with this fact and announce it to the functions that subscribe to such ends."""
    facts: list[Fact] = [fact]
    queued = draft.queued
    for event in _announcements(case, fact):
        facts.append(queue_event(case.tables, event, queued=queued))
        queued += 1
    if case.run.pending:
        facts += _withdrawn(case, fact)
    lanes = case.tables.place.lanes
    for index, place in enumerate(case.run.cancels):
        if place:
            facts.append(Post(home_of_place(place, lanes), ForgetWait(case.run.run, "", index, place, False)))
    facts += leaving(case.tables, case.run)
    if waits_for(case.run.cause) is not None:
        facts.append(_told(case, fact))
    return facts, replace(draft, fate=Fate.ENDED, queued=queued)


def cause_of(run: str, step: str) -> str:
    """The cause of a run that a step has started."""
    return f"{run}/{step}"


def waits_for(cause: str) -> tuple[str, str] | None:
    """The run and step that wait for the end of a run with this cause; None: none does."""
    run, slash, step = cause.partition("/")
    return (run, step) if slash else None


def _withdrawn(case: Case, fact: RunEnd) -> Iterator[Fact]:
    """What those are told who would answer steps that wait."""
    for step in case.run.steps:
        row = case.tables.steps.get((case.run.run, step))
        if row is not None and row.hand in (WAITING, CLOSING):
            withdraws = kind_of(row.kind).withdraws
            if withdraws is not None:
                yield from withdraws(case.tables, case.run, row, fact)


def _told(case: Case, fact: RunEnd) -> Post:
    """The end, for the step that waits for it."""
    waiting = waits_for(case.run.cause)
    assert waiting is not None, "asked by the caller"
    run, step = waiting
    result, failure = b"", None
    if isinstance(fact, RunCompleted):
        result = fact.result
    elif isinstance(fact, RunFailed):
        more = more_of({**members(fact.error_more), "error": why_ended(fact.no_retry)})
        failure = Failure(fact.error_name, fact.error_message, fact.error_stack, more)
    else:
        failure = Failure(CHILD_CANCELLED, f"run {fact.run} of {fact.function} was cancelled: {fact.reason}")
    return Post(lane_of(run, case.tables.place.lanes), ChildEnded(run, step, fact.run, result, failure))


def told_not_started(tables: Tables, function: str, cause: str, reason: str) -> list[Fact]:
    """The step that waits for the end of a run is told that there is none; nobody, where none does."""
    waiting = waits_for(cause)
    if waiting is None:
        return []
    run, step = waiting
    failure = Failure(NOT_STARTED, f"function {function!r} was not started: {reason}")
    return [Post(lane_of(run, tables.place.lanes), ChildEnded(run, step, "", b"", failure))]


def fail(case: Case, draft: Draft, failure: Failure, *, attempt: int = 0, no_retry: bool = False) -> Decided:
    """End the run as failed. ``no_retry``: its code said that another attempt has no use."""
    run = case.run
    failed = RunFailed(
        run.run, run.function, attempt, failure.name, failure.message, failure.stack, failure.more, no_retry
    )
    return end(case, draft, failed)


def _announcements(case: Case, fact: RunEnd) -> Iterator[Envelope]:
    """The internal events that this end is announced with: only those that a function subscribes to."""
    tables, run = case.tables, case.run
    known = catalogue(tables)
    is_handler = handled_function(run.function) in known.functions
    for name in announcement_names(fact, of_failure_handler=is_handler):
        if known.subscriptions(name) or name in awaited(tables):
            events = [row.event for id in run.events if (row := tables.events.get(id)) is not None]
            yield announcement(name, fact, events, case.now_ms, catalogue=seen_upto(tables))


def refuse_about_run(tables: Tables, id: str, command: str, reason: str, now_ms: int) -> list[Fact]:
    """What remains of a command about a run that raised: nothing can be decided about the run, so it fails."""
    refused: list[Fact] = [CommandRefused(command, id, reason)]
    run = tables.runs.get(id)
    if run is None:
        return refused
    message = f"millstream could not decide about this run: {reason}. Please report this."
    facts, _ = fail(Case(tables, run, 0, now_ms), Draft.of(run), Failure("InternalError", message))
    return [*refused, *facts]


def refuse_run_timer(tables: Tables, command: FireTimer, reason: str, now_ms: int) -> list[Fact]:
    """What remains of a run's timer, of whatever kind, that raised."""
    return refuse_about_run(tables, command.id, "FireTimer", reason, now_ms)


# --- cancelling -----------------------------------------------------------------------------------


def _home(tables: Tables, command: CancelRun) -> int:
    """The lane that owns the run; this one for what is no id of a run."""
    place = tables.place
    return lane_of(command.run, place.lanes) if is_ulid(command.run) else place.lane


def cancel(tables: Tables, command: CancelRun, now_ms: int) -> list[Fact]:
    """End a run from outside."""
    run = tables.runs.get(command.run) if is_ulid(command.run) else None
    if run is None:
        return answer(command, {"status": "not_open", "run": command.run}) or _cancelled_ahead(command)
    fact = RunCancelled(run.run, run.function, command.reason)
    facts, _ = end(Case(tables, run, 0, now_ms), Draft.of(run), fact)
    return [*facts, *answer(command, {"status": "cancelled", "run": command.run})]


def _cancelled_ahead(command: CancelRun) -> list[Fact]:
    """A lane cancels a run that is not there: it is over, or its start is still on its way and will find this."""
    if not is_ulid(command.run):
        return []
    return [RequestAnswered(command.run, NOBODY, CANCELLED)]


def is_cancelled_ahead(tables: Tables, run: str) -> bool:
    """Whether a run was cancelled before its start has come. It is known for a day, among the requests."""
    return tables.requests.get(run) is not None


NOBODY: Final = -1
"""Whom an answer is for that nobody waits for."""
CANCELLED: Final = b'{"status":"cancelled"}'
CANCEL_RUN = MessageKind(message=CancelRun, decide=cancel, home=_home)


# --- fold -----------------------------------------------------------------------------------------


def run_ended(tables: Tables, f: RunEnd, at_ms: int) -> Sequence[Effect]:
    """A run is over: nothing of it remains in the tables."""
    run = open_run(tables, f.run)
    effects = delete_run_rows(tables, run)
    if run.pending or not isinstance(f, RunCompleted):
        effects.append(Abandon(run.run))
    return effects


def delete_run_rows(tables: Tables, run: RunRow) -> list[Effect]:
    """Remove every row of a run; the timers and parking places of what was pending with them."""
    effects: list[Effect] = []
    id = run.run
    if run.pending:
        for step in run.steps:
            row = tables.steps.get((id, step))
            if row is not None:
                effects += leave_hand(tables, run, row)
    for step in run.steps:
        tables.steps.delete((id, step))
    if run.body != IDLE:
        effects += leave_hand(tables, run, None)
    for kind, at_ms in ((timers.START, run.start_by_ms), (timers.FINISH, run.finish_by_ms)):
        if at_ms:
            effects.append(timers.disarm(tables, at_ms, kind, id, ""))
    release_events(tables, run)
    tables.runs.delete(id)
    return effects


def release_events(tables: Tables, run: RunRow) -> None:
    """The run needs its events no more; a payload that no other run needs goes."""
    for event in run.events:
        release_event(tables, event)


def release_event(tables: Tables, event: str) -> None:
    """One fewer needs the event."""
    held = tables.events.get(event)
    if held is not None:
        if held.runs <= 1:
            tables.events.delete(event)
        else:
            tables.events.put(event, replace(held, runs=held.runs - 1))


HANDLES = Handles(facts={RunCompleted: run_ended, RunFailed: run_ended, RunCancelled: run_ended})
