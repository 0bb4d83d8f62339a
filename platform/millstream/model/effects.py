"""Effects: what should follow a fact, carried out only once its record is durable.

They may be lost: the state still owes them (``core/owed.py``), so they are values that can be derived again.
"""

from __future__ import annotations

import msgspec


class Execute(msgspec.Struct, frozen=True, gc=False):
    """Hand the body (``step`` empty) or one step of a run to an executor, under this dispatch number."""

    run: str
    function: str
    step: str
    attempt: int
    dispatch: int


class Abandon(msgspec.Struct, frozen=True, gc=False):
    """The run is over: stop what still executes for it. Its late reports will be ignored anyway."""

    run: str


class Arm(msgspec.Struct, frozen=True, gc=False):
    """Wake the lane at ``at_ms`` with this timer."""

    at_ms: int
    kind: str
    id: str
    step: str


class Disarm(msgspec.Struct, frozen=True, gc=False):
    """This timer is no longer wanted."""

    at_ms: int
    kind: str
    id: str
    step: str


class Deliver(msgspec.Struct, frozen=True, gc=False):
    """Produce this message of the outbox to the other lane's inbox."""

    to_lane: int
    seq: int


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Produce this record of the publish queue to its topic."""

    number: int


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Tell the api instance ``reply_to`` what became of its request."""

    request: str
    reply_to: int
    reply: bytes


class CodeWanted(msgspec.Struct, frozen=True, gc=False):
    """A parked hand-out waits for a worker that has the function's code."""

    run: str
    function: str
    step: str
    dispatch: int


class Scan(msgspec.Struct, frozen=True, gc=False):
    """Read on with a scan, from ``at`` (−1: find the offset of its time first)."""

    scan: str
    partition: int
    at: int


Effect = Execute | Abandon | Arm | Disarm | Deliver | Publish | Answer | CodeWanted | Scan
