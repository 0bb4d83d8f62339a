"""Where a lane reads: sources, topics, subscriptions and scans."""

from __future__ import annotations

import msgspec


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


class ScanBounded(msgspec.Struct, frozen=True, gc=False):
    """Where a scan ends whose end was left to its reader."""

    scan: str
    partition: int
    upto: int
