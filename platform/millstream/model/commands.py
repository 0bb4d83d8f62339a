"""Commands: what asks a lane for a decision, imperative or report. They are never stored; the facts they lead to
are."""

from __future__ import annotations

import msgspec

from millstream.model.event import Envelope
from millstream.model.function import AppSpec, Reading
from millstream.model.gates.messages import AdmitStart, AskGate, GateOpen, LeaveGate
from millstream.model.gates.overrides import SeeLimits
from millstream.model.operations import Failure, Operation
from millstream.model.run_requests import CancelRun, CancelRuns, FailRun, ResumeRun, StopCancelling


class AcceptEvent(msgspec.Struct, frozen=True, gc=False):
    """An event was read from a source: ``topic``, ``partition``, ``offset`` say where."""

    event: Envelope
    topic: str
    partition: int
    offset: int


Headers = tuple[tuple[str, bytes], ...]


class RefuseRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of a source could not be read as an event (a poison record): it goes to the dead letters as it was."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class ReadRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of a topic, read in one way: the event, or why it is none. The rest is the record as it was."""

    offset: int
    reading: Reading
    event: Envelope | None
    reason: str = ""
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()


class AcceptRecord(msgspec.Struct, frozen=True):
    """A record of a foreign topic was read, in each way that its functions ask for."""

    topic: str
    partition: int
    offset: int
    reads: tuple[ReadRecord, ...]


class Report(msgspec.Struct, frozen=True, gc=False):
    """An executor reports the outcome of a dispatch. ``step`` is empty for the body.

    An empty ``operations`` says: the body found nothing new to do.

    ``joint``  of a body's answer: whether the body goes on only once every step that it has found is resolved (True),
               or after each (False); None: as before. A run begins with False.
    """

    run: str
    step: str
    attempt: int
    dispatch: int
    operations: tuple[Operation, ...]
    joint: bool | None = None


class FireTimer(msgspec.Struct, frozen=True, gc=False):
    """A timer's time has come; the fields are the timer's key."""

    at_ms: int
    kind: str
    id: str
    step: str


class LoseDispatch(msgspec.Struct, frozen=True, gc=False):
    """No worker runs this dispatch any more: the one that did has died."""

    run: str
    step: str
    dispatch: int


class HandOut(msgspec.Struct, frozen=True, gc=False):
    """One hand-out that is under way somewhere. ``step`` is empty for the body."""

    run: str
    step: str
    dispatch: int


class ParkDispatch(msgspec.Struct, frozen=True, gc=False):
    """No code here for this dispatch: keep it until there is.

    ``reason``      how the code that is here does not match what the run has recorded; empty where there is none.
    ``given_back``  the worker stops in good order: whether there is code for it, the next owner knows.
    """

    run: str
    step: str
    dispatch: int
    reason: str = ""
    given_back: bool = False


class Unpark(msgspec.Struct, frozen=True, gc=False):
    """There is code for this parked dispatch now."""

    run: str
    step: str
    dispatch: int


class InvokeFunction(msgspec.Struct, frozen=True):
    """Start one function directly, with ``event`` as its trigger.

    ``cause``  ``<run>/<step>``: a step waits for the run's end; empty: the request is the cause.
    """

    function: str
    event: Envelope
    request: str = ""
    reply_to: int = -1
    cause: str = ""


class ChildEnded(msgspec.Struct, frozen=True, gc=False):
    """The run that a step has started is over: its result as JSON, or its failure."""

    run: str
    step: str
    child: str
    result: bytes
    failure: Failure | None


class AwaitEvent(msgspec.Struct, frozen=True, gc=False):
    """A step waits for an event at a place.

    ``index``     which of the step's conditions it is.
    ``given``     JSON of what the expression reads of the run's own event.
    ``excluded``  marks of the events that do not count: the run's own, and those that such waits of it have taken.
    """

    run: str
    step: str
    index: int
    place: str
    event: str
    path: str
    since_ms: int
    expression: str
    given: bytes
    excluded: bytes


class ForgetWait(msgspec.Struct, frozen=True, gc=False):
    """A step does not wait any more. ``is_answered``: say that nothing came, unless something may still come."""

    run: str
    step: str
    index: int
    place: str
    is_answered: bool


class TakeEvent(msgspec.Struct, frozen=True):
    """An event of a name that is waited for, for the home of these places."""

    event: Envelope
    places: tuple[str, ...]


class EventCame(msgspec.Struct, frozen=True):
    """The event that a step waits for has come."""

    run: str
    step: str
    index: int
    event: Envelope


class NothingCame(msgspec.Struct, frozen=True, gc=False):
    """No event has come by the time that the home was asked. ``is_early``: not every lane has looked yet; ask again.

    ``reason`` not empty: the wait is refused.
    """

    run: str
    step: str
    index: int
    is_early: bool = False
    reason: str = ""


class SeekEvents(msgspec.Struct, frozen=True, gc=False):
    """Forward events of this name, by this path, from now on; and those received since ``since_ms`` to this home.

    ``since_ms`` −1: no more.
    """

    event: str
    path: str
    home: int
    seek: int
    since_ms: int


class EventsSought(msgspec.Struct, frozen=True, gc=False):
    """A lane has forwarded what it was asked for."""

    event: str
    path: str
    lane: int
    seek: int


class AwaitSignal(msgspec.Struct, frozen=True, gc=False):
    """A step waits for a signal."""

    run: str
    step: str
    signal: str
    replaces: bool


class ForgetSignal(msgspec.Struct, frozen=True, gc=False):
    """A step does not wait for its signal any more. ``is_answered``: say that nobody has sent it."""

    run: str
    step: str
    signal: str
    is_answered: bool


class SignalCame(msgspec.Struct, frozen=True, gc=False):
    """The signal that a step waits for was sent; or (``reason`` not empty) the wait is refused."""

    run: str
    step: str
    data: bytes
    reason: str = ""


class SendSignal(msgspec.Struct, frozen=True, gc=False):
    """Send a signal to the run that waits for it. ``data`` is UTF-8 JSON."""

    signal: str
    data: bytes
    request: str = ""
    reply_to: int = -1


class ResolveCallback(msgspec.Struct, frozen=True, gc=False):
    """Somebody has posted to a callback. ``mark`` stands for its step, ``data`` is the body as UTF-8 JSON."""

    run: str
    mark: str
    data: bytes
    request: str = ""
    reply_to: int = -1


LaneMessage = (
    CancelRun
    | InvokeFunction
    | ChildEnded
    | AwaitEvent
    | ForgetWait
    | TakeEvent
    | EventCame
    | NothingCame
    | SeekEvents
    | EventsSought
    | AwaitSignal
    | ForgetSignal
    | SignalCame
    | SendSignal
    | AdmitStart
    | AskGate
    | LeaveGate
    | GateOpen
    | ResolveCallback
    | CancelRuns
    | StopCancelling
)
"""The messages that lanes send each other."""


class SeeCatalogue(msgspec.Struct, frozen=True):
    """The functions topic says: ``app`` is this now. ``offset`` is the record's there; None: the app is gone."""

    app_id: str
    app: AppSpec | None
    offset: int


class TakeMessage(msgspec.Struct, frozen=True):
    """A message of another lane arrived in the inbox."""

    from_lane: int
    seq: int
    message: LaneMessage


class ReleaseLane(msgspec.Struct, frozen=True, gc=False):
    """This owner lets the lane go in good order; ``out`` is what it still runs and will report (lanes.md rule 25)."""

    worker: str
    holder: str
    out: tuple[HandOut, ...]


class StillRunning(msgspec.Struct, frozen=True, gc=False):
    """A former owner still runs ``left`` hand-outs of this lane; 0: none, all were reported or given back."""

    holder: str
    left: int


class NoteDelivered(msgspec.Struct, frozen=True, gc=False):
    """The messages to ``to_lane`` up to and with ``upto`` are durable in its inbox."""

    to_lane: int
    upto: int


class NotePublished(msgspec.Struct, frozen=True, gc=False):
    """These records of the publish queue are durable in their topics."""

    numbers: tuple[int, ...]


class RefusePublish(msgspec.Struct, frozen=True, gc=False):
    """The log will never take this record of the publish queue."""

    number: int
    reason: str


class ScanStart(msgspec.Struct, frozen=True, gc=False):
    """A function wants a partition's records from this offset on."""

    function: str
    offset: int


class Opening(msgspec.Struct, frozen=True):
    """A partition that is to be read live from ``offset`` on; ``starts``: where its functions want to begin."""

    partition: int
    offset: int
    starts: tuple[ScanStart, ...] = ()


class SeeTopic(msgspec.Struct, frozen=True):
    """The number of partitions of a subscribed topic (0: it is not there); open these of them."""

    topic: str
    partitions: int
    openings: tuple[Opening, ...] = ()


class AdvanceScan(msgspec.Struct, frozen=True):
    """The records of a scan in [``from_offset``, ``to_offset``) were read; what is no event any more is not in it.

    ``upto``  where a scan ends whose end was left to its reader; −1: it is known.
    """

    scan: str
    partition: int
    from_offset: int
    to_offset: int
    reads: tuple[ReadRecord, ...] = ()
    upto: int = -1


class ScanRange(msgspec.Struct, frozen=True, gc=False):
    """The records [from_offset, upto) of a partition."""

    partition: int
    from_offset: int
    upto: int


class BackfillFunction(msgspec.Struct, frozen=True):
    """Start a function on the records of these ranges, also on those that it has started on before.

    ``scan`` is the same for all lanes, and the cause of the runs; ``request`` each lane's own.
    """

    function: str
    topic: str
    ranges: tuple[ScanRange, ...]
    scan: str
    request: str = ""
    reply_to: int = -1


class CancelScan(msgspec.Struct, frozen=True, gc=False):
    """End a scan; the runs it has started go on."""

    scan: str
    request: str = ""
    reply_to: int = -1


class NoteGap(msgspec.Struct, frozen=True, gc=False):
    """The position of a source is not there: what lay in [from_offset, to_offset) was trimmed before it was read.

    ``to_offset`` below ``from_offset``: the topic was deleted and made anew, and is read from there.
    """

    topic: str
    partition: int
    from_offset: int
    to_offset: int


class CleanUp(msgspec.Struct, frozen=True, gc=False):
    """Let go of what is remembered for a time only: seen ids, request ids."""


Command = (
    AcceptEvent
    | RefuseRecord
    | Report
    | FireTimer
    | LoseDispatch
    | ParkDispatch
    | Unpark
    | ReleaseLane
    | StillRunning
    | LaneMessage
    | SeeCatalogue
    | TakeMessage
    | NoteDelivered
    | NotePublished
    | RefusePublish
    | SeeTopic
    | NoteGap
    | AcceptRecord
    | AdvanceScan
    | BackfillFunction
    | CancelScan
    | ResumeRun
    | FailRun
    | CleanUp
    | SeeLimits
)
