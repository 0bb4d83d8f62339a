"""What happens at gates: who asks, who queues, who passes, who leaves."""

from __future__ import annotations

import msgspec


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
    """At the gate's home: it was looked at; next at ``at_ms``, 0: when somebody asks."""

    place: str
    at_ms: int


class SweepArmed(msgspec.Struct, frozen=True, gc=False):
    """Limits are others: the gates behind this place are looked at once more."""

    after: str


class SweepTaken(msgspec.Struct, frozen=True, gc=False):
    """The gates behind this place are looked at; ``at_ms``: the timer that said so."""

    at_ms: int
    after: str
