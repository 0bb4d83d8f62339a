"""What happens at gates: who asks, who queues, who passes, who leaves."""

from __future__ import annotations

import msgspec

from millstream.model.gates.declared import RunFlow
from millstream.model.gates.messages import AdmitStart


class GateAsked(msgspec.Struct, frozen=True, gc=False):
    """A run's body (``step`` empty) or step asks at its next gate. ``number`` 0: one that the run passes once."""

    run: str
    step: str
    place: str
    number: int


class GatePassed(msgspec.Struct, frozen=True, gc=False):
    """The gate that it has asked lets it pass.

    ``is_last``   it is the last one: the body or step is handed out.
    ``is_start``  it is a body that was not handed out before: the run begins.
    """

    run: str
    step: str
    place: str
    number: int
    is_last: bool
    is_start: bool


class SlotReturned(msgspec.Struct, frozen=True, gc=False):
    """A body or step executes no more: what counted it is told."""

    run: str
    step: str


class GateQueued(msgspec.Struct, frozen=True, gc=False):
    """At the gate's home: there is no room, it waits. ``timer_ms``: when to look again; 0: when somebody leaves."""

    place: str
    function: str
    run: str
    step: str
    number: int
    score_ms: int
    timer_ms: int


class GateOpened(msgspec.Struct, frozen=True, gc=False):
    """At the gate's home: it passes, out of the queue or at once.

    ``is_held``   it counts until it leaves.
    ``full_us``   a throttle: when all of its burst is free again; Unix microseconds.
    ``timer_ms``  when to look again; 0: when somebody leaves.
    """

    place: str
    function: str
    run: str
    step: str
    number: int
    is_held: bool
    full_us: int
    timer_ms: int


class GateLeft(msgspec.Struct, frozen=True, gc=False):
    """At the gate's home: it counts no more, or waits no more."""

    place: str
    run: str
    step: str


class GateTimed(msgspec.Struct, frozen=True, gc=False):
    """At the gate's home: it was looked at; next at ``at_ms``, 0: when somebody asks. ``full_us`` of a throttle: when
    all its places are free, by the rule as it is now; 0: as before."""

    place: str
    at_ms: int
    full_us: int = 0


class SweepArmed(msgspec.Struct, frozen=True, gc=False):
    """Limits are others: the gates behind this place are looked at once more."""

    after: str


class SweepTaken(msgspec.Struct, frozen=True, gc=False):
    """The gates behind this place are looked at; ``at_ms``: the timer that said so."""

    at_ms: int
    after: str


class StartCounted(msgspec.Struct, frozen=True, gc=False):
    """At the home of a gate that counts starts: one more.

    ``at_ms``      when it was; of one that is counted with others of its part of the window, the end of that.
    ``is_alone``   whether it is remembered on its own, so that the same start is known where it comes again.
    ``forgotten``  so many of the oldest entries are too old to count.
    ``timer_ms``   when the gate is looked at.
    """

    place: str
    function: str
    run: str
    at_ms: int
    is_alone: bool
    forgotten: int
    timer_ms: int


class StartsForgotten(msgspec.Struct, frozen=True, gc=False):
    """At the home of a gate that counts starts: so many of the oldest entries are too old to count.

    ``timer_ms``: when it is looked at next; 0: nothing is left.
    """

    place: str
    entries: int
    timer_ms: int


class SingletonHeld(msgspec.Struct, frozen=True, gc=False):
    """At the home of a singleton: a run on this event is the open one. Nothing is kept."""

    place: str
    received_at_ms: int
    internal_id: str


class SingletonKept(msgspec.Struct, frozen=True):
    """At the home of a singleton: this start follows when the open run is over; one that was kept before does not.

    ``is_cancelling``: the open run has been told to end.
    """

    place: str
    start: AdmitStart
    is_cancelling: bool


class SingletonFreed(msgspec.Struct, frozen=True, gc=False):
    """At the home of a singleton: no run is open, and nothing is kept."""

    place: str


class StartKept(msgspec.Struct, frozen=True):
    """A start is kept until ``due_ms``; it takes the place of the one before. ``first_ms``: when the first came."""

    place: str
    start: AdmitStart
    first_ms: int
    due_ms: int


class StartReleased(msgspec.Struct, frozen=True, gc=False):
    """The start that was kept goes on."""

    place: str


class BatchAdded(msgspec.Struct, frozen=True, gc=False):
    """A batch has one event more, of ``size`` bytes. ``flow`` and ``due_ms``, when it begins, are its first event's."""

    place: str
    function: str
    event: str
    size: int
    flow: RunFlow | None
    due_ms: int


class BatchOver(msgspec.Struct, frozen=True, gc=False):
    """The run of a batch has begun, and holds its events."""

    place: str
