"""Rows: what a lane's tables hold. Immutable; a change is a new row in the place of the old one.

Each class is a schema under ``schemas/state/``, field for field. ``state/keyspace.py`` lists the tables with their
keys.
"""

from __future__ import annotations

import builtins
import enum

import msgspec

from millstream.model.commands import HandOut, LaneMessage
from millstream.model.event import Envelope
from millstream.model.gates.declared import RunFlow, Slot
from millstream.model.gates.overrides import LimitsRow
from millstream.model.gates.rows import AskRow, BatchRow, GateRow, KeptStartRow, QueueRow, SingletonRow, StartsRow
from millstream.model.waits.awaited import Awaited


class Hand(enum.IntEnum):
    """Where a body or a step is: in whose hand.

        IDLE ──> OUT ──> IDLE            a report answers a dispatch
                  ├────> BACKOFF ──> OUT  a failed attempt or lost worker waits for its time
                  └────> PARKED ───> OUT  no code here

    SLEEPING, WAITING, CLOSING, DONE and FAILED are for steps only; SCHEDULED for runs that start later. WAITING is for
    an event, a signal or a run; CLOSING: its time is over, and the homes of its places are asked once more. HELD has
    failed for good, and waits for an operator (``core/runs/holding.py``). QUEUED: at a gate.
    """

    IDLE = 0
    OUT = 1
    BACKOFF = 2
    PARKED = 3
    SLEEPING = 4
    DONE = 5
    FAILED = 6
    SCHEDULED = 7
    WAITING = 8
    CLOSING = 9
    HELD = 10
    QUEUED = 11


class RunRow(msgspec.Struct, frozen=True, gc=False):
    """An open run. It is deleted when the run ends; what was is in the journal and the history.

    ``dispatch``  the last number handed out for this run; ``body_dispatch`` the one its body is out under.
    ``again``     something was resolved while the body was out: hand it out again as soon as it answers.
    ``pending``   steps that are neither done nor failed.
    ``resolved``  how many are done or failed; numbers them in that order.
    ``steps``     every step id, in order of appearance.
    ``bytes``     of all step results together.
    ``cancels``   the places of the events that cancel it.
    ``flow``      its gates; None: it has none.
    ``joint``     its body goes on only once no step is pending; else after each that is resolved.
    ``taken``     the events that its waits have taken: pairs of marks, condition and event
                  (``model/waits/awaited.py``).
    """

    run: str
    function: str
    events: tuple[str, ...]
    cause: str
    queued_at_ms: int
    body: int = Hand.IDLE
    body_dispatch: int = 0
    dispatch: int = 0
    attempt: int = 0
    lost: int = 0
    again: bool = False
    pending: int = 0
    resolved: int = 0
    steps: tuple[str, ...] = ()
    bytes: int = 0
    wake_at_ms: int = 0
    taken: builtins.bytes = b""
    cancels: tuple[str, ...] = ()
    start_by_ms: int = 0
    finish_by_ms: int = 0
    flow: RunFlow | None = None
    joint: bool = False


class StepRow(msgspec.Struct, frozen=True, gc=False):
    """A step of an open run. ``data`` is the JSON result (DONE) or the JSON of the Failure (FAILED).

    Of a gateway's step ``data`` is the request (``GatewayFound``) until it is either; of any other step it is empty.

    ``awaits``  what it waits for (WAITING, CLOSING); of a callback, which is DONE at once, what it holds; of a wait
                for a signal that came, its name (DONE).
    ``slot``    where it is on its way through the gates of its run; None: it asks for none, and holds none.
    """

    run: str
    step: str
    name: str
    kind: str
    hand: int
    attempt: int = 0
    dispatch: int = 0
    lost: int = 0
    order: int = 0
    data: bytes = b""
    wake_at_ms: int = 0
    awaits: Awaited | None = None
    slot: Slot | None = None


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """The payload of an event that ``runs`` open runs need."""

    event: Envelope
    runs: int


class TimerRow(msgspec.Struct, frozen=True, gc=False):
    """A stored wake-up. The kinds are in ``core/timers.py``; all four fields are the key."""

    at_ms: int
    kind: str
    id: str
    step: str


class CronRow(msgspec.Struct, frozen=True, gc=False):
    """The next firing of a cron whose home this lane is."""

    function: str
    cron: str
    at_ms: int


class AppRow(msgspec.Struct, frozen=True, gc=False):
    """An app as this lane knows it; ``spec`` is the AppSpec as JSON."""

    app: str
    spec: bytes
    offset: int


class PositionRow(msgspec.Struct, frozen=True, gc=False):
    """The offset of a topic partition that is read next."""

    topic: str
    partition: int
    offset: int


class TopicRow(msgspec.Struct, frozen=True, gc=False):
    """How many partitions a subscribed topic had when it was looked at last; later ones open at their beginning."""

    topic: str
    partitions: int


class SubscriptionRow(msgspec.Struct, frozen=True, gc=False):
    """A function has subscribed to a topic at some time."""

    function: str
    topic: str
    since_ms: int


class ScanRow(msgspec.Struct, frozen=True, gc=False):
    """A scan that goes on at ``at`` (−1: at the first offset of ``since_ms``) up to ``upto``; see ``ScanStarted``."""

    scan: str
    partition: int
    function: str
    topic: str
    purpose: str
    cause: str
    since_ms: int
    from_offset: int
    upto: int
    at: int
    started: int


class SeenRow(msgspec.Struct, frozen=True, gc=False):
    """An id was seen, and is known until then by its source's time. Derived from the chunks, never checkpointed."""

    hash: bytes
    until_ms: int


class SeenBucketRow(msgspec.Struct, frozen=True, gc=False):
    """The seen ids of one source, class of ids and stretch of time; ``first`` … ``chunk`` are its chunks."""

    source: str
    clients: bool
    bucket: int
    first: int
    chunk: int


class SeenChunkRow(msgspec.Struct, frozen=True, gc=False):
    """Hashes of seen ids, 16 bytes each."""

    source: str
    clients: bool
    bucket: int
    chunk: int
    hashes: bytes


class RequestRow(msgspec.Struct, frozen=True, gc=False):
    """The answer a request id got."""

    request: str
    reply_to: int
    reply: bytes


class OutboxRow(msgspec.Struct, frozen=True):
    """A message that is not yet known to be in the other lane's inbox."""

    to_lane: int
    seq: int
    message: LaneMessage


class OutboxCursorRow(msgspec.Struct, frozen=True, gc=False):
    """The last sequence number sent to a lane, and the last known to be delivered."""

    to_lane: int
    sent: int
    delivered: int


class InboxCursorRow(msgspec.Struct, frozen=True, gc=False):
    """The last sequence number taken from a lane."""

    from_lane: int
    taken: int


class PublishRow(msgspec.Struct, frozen=True):
    """A record that is not yet known to be in its topic; see ``PublishQueued``."""

    number: int
    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    event: Envelope | None


class ParkedRow(msgspec.Struct, frozen=True, gc=False):
    """A hand-out that waits for code; ``reason``: how the code that was there has changed, else empty.

    ``given_back``: its worker has stopped in good order, and nobody has looked for code since.
    """

    function: str
    run: str
    step: str
    dispatch: int
    reason: str = ""
    given_back: bool = False


class HeldRow(msgspec.Struct, frozen=True, gc=False):
    """A body (``step`` empty) or step that has failed for good and waits for an operator, with its last error."""

    function: str
    run: str
    step: str
    held_at_ms: int
    error_name: str
    error_message: str
    error_stack: str
    error_more: builtins.bytes = b""


class HolderRow(msgspec.Struct, frozen=True, gc=False):
    """A former owner that let the lane go in good order and still runs ``out``, or what is left of it."""

    holder: str
    worker: str
    out: tuple[HandOut, ...]


class WaiterRow(msgspec.Struct, frozen=True, gc=False):
    """A run that waits at a place whose home this lane is; see ``WaiterAdded``.

    ``looked_ms``, ``looked_id``  how far it has looked through the kept events; an empty id: through all of them.
    ``timer_ms``                  when it looks on.
    """

    place: str
    run: str
    step: str
    index: int
    event: str
    path: str
    since_ms: int
    expression: str
    given: bytes
    excluded: bytes
    seek: int
    looked_ms: int = 0
    looked_id: str = ""
    timer_ms: int = 0


class KeptRow(msgspec.Struct, frozen=True):
    """An event that somebody waits for, or may wait for: kept at the home of these places.

    ``behind``    the waiter behind which it goes on, see ``MatchingPaused``; empty: it has met all there were.
    ``timer_ms``  when it goes on.
    """

    received_at_ms: int
    internal_id: str
    event: Envelope
    places: tuple[str, ...]
    behind: str = ""
    timer_ms: int = 0


class KeptAtRow(msgspec.Struct, frozen=True, gc=False):
    """A kept event, by its place."""

    place: str
    received_at_ms: int
    internal_id: str


class CoverageRow(msgspec.Struct, frozen=True, gc=False):
    """What this lane, as a home, has asked the lanes that read events: to forward those of a name, by a path.

    ``seek``        the number of the last request; ``since_ms``: how far back it looks.
    ``answered``    by lane, the last request that it has carried out.
    ``next_ms``     how far back the next request must look; −1: none is wanted.
    ``used_at_ms``  when somebody began or ceased to wait last.
    ``waiters``     how many waits depend on it.
    """

    event: str
    path: str
    seek: int
    since_ms: int
    answered: tuple[int, ...]
    used_at_ms: int
    next_ms: int = -1
    waiters: int = 0


class InterestRow(msgspec.Struct, frozen=True, gc=False):
    """This lane forwards events of the name whose value at the path has its home there."""

    event: str
    path: str
    home: int


class SeekRow(msgspec.Struct, frozen=True, gc=False):
    """A request of a home under way here: scans over ``left`` partitions look for earlier events."""

    scan: str
    event: str
    path: str
    home: int
    seek: int
    left: int


class SignalRow(msgspec.Struct, frozen=True, gc=False):
    """The step that waits for a signal whose home this lane is."""

    signal: str
    run: str
    step: str


class CancellationRow(msgspec.Struct, frozen=True, gc=False):
    """A cancellation under way here; see ``CancellationStarted``.

    ``began_ms``  when this lane recorded it: runs that were queued later are none of its.
    ``behind``    the run behind which it goes on.
    ``timer_ms``  when it goes on.
    """

    cancellation: str
    function: str
    from_ms: int
    before_ms: int
    expression: str
    reason: str
    began_ms: int
    timer_ms: int
    behind: str = ""
    looked: int = 0
    cancelled: int = 0


class CounterRow(msgspec.Struct, frozen=True, gc=False):
    """A number of the lane: ``publishes`` (the last used), ``kept_bytes``, ``kept_events``, ``kept_from_ms``,
    ``arrivals`` (in queues of gates)."""

    name: str
    value: int


Row = (
    RunRow
    | StepRow
    | EventRow
    | TimerRow
    | CronRow
    | AppRow
    | PositionRow
    | TopicRow
    | SubscriptionRow
    | ScanRow
    | SeenRow
    | SeenBucketRow
    | SeenChunkRow
    | RequestRow
    | OutboxRow
    | OutboxCursorRow
    | InboxCursorRow
    | PublishRow
    | ParkedRow
    | CounterRow
    | HolderRow
    | WaiterRow
    | KeptRow
    | KeptAtRow
    | CoverageRow
    | InterestRow
    | SeekRow
    | SignalRow
    | GateRow
    | AskRow
    | QueueRow
    | StartsRow
    | SingletonRow
    | KeptStartRow
    | BatchRow
    | CancellationRow
    | HeldRow
    | LimitsRow
)
