"""What people ask of runs: that they end, or that what is held of them is tried again or fails."""

from __future__ import annotations

import msgspec


class CancelRun(msgspec.Struct, frozen=True, gc=False):
    """End a run from outside. ``request`` empty: no api waits for an answer."""

    run: str
    reason: str
    request: str = ""
    reply_to: int = -1


class CancelRuns(msgspec.Struct, frozen=True, gc=False):
    """End the open runs of a function that were queued in [``from_ms``, ``before_ms``), on every lane.

    ``expression``  CEL over ``event``; empty: whatever the event.
    ``request``     the cancellation's home tells the others; empty: this is what it tells them.
    """

    cancellation: str
    function: str
    from_ms: int
    before_ms: int
    expression: str
    reason: str
    request: str = ""
    reply_to: int = -1


class StopCancelling(msgspec.Struct, frozen=True, gc=False):
    """End a cancellation where it is; what it has cancelled stays so. ``request`` as in ``CancelRuns``."""

    cancellation: str
    request: str = ""
    reply_to: int = -1


class ResumeRun(msgspec.Struct, frozen=True, gc=False):
    """Try again what is held of a run, with a fresh set of attempts."""

    run: str
    request: str = ""
    reply_to: int = -1


class FailRun(msgspec.Struct, frozen=True, gc=False):
    """Let what is held of a run fail, as it would have without being held."""

    run: str
    request: str = ""
    reply_to: int = -1
