"""Rows of gates: who counts, who queues, what is kept at the homes that this lane is (``core/flow``)."""

from __future__ import annotations

import msgspec

from millstream.model.gates.declared import RunFlow
from millstream.model.gates.messages import AdmitStart


class GateRow(msgspec.Struct, frozen=True, gc=False):
    """A gate whose home this lane is, for one value of its key. It goes when it says nothing any more.

    ``held``, ``queued``  how many have passed and count, and how many wait.
    ``turn``      the function of the last that passed: the next is another's, where several wait.
    ``full_us``   a throttle: when all of its burst is free again; Unix microseconds.
    ``timer_ms``  when it is looked at again; 0: nothing is to be done by itself.
    """

    place: str
    held: int = 0
    queued: int = 0
    turn: str = ""
    full_us: int = 0
    timer_ms: int = 0


class AskRow(msgspec.Struct, frozen=True, gc=False):
    """Who has asked at a gate: it waits in the queue, or is counted (``is_held``)."""

    place: str
    run: str
    step: str
    function: str
    number: int
    score_ms: int
    arrival: int
    is_held: bool


class QueueRow(msgspec.Struct, frozen=True, gc=False):
    """A place in a gate's queue; all but the last two are its rank."""

    place: str
    function: str
    score_ms: int
    arrival: int
    run: str
    step: str


class StartsRow(msgspec.Struct, frozen=True, gc=False):
    """The last starts that a gate has counted for one value of its key.

    ``starts``    one entry for each, or for all of one part of the window, in order (``core/flow/counts.py``).
    ``counted``   how many starts that is.
    ``run``       the last of them.
    ``timer_ms``  when entries that are too old are dropped.
    """

    place: str
    function: str
    starts: bytes = b""
    counted: int = 0
    run: str = ""
    timer_ms: int = 0


class SingletonRow(msgspec.Struct, frozen=True):
    """A singleton whose run is open: the event that this one started on, and the start that follows.

    ``is_cancelling``: the run has been told to end.
    """

    place: str
    received_at_ms: int
    internal_id: str
    kept: AdmitStart | None = None
    is_cancelling: bool = False


class KeptStartRow(msgspec.Struct, frozen=True):
    """The start that a debounce keeps until ``due_ms``. ``first_ms``: when the first came."""

    place: str
    start: AdmitStart
    first_ms: int
    due_ms: int


class BatchRow(msgspec.Struct, frozen=True, gc=False):
    """The events that a batch has collected, by their internal ids; ``bytes`` of data. It begins at ``due_ms``."""

    place: str
    function: str
    events: tuple[str, ...]
    bytes: int
    flow: RunFlow | None
    due_ms: int
