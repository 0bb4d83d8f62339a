"""What leaves a lane and who owns it: records, messages, answers, fences and hand-overs."""

from __future__ import annotations

import msgspec

from millstream.model.commands import HandOut, LaneMessage
from millstream.model.event import Envelope


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


class Post(msgspec.Struct, frozen=True):
    """No fact: the place in a decision where a message goes to a lane (``core/settle.py``).

    To another lane it becomes a ``MessageSent``; to this lane it is decided behind the decision, in the same record.
    """

    to_lane: int
    message: LaneMessage


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
