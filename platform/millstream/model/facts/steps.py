"""What happens to a step: found, tried, asleep, done or failed.

``error_more``  what an error has beside name, message and stack (``model/error_object.py``); empty: nothing.
"""

from __future__ import annotations

import msgspec


class StepCompleted(msgspec.Struct, frozen=True, gc=False):
    """A step's result is known and never changes again. ``dispatch`` is the hand-out that reported it."""

    run: str
    step: str
    name: str
    kind: str
    attempt: int
    dispatch: int
    data: bytes
    started_at_ms: int
    discover: bool


class StepPlanned(msgspec.Struct, frozen=True, gc=False):
    """A step was found beside others; it is handed out on its own."""

    run: str
    step: str
    name: str
    dispatch: int


class GatewayPlanned(msgspec.Struct, frozen=True, gc=False):
    """A step was found whose HTTP request the executor makes; it is handed out on its own."""

    run: str
    step: str
    name: str
    kind: str
    dispatch: int
    request: bytes


class SleepStarted(msgspec.Struct, frozen=True, gc=False):
    """The run sleeps (at this step) until ``wake_at_ms``."""

    run: str
    step: str
    name: str
    dispatch: int
    wake_at_ms: int


class SleepEnded(msgspec.Struct, frozen=True, gc=False):
    """The sleep is over."""

    run: str
    step: str
    discover: bool


class StepAttemptFailed(msgspec.Struct, frozen=True, gc=False):
    """An attempt of a step failed; the next one starts at ``retry_at_ms``."""

    run: str
    step: str
    name: str
    attempt: int
    dispatch: int
    error_name: str
    error_message: str
    error_stack: str
    started_at_ms: int
    retry_at_ms: int
    error_more: bytes = b""


class StepHeld(msgspec.Struct, frozen=True, gc=False):
    """A step failed for good, and its function holds such runs: it waits for an operator, and the body is not told."""

    run: str
    step: str
    name: str
    kind: str
    attempt: int
    dispatch: int
    error_name: str
    error_message: str
    error_stack: str
    started_at_ms: int
    error_more: bytes = b""


class StepFailed(msgspec.Struct, frozen=True, gc=False):
    """A step failed for good; the body sees a StepError."""

    run: str
    step: str
    name: str
    kind: str
    attempt: int
    dispatch: int
    error_name: str
    error_message: str
    error_stack: str
    started_at_ms: int
    discover: bool
    error_more: bytes = b""
