"""What happens to a run and its body, and to dispatches that no executor answers."""

from __future__ import annotations

import msgspec

from millstream.model.gates.declared import RunFlow


class RunStarted(msgspec.Struct, frozen=True, gc=False):
    """A run exists. It is handed out at once, or at ``start_at_ms`` where that is not 0; both behind its gates."""

    run: str
    function: str
    events: tuple[str, ...]
    cause: str
    start_at_ms: int
    flow: RunFlow | None = None


class RunBounded(msgspec.Struct, frozen=True, gc=False):
    """What bounds a run: the places of the events that cancel it (empty: none can), and its times; 0: it has none."""

    run: str
    places: tuple[str, ...]
    start_ms: int
    finish_ms: int


class StartPassed(msgspec.Struct, frozen=True, gc=False):
    """The run had begun by the time it must have."""

    run: str


class RunDue(msgspec.Struct, frozen=True, gc=False):
    """The time a run was to start at has come."""

    run: str


class RunCompleted(msgspec.Struct, frozen=True, gc=False):
    """The handler returned; the run is over."""

    run: str
    function: str
    dispatch: int
    result: bytes


class RunFailed(msgspec.Struct, frozen=True, gc=False):
    """The run is over and failed. ``no_retry``: its code said that another attempt has no use."""

    run: str
    function: str
    attempt: int
    error_name: str
    error_message: str
    error_stack: str
    error_more: bytes = b""
    no_retry: bool = False


class RunCancelled(msgspec.Struct, frozen=True, gc=False):
    """The run was ended from outside."""

    run: str
    function: str
    reason: str


class DiscoveryAnswered(msgspec.Struct, frozen=True, gc=False):
    """The body was handed out and found nothing new."""

    run: str
    dispatch: int
    discover: bool


class JointFound(msgspec.Struct, frozen=True, gc=False):
    """From here on the body goes on only once every step that it has found is resolved; or, not so, after each."""

    run: str
    is_joint: bool


class BodyAttemptFailed(msgspec.Struct, frozen=True, gc=False):
    """The handler raised outside a step; it is handed out again at ``retry_at_ms``."""

    run: str
    attempt: int
    dispatch: int
    error_name: str
    error_message: str
    error_stack: str
    retry_at_ms: int
    error_more: bytes = b""


class BodyHeld(msgspec.Struct, frozen=True, gc=False):
    """The handler has failed for good, and its function holds such runs: it waits for an operator."""

    run: str
    attempt: int
    dispatch: int
    error_name: str
    error_message: str
    error_stack: str
    error_more: bytes = b""


class HeldResumed(msgspec.Struct, frozen=True, gc=False):
    """An operator lets what is held be tried again, with a fresh set of attempts. ``step`` is empty for the body."""

    run: str
    step: str


class RetryDue(msgspec.Struct, frozen=True, gc=False):
    """A delay before another hand-out is over. ``step`` is empty for the body."""

    run: str
    step: str


class DispatchLost(msgspec.Struct, frozen=True, gc=False):
    """A hand-out was lost with its worker: no attempt is used. Handed out again at ``retry_at_ms`` (0: now)."""

    run: str
    step: str
    dispatch: int
    lost: int
    retry_at_ms: int


class DispatchParked(msgspec.Struct, frozen=True, gc=False):
    """No worker here has the function's code, or it has changed (``reason``); the hand-out waits for the code.

    ``given_back``: its worker stopped in good order, and the next one takes it up.
    """

    run: str
    step: str
    function: str
    dispatch: int
    reason: str = ""
    given_back: bool = False


class DispatchUnparked(msgspec.Struct, frozen=True, gc=False):
    """The code has come; the hand-out is made again with a new number."""

    run: str
    step: str
    function: str
