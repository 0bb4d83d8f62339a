"""The pure fold of journal records and events into changes of the index.

One ``Changes`` gathers a whole batch: a run that starts and ends within it becomes one row, its steps one packed list.
Nothing here reads the index or a clock; times are the records' own. Only records that count get here (``Validity``).

The rule: folding the same records in another grouping gives the same index. Add a fact to the history: one function
and its line in ``_FOLDS``, or ``shows`` of its step kind where only one kind makes it; other facts show nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec

from millstream.core.flow.places import gate_and_key
from millstream.core.runs.ending import waits_for
from millstream.core.steps import SHOWS
from millstream.history.cancellations import CancellationFact
from millstream.history.queues import FACTS as QUEUE_FACTS
from millstream.history.queues import QueueChanges, QueueFact
from millstream.history.scans import ScanFact
from millstream.model import facts as f
from millstream.model import trail
from millstream.model.error_object import error_object
from millstream.model.event import FUNCTION_CANCELLED, FUNCTION_FAILED, FUNCTION_FINISHED, Envelope
from millstream.model.function import AppSpec
from millstream.model.journal import JournalRecord

QUEUED: Final = 0
RUNNING: Final = 1
COMPLETED: Final = 2
FAILED: Final = 3
CANCELLED: Final = 4
STATUSES: Final = ("Queued", "Running", "Completed", "Failed", "Cancelled")
"""How a run stands, as the API names it; the index holds the position in this tuple."""

ANNOUNCEMENTS: Final = (FUNCTION_FINISHED, FUNCTION_FAILED, FUNCTION_CANCELLED)
"""The events that announce a run's end; the index holds the position in this tuple."""

_app_decoder: Final = msgspec.json.Decoder(AppSpec)


class RunChange(msgspec.Struct):
    """What a batch makes of one run. ``new``: it starts here. ``status`` −1: unchanged."""

    run: str
    new: bool = False
    status: int = -1
    function: str = ""
    events: tuple[str, ...] = ()
    event_name: str = ""
    cause: str = ""
    queued_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    result: bytes = b""
    error: bytes = b""
    no_retry: bool = False
    entries: list[trail.Entry] = msgspec.field(default_factory=list)

    def further_events(self) -> list[tuple[str, int, str]]:
        """The events behind the first, each with its place and the run."""
        return [(event, place, self.run) for place, event in enumerate(self.events[1:], 1)]


class EventChange(msgspec.Struct, frozen=True, gc=False):
    """An event to list: from a topic, or (``topic`` empty) made by a lane."""

    event: Envelope | f.EventAccepted
    topic: str
    partition: int
    offset: int


class Announced(msgspec.Struct, frozen=True, gc=False):
    """A run's end, to be shown as the event that announces it: ``kind`` is a position in ANNOUNCEMENTS."""

    at_ms: int
    run: str
    function: str
    kind: int


class Notice(msgspec.Struct, frozen=True, gc=False):
    """Something worth showing beside an event or run: ``kind`` is deduplicated, skipped, refused or parked."""

    kind: str
    at_ms: int
    subject: str
    function: str
    reason: str


class Changes:
    """The changes of one batch, in no particular order but the entries of a run."""

    __slots__ = (
        "_names", "_written", "announced", "apps", "cancellations", "ended", "events", "listed", "notices", "queues",
        "runs", "scans",
    )  # fmt: skip

    def __init__(self, listed: frozenset[str] = frozenset()) -> None:
        self.listed = listed  # Topics whose events come by themselves: EventAccepted of those adds nothing.
        self.runs: dict[str, RunChange] = {}
        self.events: list[EventChange] = []
        self.notices: list[Notice] = []
        self.apps: dict[str, AppSpec] = {}
        self.announced: list[Announced] = []  # Only those that no lane writes: written ones come by themselves.
        self.ended: list[int] = [0, 0, 0, 0, 0]
        self.scans: list[tuple[ScanFact, int]] = []
        self.cancellations: list[tuple[CancellationFact, int]] = []
        self.queues = QueueChanges()
        self._written: set[tuple[str, str]] = set()
        self._names: dict[str, str] = {}

    def fold(self, record: JournalRecord) -> None:
        """Add what a valid journal record says."""
        at_ms = record.at_ms
        folds = _FOLDS
        for fact in record.facts:
            fold = folds.get(type(fact))
            if fold is not None:
                fold(self, fact, at_ms)
            elif (show := SHOWS.get(type(fact))) is not None:  # A fact of one step kind: the kind says how it shows.
                entry = show(fact, at_ms)
                if entry is not None:
                    self.of_run(fact.run).entries.append(entry)  # type: ignore[union-attr]
        if self._written:  # Behind the end that they announce, in the same decision.
            written = self._written
            self.announced = [one for one in self.announced if (one.run, ANNOUNCEMENTS[one.kind]) not in written]
            written.clear()

    def add_event(self, event: Envelope, topic: str, partition: int, offset: int) -> None:
        """Add an event read from a topic."""
        self.events.append(EventChange(event, topic, partition, offset))

    def of_run(self, run: str) -> RunChange:
        """The change of a run, made if need be."""
        change = self.runs.get(run)
        if change is None:
            change = self.runs[run] = RunChange(run)
        return change


def parent_of(cause: str) -> tuple[str, str] | None:
    """The run and step that invoked a run with this cause, and wait or waited for its end; None: no step did."""
    return waits_for(cause)


def error_json(name: str, message: str, stack: str, more: bytes = b"") -> bytes:
    """An error as the API shows it: the object that its function made of it, where that was one of another SDK."""
    return json.dumps(error_object(name, message, stack, more), separators=(",", ":")).encode()


def _event_accepted(c: Changes, fact: f.EventAccepted, at_ms: int) -> None:
    c._names[fact.internal_id] = fact.name
    if fact.topic not in c.listed:
        c.events.append(EventChange(fact, fact.topic, fact.partition, fact.offset))


def _run_started(c: Changes, fact: f.RunStarted, at_ms: int) -> None:
    waits = fact.start_at_ms > at_ms or (fact.flow is not None and bool(fact.flow.gates or fact.flow.slots))
    change = c.of_run(fact.run)
    change.new = True
    change.status = QUEUED if waits else RUNNING
    change.function = fact.function
    change.events = fact.events
    change.event_name = c._names.get(fact.events[0], "") if fact.events else ""
    change.cause = fact.cause
    change.queued_ms = at_ms
    change.started_ms = 0 if waits else at_ms


def _run_due(c: Changes, fact: f.RunDue, at_ms: int) -> None:
    change = c.of_run(fact.run)
    change.status = RUNNING
    change.started_ms = at_ms


def _gate_asked(c: Changes, fact: f.GateAsked, at_ms: int) -> None:
    c.of_run(fact.run).entries.append((trail.ASKED, at_ms, fact.step, *gate_and_key(fact.place)))


def _gate_passed(c: Changes, fact: f.GatePassed, at_ms: int) -> None:
    change = c.of_run(fact.run)
    change.entries.append((trail.PASSED, at_ms, fact.step, *gate_and_key(fact.place)))
    if fact.is_start:
        change.status = RUNNING
        change.started_ms = at_ms


def _run_completed(c: Changes, fact: f.RunCompleted, at_ms: int) -> None:
    change = _ended(c, fact.run, COMPLETED, at_ms)
    c.announced.append(Announced(at_ms, fact.run, fact.function, 0))
    change.result = fact.result


def _run_failed(c: Changes, fact: f.RunFailed, at_ms: int) -> None:
    change = _ended(c, fact.run, FAILED, at_ms)
    c.announced += [Announced(at_ms, fact.run, fact.function, kind) for kind in (1, 0)]
    change.error = error_json(fact.error_name, fact.error_message, fact.error_stack, fact.error_more)
    change.no_retry = fact.no_retry


def _run_cancelled(c: Changes, fact: f.RunCancelled, at_ms: int) -> None:
    change = _ended(c, fact.run, CANCELLED, at_ms)
    c.announced.append(Announced(at_ms, fact.run, fact.function, 2))
    change.error = error_json("Cancelled", fact.reason, "")


def _ended(c: Changes, run: str, status: int, at_ms: int) -> RunChange:
    change = c.of_run(run)
    change.status = status
    change.ended_ms = at_ms
    c.ended[status] += 1
    return change


def _publish_queued(c: Changes, x: f.PublishQueued, at_ms: int) -> None:
    if x.event is not None and x.event.name in ANNOUNCEMENTS:
        c._written.add((x.event.key, x.event.name))


def _step_completed(c: Changes, x: f.StepCompleted, at_ms: int) -> None:
    c.of_run(x.run).entries.append((trail.DONE, at_ms, x.step, x.name, x.kind, x.attempt, x.started_at_ms, x.data))


def _step_failed(c: Changes, x: f.StepFailed, at_ms: int) -> None:
    error = (x.error_name, x.error_message, x.error_stack, x.error_more)
    head = (trail.FAILED, at_ms, x.step, x.name, x.kind, x.attempt, x.started_at_ms, 0)
    c.of_run(x.run).entries.append((*head, *error))


def _body_attempt_failed(c: Changes, x: f.BodyAttemptFailed, at_ms: int) -> None:
    error = (x.error_name, x.error_message, x.error_stack)
    c.of_run(x.run).entries.append((trail.BODY_ERRORED, at_ms, "", x.attempt, x.retry_at_ms, *error))


def _step_held(c: Changes, x: f.StepHeld, at_ms: int) -> None:
    error = (x.error_name, x.error_message, x.error_stack, x.error_more)
    c.of_run(x.run).entries.append((trail.HELD, at_ms, x.step, x.name, x.kind, x.attempt, x.started_at_ms, *error))


def _body_held(c: Changes, x: f.BodyHeld, at_ms: int) -> None:
    error = (x.error_name, x.error_message, x.error_stack)
    c.of_run(x.run).entries.append((trail.HELD, at_ms, "", "", "", x.attempt, at_ms, *error))


def _held_resumed(c: Changes, x: f.HeldResumed, at_ms: int) -> None:
    c.of_run(x.run).entries.append((trail.RESUMED, at_ms, x.step))


def _dispatch_lost(c: Changes, x: f.DispatchLost, at_ms: int) -> None:
    c.of_run(x.run).entries.append((trail.LOST, at_ms, x.step, x.lost, x.retry_at_ms))


def _dispatch_parked(c: Changes, x: f.DispatchParked, at_ms: int) -> None:
    parked = (trail.PARKED, at_ms, x.step, x.function, x.reason)
    c.of_run(x.run).entries.append(parked if not x.given_back else (trail.GIVEN_BACK, at_ms, x.step))
    if x.reason:
        c.notices.append(Notice("parked", at_ms, x.run, x.function, x.reason))


def _dispatch_unparked(c: Changes, x: f.DispatchUnparked, at_ms: int) -> None:
    c.of_run(x.run).entries.append((trail.UNPARKED, at_ms, x.step))


def _catalogue_seen(c: Changes, fact: f.CatalogueSeen, at_ms: int) -> None:
    if fact.spec:  # An app that is gone keeps its name beside its old runs.
        c.apps[fact.app] = _app_decoder.decode(fact.spec)


def _event_deduplicated(c: Changes, fact: f.EventDeduplicated, at_ms: int) -> None:
    reason = f"an event with the id {fact.id!r} was seen before"
    c.notices.append(Notice("deduplicated", at_ms, fact.internal_id, "", reason))


def _function_skipped(c: Changes, fact: f.FunctionSkipped, at_ms: int) -> None:
    c.notices.append(Notice("skipped", at_ms, fact.event, fact.function, fact.reason))


def _command_refused(c: Changes, fact: f.CommandRefused, at_ms: int) -> None:
    c.notices.append(Notice("refused", at_ms, fact.subject, "", f"{fact.command}: {fact.reason}"))


def _scan_moved(c: Changes, fact: ScanFact, at_ms: int) -> None:
    c.scans.append((fact, at_ms))


def _cancellation_moved(c: Changes, fact: CancellationFact, at_ms: int) -> None:
    c.cancellations.append((fact, at_ms))


def _at_gate(c: Changes, fact: QueueFact, at_ms: int) -> None:
    c.queues.take(fact, at_ms)


_FOLDS: Final[dict[type[Any], Callable[[Changes, Any, int], None]]] = {
    f.EventAccepted: _event_accepted,
    f.RunStarted: _run_started,
    f.RunDue: _run_due,
    f.GateAsked: _gate_asked,
    f.GatePassed: _gate_passed,
    f.RunCompleted: _run_completed,
    f.RunFailed: _run_failed,
    f.RunCancelled: _run_cancelled,
    f.PublishQueued: _publish_queued,
    f.StepCompleted: _step_completed,
    f.StepFailed: _step_failed,
    f.BodyAttemptFailed: _body_attempt_failed,
    f.StepHeld: _step_held,
    f.BodyHeld: _body_held,
    f.HeldResumed: _held_resumed,
    f.DispatchLost: _dispatch_lost,
    f.DispatchParked: _dispatch_parked,
    f.DispatchUnparked: _dispatch_unparked,
    f.CatalogueSeen: _catalogue_seen,
    f.EventDeduplicated: _event_deduplicated,
    f.FunctionSkipped: _function_skipped,
    f.CommandRefused: _command_refused,
    f.ScanStarted: _scan_moved,
    f.ScanAdvanced: _scan_moved,
    f.ScanEnded: _scan_moved,
    f.CancellationStarted: _cancellation_moved,
    f.CancellationAdvanced: _cancellation_moved,
    f.CancellationEnded: _cancellation_moved,
    **dict.fromkeys(QUEUE_FACTS, _at_gate),
}
