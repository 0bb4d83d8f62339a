"""What comes in: events and what they start, apps with their crons, ids that are forgotten, refused commands."""

from __future__ import annotations

import msgspec


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


class CatalogueSeen(msgspec.Struct, frozen=True, gc=False):
    """From here on this lane knows the app so. ``spec`` is the AppSpec as JSON; empty: the app is gone."""

    app: str
    spec: bytes
    offset: int


class LimitsSeen(msgspec.Struct, frozen=True, gc=False):
    """From here on an operator's numbers count for the gates of a function. ``overrides`` are JSON, all there are."""

    function: str
    overrides: bytes
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


class SeenDropped(msgspec.Struct, frozen=True, gc=False):
    """The seen ids of one chunk of a bucket are forgotten; ``last``: the bucket with them."""

    source: str
    clients: bool
    bucket: int
    chunk: int
    last: bool
