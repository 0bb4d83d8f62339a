"""Flow control of a function: who may start, who must queue, who is dropped; as it is registered.

    rate_limit, idempotency, debounce, batch, singleton    whether an event starts a run at all, and with which others
    throttle, ordered_by, concurrency                      when a run that exists may go on

Every key is CEL over ``event``; without one all runs of the function share one limit. Lengths are milliseconds.
"""

from __future__ import annotations

from typing import Final

import msgspec

SCOPES: Final = ("fn", "env", "account")
PER: Final = ("step", "run")
SINGLETON_MODES: Final = ("skip", "cancel", "latest")


class ConcurrencyRule(msgspec.Struct, frozen=True, gc=False):
    """At most ``limit`` at once of those with one key.

    ``scope``  ``fn``: of this function; ``env``, ``account``: of all functions whose rule has the same key's value.
    ``per``    ``step``: what executes now is counted; ``run``: open runs are, from start to end.
    """

    limit: int
    key: str = ""
    scope: str = "fn"
    per: str = "step"


class ThrottleRule(msgspec.Struct, frozen=True, gc=False):
    """``limit`` starts a ``period_ms``, evenly spread, ``burst`` of them at once; others queue."""

    limit: int
    period_ms: int
    burst: int = 1
    key: str = ""


class RateLimitRule(msgspec.Struct, frozen=True, gc=False):
    """At most ``limit`` starts in any window of ``period_ms``; others are skipped."""

    limit: int
    period_ms: int
    key: str = ""


class DebounceRule(msgspec.Struct, frozen=True, gc=False):
    """The last of several events starts a run, ``period_ms`` after it, ``timeout_ms`` after the first; 0: no bound."""

    period_ms: int
    key: str = ""
    timeout_ms: int = 0


class BatchRule(msgspec.Struct, frozen=True, gc=False):
    """Up to ``max_size`` events start one run, ``timeout_ms`` after the first; one whose ``expression`` does not hold
    starts alone."""

    max_size: int
    timeout_ms: int
    key: str = ""
    expression: str = ""


class SingletonRule(msgspec.Struct, frozen=True, gc=False):
    """One open run; what becomes of an event that comes meanwhile says ``mode``.

    ``skip``    it starts nothing.
    ``cancel``  the run is cancelled, and the newest event starts one when it is over.
    ``latest``  the newest event starts one when the run is over.
    """

    mode: str
    key: str = ""


class FlowSpec(msgspec.Struct, frozen=True):
    """All flow control of a function. ``priority``, ``idempotency`` and ``ordered_by`` are CEL over ``event``."""

    concurrency: tuple[ConcurrencyRule, ...] = ()
    throttle: ThrottleRule | None = None
    rate_limit: RateLimitRule | None = None
    debounce: DebounceRule | None = None
    batch: BatchRule | None = None
    singleton: SingletonRule | None = None
    priority: str = ""
    idempotency: str = ""
    ordered_by: str = ""


# --- what a run knows of its gates ------------------------------------------------------------------


class Slot(msgspec.Struct, frozen=True, gc=False):
    """How far a body or step has come on its way through the gates at which executing is counted.

    ``number``  the hand-out number under which it asks, the same at all of them.
    ``asked``, ``passed``  how many of ``RunFlow.slots`` it has asked and passed; it waits at one where they differ.
    """

    number: int
    asked: int = 0
    passed: int = 0


class RunFlow(msgspec.Struct, frozen=True, gc=False):
    """The gates of a run, by their places (``core/flow/places.py``), in the order in which it passes them.

    ``gates``  those it passes once, before it begins.
    ``slots``  those its body and each of its steps pass every time they are handed out.
    ``held``   those that count it as open without being asked by it; they are told its end.
    ``score_ms``  its rank in every queue: the lowest first.
    ``asked``, ``passed``  how many of ``gates`` it has asked and passed.
    ``slot``   where the body is on its way through ``slots``; None: it asks for none, and holds none.
    """

    gates: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    score_ms: int = 0
    asked: int = 0
    passed: int = 0
    slot: Slot | None = None
