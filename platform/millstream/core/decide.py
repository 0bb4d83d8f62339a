"""``decide(tables, command, now_ms) -> facts``: what a command leads to. Reads the tables, changes nothing.

The same tables, command and time always give the same facts: no clock, no randomness, no I/O (a test sees to it). An
empty answer says the command changes nothing: it came late, or twice.

Add a command: its class in ``model/commands.py``, a function in the module of its noun, one line in ``DECIDE``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from millstream.core import crons, events, handover, requests, scans, seen, timers, topics
from millstream.core.runs import reports
from millstream.core.runs.plan import Plan
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.commands import (
    AcceptEvent,
    AcceptRecord,
    AdvanceScan,
    BackfillFunction,
    CancelRun,
    CancelScan,
    CleanUp,
    Command,
    FireTimer,
    InvokeFunction,
    LoseDispatch,
    NoteDelivered,
    NoteGap,
    NotePublished,
    ParkDispatch,
    RefuseRecord,
    ReleaseLane,
    Report,
    SeeCatalogue,
    SeeTopic,
    StillRunning,
    TakeMessage,
    Unpark,
)
from millstream.model.facts import (
    CommandRefused,
    CronDisarmed,
    Fact,
    MessageTaken,
    RetryDue,
    RunDue,
    SleepEnded,
)
from millstream.model.rows import Hand


def decide(tables: Tables, command: Command, now_ms: int) -> list[Fact]:
    """Decide; a command that cannot be decided is refused, named and kept, and the lane goes on (lanes.md rule 22)."""
    try:
        return DECIDE[type(command)](tables, command, now_ms)
    except Exception as error:
        return _refused(tables, command, error, now_ms)


def _fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    if tables.timers.get((command.at_ms, command.kind, command.id, command.step)) is None:
        return []  # It was disarmed, or has fired already.
    return FIRED[command.kind](tables, command, now_ms)


def _due(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    return [RunDue(command.id)]


def _slept(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    run = tables.runs.get(command.id)
    assert run is not None, "a run's timers end with it"
    return [SleepEnded(command.id, command.step, run.body == Hand.IDLE)]


def _retry(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    return [RetryDue(command.id, command.step)]


def _clean_up(tables: Tables, command: CleanUp, now_ms: int) -> list[Fact]:
    return [*seen.expired(tables, now_ms), *requests.expired(tables, now_ms)]


# ``Any`` because each function takes its own command; the keys say which.
DECIDE: Final[dict[type, Callable[[Tables, Any, int], list[Fact]]]] = {
    AcceptEvent: events.accept,
    RefuseRecord: events.refuse,
    Report: reports.report,
    FireTimer: _fire,
    LoseDispatch: reports.lose,
    ParkDispatch: reports.park,
    Unpark: reports.unpark,
    ReleaseLane: handover.release,
    StillRunning: handover.heard,
    CancelRun: requests.cancel,
    InvokeFunction: requests.invoke,
    SeeCatalogue: crons.see_catalogue,
    TakeMessage: requests.take_message,
    NoteDelivered: requests.note_delivered,
    NotePublished: requests.note_published,
    SeeTopic: topics.see_topic,
    NoteGap: topics.note_gap,
    AcceptRecord: events.accept_record,
    AdvanceScan: scans.advance,
    BackfillFunction: scans.backfill,
    CancelScan: scans.cancel,
    CleanUp: _clean_up,
}

FIRED: Final[dict[str, Callable[[Tables, FireTimer, int], list[Fact]]]] = {
    timers.DUE: _due,
    timers.SLEEP: _slept,
    timers.RETRY: _retry,
    timers.CRON: crons.fire,
}


def _refused(tables: Tables, command: Command, error: Exception, now_ms: int) -> list[Fact]:
    """What remains of a command that raised: a fact that says so, and nothing left hanging.

    An event goes to the dead letters; a request is answered; a message counts as taken, or those behind it would wait
    for ever. So would a run about which nothing can be decided: it fails. A cron fires no more.
    """
    name = type(command).__name__
    reason = f"{type(error).__name__}: {error}"[: limits.ERROR_MESSAGE_CHARS_MAX]
    if isinstance(command, AcceptEvent):
        letter = events.Letter(
            command.topic, command.partition, command.offset, reason,
            command.event.key.encode(), events.describe(command.event),
        )  # fmt: skip
        return [CommandRefused(name, letter.subject, reason), *events.dead_letter(tables, letter, now_ms)]
    if isinstance(command, TakeMessage):
        taken = MessageTaken(command.from_lane, command.seq)
        return [taken, CommandRefused(name, "", reason), *requests.refused(command.message, reason)]
    if isinstance(command, CancelRun | InvokeFunction | BackfillFunction | CancelScan):
        return [CommandRefused(name, "", reason), *requests.refused(command, reason)]
    if isinstance(command, FireTimer) and command.kind == timers.CRON:
        return [CommandRefused(name, command.id, reason), CronDisarmed(command.id, command.step)]
    if isinstance(command, Report | FireTimer | LoseDispatch | ParkDispatch | Unpark):
        id = command.id if isinstance(command, FireTimer) else command.run
        refused: list[Fact] = [CommandRefused(name, id, reason)]
        run = tables.runs.get(id)
        if run is None:
            return refused
        plan = Plan(tables, run, 0, now_ms)
        plan.fail("InternalError", f"millstream could not decide about this run: {reason}. Please report this.")
        return refused + plan.facts
    return [CommandRefused(name, "", reason)]
