"""Commands: what asks a lane for a decision, imperative or report. They are never stored; the facts they lead to
are."""

from __future__ import annotations

import msgspec

from millstream.model.event import Envelope
from millstream.model.function import AppSpec, Reading
from millstream.model.operations import Operation


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
    """

    run: str
    step: str
    attempt: int
    dispatch: int
    operations: tuple[Operation, ...]


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

    ``reason`` is empty where there is none at all, or where it was given back; else it says how the code that is here
    does not match what the run has recorded.
    """

    run: str
    step: str
    dispatch: int
    reason: str = ""


class Unpark(msgspec.Struct, frozen=True, gc=False):
    """There is code for this parked dispatch now."""

    run: str
    step: str
    dispatch: int


class CancelRun(msgspec.Struct, frozen=True, gc=False):
    """End a run from outside. ``request`` empty: no api waits for an answer."""

    run: str
    reason: str
    request: str = ""
    reply_to: int = -1


class InvokeFunction(msgspec.Struct, frozen=True):
    """Start one function directly, with ``event`` as its trigger."""

    function: str
    event: Envelope
    request: str = ""
    reply_to: int = -1


LaneMessage = CancelRun | InvokeFunction
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
    """The records of a scan in [``from_offset``, ``to_offset``) were read; what is no event any more is not in it."""

    scan: str
    partition: int
    from_offset: int
    to_offset: int
    reads: tuple[ReadRecord, ...] = ()


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
    | CancelRun
    | InvokeFunction
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
    | CleanUp
)
