"""Facts: what was decided, past tense. The journal is a sequence of them and the only truth.

Each class is a branch of ``schemas/journal/record.avsc``, field for field, where every field has its documentation; a
test compares the two. Flat on purpose: a fact is encoded once per decision, on the hot path. A fold that must treat a
fact differently from before is a new class (lanes.md rule 33), never a new meaning of an old one.

``discover`` on a fact says: with it, the body is handed out again (a *discovery*) to find what to do next.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from millstream.model.commands import HandOut, LaneMessage
from millstream.model.event import Envelope


class StepCompleted(msgspec.Struct, frozen=True, gc=False):
    """A step's result is known and never changes again. ``dispatch`` is the hand-out that reported it."""

    run: str
    step: str
    name: str
    kind: str
    attempt: int
    dispatch: int
    data: bytes
    started_at_ms: int
    discover: bool


class EventAccepted(msgspec.Struct, frozen=True, gc=False):
    """An event that at least one function starts on; holds the payload once. Fields as in ``Envelope``.

    ``topic`` is empty for events that the lane made itself (cron ticks, invocations); ``seen`` is the 16-byte hash
    of (topic, partition, id), empty where nothing is remembered.
    """

    internal_id: str
    id: str
    id_is_clients: bool
    name: str
    data: bytes
    ts_ms: int
    received_at_ms: int
    key: str
    user: bytes
    v: str
    meta: bytes
    topic: str
    partition: int
    offset: int
    seen: bytes


class RunStarted(msgspec.Struct, frozen=True, gc=False):
    """A run exists. It is handed out at once, or at ``start_at_ms`` where that is not 0."""

    run: str
    function: str
    events: tuple[str, ...]
    cause: str
    start_at_ms: int


class RunCompleted(msgspec.Struct, frozen=True, gc=False):
    """The handler returned; the run is over."""

    run: str
    function: str
    dispatch: int
    result: bytes


class StepPlanned(msgspec.Struct, frozen=True, gc=False):
    """A step was found beside others; it is handed out on its own."""

    run: str
    step: str
    name: str
    dispatch: int


class DiscoveryAnswered(msgspec.Struct, frozen=True, gc=False):
    """The body was handed out and found nothing new."""

    run: str
    dispatch: int
    discover: bool


class SleepStarted(msgspec.Struct, frozen=True, gc=False):
    """The run sleeps (at this step) until ``wake_at_ms``."""

    run: str
    step: str
    name: str
    dispatch: int
    wake_at_ms: int


class SleepEnded(msgspec.Struct, frozen=True, gc=False):
    """The sleep is over."""

    run: str
    step: str
    discover: bool


class StepAttemptFailed(msgspec.Struct, frozen=True, gc=False):
    """An attempt of a step failed; the next one starts at ``retry_at_ms``."""

    run: str
    step: str
    name: str
    attempt: int
    dispatch: int
    error_name: str
    error_message: str
    error_stack: str
    started_at_ms: int
    retry_at_ms: int


class StepFailed(msgspec.Struct, frozen=True, gc=False):
    """A step failed for good; the body sees a StepError."""

    run: str
    step: str
    name: str
    kind: str
    attempt: int
    dispatch: int
    error_name: str
    error_message: str
    error_stack: str
    started_at_ms: int
    discover: bool


class BodyAttemptFailed(msgspec.Struct, frozen=True, gc=False):
    """The handler raised outside a step; it is handed out again at ``retry_at_ms``."""

    run: str
    attempt: int
    dispatch: int
    error_name: str
    error_message: str
    error_stack: str
    retry_at_ms: int


class RetryDue(msgspec.Struct, frozen=True, gc=False):
    """A delay before another hand-out is over. ``step`` is empty for the body."""

    run: str
    step: str


class RunDue(msgspec.Struct, frozen=True, gc=False):
    """The time a run was to start at has come."""

    run: str


class RunFailed(msgspec.Struct, frozen=True, gc=False):
    """The run is over and failed."""

    run: str
    function: str
    attempt: int
    error_name: str
    error_message: str
    error_stack: str


class RunCancelled(msgspec.Struct, frozen=True, gc=False):
    """The run was ended from outside."""

    run: str
    function: str
    reason: str


class DispatchLost(msgspec.Struct, frozen=True, gc=False):
    """A hand-out was lost with its worker: no attempt is used. Handed out again at ``retry_at_ms`` (0: now)."""

    run: str
    step: str
    dispatch: int
    lost: int
    retry_at_ms: int


class DispatchParked(msgspec.Struct, frozen=True, gc=False):
    """No worker here has the function's code; the hand-out waits for it."""

    run: str
    step: str
    function: str
    dispatch: int


class DispatchUnparked(msgspec.Struct, frozen=True, gc=False):
    """The code has come; the hand-out is made again with a new number."""

    run: str
    step: str
    function: str


class PublishQueued(msgspec.Struct, frozen=True):
    """A record must be produced to ``topic``: after this is durable, at least once. ``number`` counts per lane.

    Either ``event`` is there (an event for the events topic) or key, value and headers are the record.
    """

    number: int
    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    event: Envelope | None


class PublishesSent(msgspec.Struct, frozen=True, gc=False):
    """These queued records are durable in their topics."""

    numbers: tuple[int, ...]


class MessageSent(msgspec.Struct, frozen=True):
    """A message for another lane; ``seq`` runs without holes per (from, to)."""

    to_lane: int
    seq: int
    message: LaneMessage


class MessageTaken(msgspec.Struct, frozen=True, gc=False):
    """The message ``seq`` of ``from_lane`` was taken: what it led to are the facts beside this one."""

    from_lane: int
    seq: int


class MessagesDelivered(msgspec.Struct, frozen=True, gc=False):
    """The messages to ``to_lane`` up to and with ``upto`` are durable in its inbox."""

    to_lane: int
    upto: int


class CatalogueSeen(msgspec.Struct, frozen=True, gc=False):
    """From here on this lane knows the app so. ``spec`` is the AppSpec as JSON; empty: the app is gone."""

    app: str
    spec: bytes
    offset: int


class CronArmed(msgspec.Struct, frozen=True, gc=False):
    """The cron of a function fires next at ``at_ms``."""

    function: str
    cron: str
    at_ms: int


class CronDisarmed(msgspec.Struct, frozen=True, gc=False):
    """The cron of a function fires no more."""

    function: str
    cron: str


class CronTicked(msgspec.Struct, frozen=True, gc=False):
    """A cron fired for the time ``at_ms``; ``missed`` earlier times were passed over; next is ``next_at_ms``."""

    function: str
    cron: str
    at_ms: int
    missed: int
    next_at_ms: int


class EventDeduplicated(msgspec.Struct, frozen=True, gc=False):
    """An event with an id seen before started nothing."""

    internal_id: str
    id: str
    name: str


class FunctionSkipped(msgspec.Struct, frozen=True, gc=False):
    """An event that named a function's trigger did not start it, for a reason worth showing."""

    event: str
    function: str
    reason: str


class CommandRefused(msgspec.Struct, frozen=True, gc=False):
    """A command could not be decided; the lane goes on. ``subject`` names its run, event or record."""

    command: str
    subject: str
    reason: str


class RequestAnswered(msgspec.Struct, frozen=True, gc=False):
    """An api's request was decided; the same request id gets the same ``reply`` (JSON) again.

    ``reply_to`` is the api instance's partition of ``<group>.replies``.
    """

    request: str
    reply_to: int
    reply: bytes


class RequestsDropped(msgspec.Struct, frozen=True, gc=False):
    """Request ids sorting before ``before`` are forgotten; at most ``count`` of them with this fact."""

    before: str
    count: int


class SeenDropped(msgspec.Struct, frozen=True, gc=False):
    """The seen ids of one chunk of a bucket are forgotten; ``last``: the bucket with them."""

    source: str
    clients: bool
    bucket: int
    chunk: int
    last: bool


class SourceOpened(msgspec.Struct, frozen=True, gc=False):
    """A source partition is read from ``offset`` on."""

    topic: str
    partition: int
    offset: int


class SourceGap(msgspec.Struct, frozen=True, gc=False):
    """Records [from_offset, to_offset) of a source were gone before they were read.

    ``to_offset`` below ``from_offset``: the topic was made anew, and is read from there.
    """

    topic: str
    partition: int
    from_offset: int
    to_offset: int


class LaneFenced(msgspec.Struct, frozen=True, gc=False):
    """The first record of a new owner of the lane: later records of other owners are void."""

    worker: str


class LaneReleased(msgspec.Struct, frozen=True, gc=False):
    """The owner lets the lane go in good order; ``out`` is what it still runs. It speaks as ``holder`` from now on."""

    worker: str
    holder: str
    out: tuple[HandOut, ...]


class HolderGone(msgspec.Struct, frozen=True, gc=False):
    """A former owner runs nothing of this lane any more."""

    holder: str


class TopicSeen(msgspec.Struct, frozen=True, gc=False):
    """The number of partitions of a subscribed topic; 0: it was not there, so all it will have are new."""

    topic: str
    partitions: int


class FunctionSubscribed(msgspec.Struct, frozen=True, gc=False):
    """A function subscribes to a topic for the first time. It is never forgotten, so that ``since`` counts once."""

    function: str
    topic: str
    since_ms: int


class ScanStarted(msgspec.Struct, frozen=True, gc=False):
    """A second cursor over [from_offset, upto) of a partition, for one function.

    ``from_offset`` −1: the first offset whose time is at least ``since_ms``. ``cause`` as in RunStarted.
    """

    scan: str
    partition: int
    function: str
    topic: str
    purpose: str
    cause: str
    since_ms: int
    from_offset: int
    upto: int


class ScanAdvanced(msgspec.Struct, frozen=True, gc=False):
    """The scan goes on at ``at``; ``started`` runs began with this fact."""

    scan: str
    partition: int
    at: int
    started: int


class ScanEnded(msgspec.Struct, frozen=True, gc=False):
    """The scan has read its range, or was cancelled. ``started`` runs began with it in all."""

    scan: str
    partition: int
    cancelled: bool
    started: int


Fact = (
    StepCompleted
    | EventAccepted
    | RunStarted
    | RunCompleted
    | StepPlanned
    | DiscoveryAnswered
    | SleepStarted
    | SleepEnded
    | StepAttemptFailed
    | StepFailed
    | BodyAttemptFailed
    | RetryDue
    | RunDue
    | RunFailed
    | RunCancelled
    | DispatchLost
    | DispatchParked
    | DispatchUnparked
    | PublishQueued
    | PublishesSent
    | MessageSent
    | MessageTaken
    | MessagesDelivered
    | CatalogueSeen
    | CronArmed
    | CronDisarmed
    | CronTicked
    | EventDeduplicated
    | FunctionSkipped
    | CommandRefused
    | RequestAnswered
    | RequestsDropped
    | SeenDropped
    | SourceOpened
    | SourceGap
    | LaneFenced
    | LaneReleased
    | HolderGone
    | TopicSeen
    | FunctionSubscribed
    | ScanStarted
    | ScanAdvanced
    | ScanEnded
)


def with_discovery(fact: StepCompleted | StepFailed) -> StepCompleted | StepFailed:
    """The same fact, with which the body is handed out again."""
    return replace(fact, discover=True)


FACTS: tuple[type[Fact], ...] = Fact.__args__
