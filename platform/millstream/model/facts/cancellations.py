"""Cancellations: many runs of a function ended by one request, page by page on every lane."""

from __future__ import annotations

import msgspec


class CancellationStarted(msgspec.Struct, frozen=True, gc=False):
    """This lane looks through its open runs: those that were queued in [``from_ms``, ``before_ms``) and fit end."""

    cancellation: str
    lane: int
    function: str
    from_ms: int
    before_ms: int
    expression: str
    reason: str


class CancellationAdvanced(msgspec.Struct, frozen=True, gc=False):
    """It has looked at ``looked`` runs more, up to the run ``behind``, and ends ``cancelled`` of them with this."""

    cancellation: str
    lane: int
    behind: str
    looked: int
    cancelled: int


class CancellationEnded(msgspec.Struct, frozen=True, gc=False):
    """It has looked at every run, or was stopped. What it has looked at and cancelled here in all."""

    cancellation: str
    lane: int
    is_stopped: bool
    looked: int
    cancelled: int
