"""Waits: a step that waits, those who wait at a place, the events kept there, and the lanes that forward them."""

from __future__ import annotations

import msgspec

from millstream.model.event import Envelope
from millstream.model.waits.awaited import Awaited

# --- where the run lives ---


class WaitStarted(msgspec.Struct, frozen=True, gc=False):
    """The run waits, at this step, until ``until_ms`` at the latest."""

    run: str
    step: str
    name: str
    kind: str
    dispatch: int
    until_ms: int
    awaits: Awaited | None


class EventTaken(msgspec.Struct, frozen=True, gc=False):
    """The event of one of a wait's conditions has come. ``data``: as JSON, where the wait goes on for others.

    ``marks`` are the condition's and the event's: no such wait of the run takes it again.
    """

    run: str
    step: str
    index: int
    marks: bytes
    data: bytes


class SignalTaken(msgspec.Struct, frozen=True, gc=False):
    """The signal that a step waits for was sent. Its result, which may be null, is in the StepCompleted beside it."""

    run: str
    step: str


class WaitClosing(msgspec.Struct, frozen=True, gc=False):
    """The time of a wait for events is over: the homes of its places are asked whether one has come."""

    run: str
    step: str


class WaitPostponed(msgspec.Struct, frozen=True, gc=False):
    """Not every lane has looked for the event yet: the homes are asked again at ``until_ms``."""

    run: str
    step: str
    until_ms: int


class WaitOver(msgspec.Struct, frozen=True, gc=False):
    """The home of one of a wait's conditions says that nothing came."""

    run: str
    step: str
    index: int


# --- where a place has its home ---


class WaiterAdded(msgspec.Struct, frozen=True, gc=False):
    """A step waits at a place. Fields as in ``AwaitEvent``.

    ``seek``: the request to the reading lanes that it depends on.
    ``looked_ms``, ``looked_id``: the kept event up to which it has looked; an empty id: through all of them.
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
    looked_ms: int
    looked_id: str


class WaiterLooked(msgspec.Struct, frozen=True, gc=False):
    """A waiter has looked further through the kept events; an empty id: through all of them."""

    place: str
    run: str
    step: str
    index: int
    looked_ms: int
    looked_id: str


class WaiterGone(msgspec.Struct, frozen=True, gc=False):
    """A step waits at a place no more: its event has come, or it was withdrawn."""

    place: str
    run: str
    step: str
    index: int


class EventKept(msgspec.Struct, frozen=True):
    """An event is kept at its places, for waits that come later."""

    event: Envelope
    places: tuple[str, ...]


class MatchingPaused(msgspec.Struct, frozen=True, gc=False):
    """An event meets more waits than one decision looks at: it goes on behind this waiter. Empty: it is through.

    ``behind`` is ``<place>/<index>/<run>/<step>``.
    """

    received_at_ms: int
    internal_id: str
    behind: str


class KeptDropped(msgspec.Struct, frozen=True, gc=False):
    """The oldest kept events are let go of, as many as ``count``; from ``kept_from_ms`` on all are there."""

    count: int
    kept_from_ms: int


class CoverageAsked(msgspec.Struct, frozen=True, gc=False):
    """The reading lanes are asked for events of a name, by a path, back to ``since_ms``."""

    event: str
    path: str
    seek: int
    since_ms: int


class CoverageWanted(msgspec.Struct, frozen=True, gc=False):
    """The next request must look back to ``since_ms``."""

    event: str
    path: str
    since_ms: int


class CoverageAnswered(msgspec.Struct, frozen=True, gc=False):
    """A lane has carried out a request."""

    event: str
    path: str
    lane: int
    seek: int


class CoverageDropped(msgspec.Struct, frozen=True, gc=False):
    """Nobody has waited for events of this name by this path for long."""

    event: str
    path: str


# --- where events are read ---


class InterestSeen(msgspec.Struct, frozen=True, gc=False):
    """Events of this name whose value at the path has its home there are forwarded to it, from here on."""

    event: str
    path: str
    home: int


class InterestDropped(msgspec.Struct, frozen=True, gc=False):
    """They are not any more: the home has said that nobody waits for them."""

    event: str
    path: str
    home: int


class SeekStarted(msgspec.Struct, frozen=True, gc=False):
    """Scans over ``partitions`` partitions look for earlier events, for a home."""

    scan: str
    event: str
    path: str
    home: int
    seek: int
    partitions: int


class SeekPassed(msgspec.Struct, frozen=True, gc=False):
    """One more of the partitions is looked through."""

    scan: str


class EventNoted(msgspec.Struct, frozen=True, gc=False):
    """An event that starts nothing was forwarded to those who wait for it; its id is remembered.

    Fields as in ``EventAccepted``.
    """

    internal_id: str
    id: str
    id_is_clients: bool
    name: str
    received_at_ms: int
    topic: str
    partition: int
    seen: bytes


# --- signals ---


class SignalAwaited(msgspec.Struct, frozen=True, gc=False):
    """A step waits for a signal whose home this lane is."""

    signal: str
    run: str
    step: str


class SignalGone(msgspec.Struct, frozen=True, gc=False):
    """Nobody waits for the signal any more."""

    signal: str


# --- callbacks ---


class CallbackOpened(msgspec.Struct, frozen=True, gc=False):
    """A step has made a callback. ``url`` holds the right to post to it, so nothing that people are shown has it."""

    run: str
    step: str
    url: str
    until_ms: int


class CallbackUsed(msgspec.Struct, frozen=True, gc=False):
    """Somebody has posted to a callback: ``data`` is kept, or the step ``taken_by`` has it."""

    run: str
    step: str
    data: bytes
    taken_by: str
