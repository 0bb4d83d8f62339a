"""Every error millstream raises on purpose, in one tree, by who can fix it.

    MillstreamError
    ├── OperatorError        fix the machine, the settings or the topics
    │   ├── ConfigError          a setting or flag is wrong
    │   ├── LogUnavailable       the log cannot take or give records now; try again later
    │   │   ├── DiskFull             ... because the disk has no room
    │   │   └── BrokersUnreachable   ... because no Kafka broker answers
    │   ├── AcknowledgedLost     something acknowledged is missing: refused until the operator accepts it
    │   ├── LogLocked            another process writes this data directory
    │   ├── Corruption           stored bytes are not what was written: the lane stops
    │   └── StoreFailed          a lane's local store, which is a cache
    │       ├── StoreUnavailable     ... cannot be read or written now; it goes on by itself
    │       └── StoreDamaged         ... is not what was written: it is moved aside and built anew
    ├── CallerError          fix the request
    │   ├── BadRequest           the payload is malformed
    │   ├── SchemaViolation      the payload does not fit its Avro schema
    │   ├── LimitExceeded        something is larger or more than a limit allows
    │   ├── NotFound             no such run, event, function
    │   ├── Gone                 it was there, and takes nothing more
    │   ├── NotAllowed           wrong or missing key
    │   ├── Forbidden            a web page may not do this
    │   ├── Misdirected          the server is not known by the name that was asked
    │   ├── Conflict             what is asked for does not fit how the thing stands now
    │   │   └── NotStarted       flow control lets no run of the function start
    │   ├── RunNotOver           a run has not ended in the time that it was waited for
    │   ├── Busy                 a bounded queue is full: try again after a while
    │   └── TooMany              a quota is used up: try again after a while
    ├── UserCodeError        fix the function
    │   ├── FunctionError        a function or app is declared wrongly
    │   ├── NonRetriableError    raised by user code: no more attempts
    │   ├── RetryAfterError      raised by user code: the next attempt not before then
    │   ├── StepError            a step used up its attempts; may be caught in the body
    │   ├── RunError             a run that was waited for from outside has failed, or was cancelled
    │   ├── StepsChanged         replayed code does not match the recorded steps
    │   └── UnserialisableResult a result is not JSON
    └── InternalError        ours to fix: please report it

Every message says what happened, what was expected, what was got and what to do.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final


class MillstreamError(Exception):
    """The root of the tree; never raised itself."""


# --- the operator's ---------------------------------------------------------------------------


class OperatorError(MillstreamError):
    """Something around millstream is wrong: the machine, the settings, the topics."""


class ConfigError(OperatorError):
    """A setting or a flag is wrong. Nothing was started."""


class LogUnavailable(OperatorError):
    """The log cannot take or give records now. Nothing was lost; the same call may succeed later."""


class DiskFull(LogUnavailable):
    """The disk has no room. Appends are refused until there is some; nothing stored is lost."""


class BrokersUnreachable(LogUnavailable):
    """No Kafka broker answers. The message says where it was looked for."""


class AcknowledgedLost(OperatorError):
    """Something that was acknowledged is not there any more. Nothing was started; ``--accept-loss`` goes on."""


class LogLocked(OperatorError):
    """Another process writes this data directory. Readers may follow; a second writer may not."""


class OffsetOutOfRange(OperatorError):
    """A reader asked for an offset that was trimmed away or that does not exist yet.

    ``start`` and ``end`` are the first offset still there and the one that the next record will get.
    """

    def __init__(self, message: str, *, start: int, end: int) -> None:
        super().__init__(message)
        self.start = start
        self.end = end


class Corruption(OperatorError):
    """Stored bytes are not what was written. The lane stops rather than guess."""


class StoreFailed(OperatorError):
    """A lane's local store could not do what it was asked. It is a cache: nothing is lost."""


class StoreUnavailable(StoreFailed):
    """A lane's local store cannot be read or written now: no room, no descriptors, no permission.

    The lane takes nothing in until that passes; the same call succeeds then.
    """


class StoreDamaged(StoreFailed):
    """A lane's local store is not what was written. It is moved aside and built anew from the topics."""


# --- the caller's -----------------------------------------------------------------------------


class CallerError(MillstreamError):
    """The request is wrong; the same request will fail again."""


class BadRequest(CallerError):
    """The payload is malformed."""


class SchemaViolation(CallerError):
    """The payload does not fit the Avro schema of its name."""


class LimitExceeded(CallerError):
    """Something is larger, longer or more than a documented limit allows."""


class NotFound(CallerError):
    """There is no such run, event, function or app."""


class Gone(CallerError):
    """What the request names was there once, and takes nothing more."""


class NotAllowed(CallerError):
    """The key is missing or wrong."""


class Forbidden(CallerError):
    """The request may be a web page's, which may not do this."""


class Misdirected(CallerError):
    """The request was sent to a name that is not the server's."""


class Conflict(CallerError):
    """What was asked for does not fit how the thing stands now. Nothing was changed."""


class NotStarted(Conflict):
    """A function's flow control has let no run start; the message says which option, and why."""


class RunNotOver(CallerError, TimeoutError):
    """A run has not ended in the time that it was waited for. It goes on."""


class Busy(CallerError):
    """A bounded queue is full. ``retry_after_s`` seconds later there is probably room."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooMany(Busy):
    """A quota is used up. ``retry_after_s`` seconds later there is some again."""


# --- user code's ------------------------------------------------------------------------------


class UserCodeError(MillstreamError):
    """A function is wrong or chose to fail."""


class FunctionError(UserCodeError):
    """A function or an app is declared wrongly."""


class NonRetriableError(UserCodeError):
    """Raise it in a step or a body when trying again cannot help: no more attempts are made."""


class RetryAfterError(UserCodeError):
    """Raise it in a step or a body to choose when the next attempt starts.

    ``after`` is seconds, a timedelta or a datetime, or what the HTTP header Retry-After holds (``"120"``, a date), or
    text such as ``"5m"``; what is asked for is kept within 1 s … 24 h. None: the usual delay.

    Raises FunctionError on anything else.
    """

    def __init__(self, message: str, after: float | timedelta | datetime | str | None) -> None:
        super().__init__(message)
        self.after = _after(after)


_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_LENGTH: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ms|s|m|h|d|)", re.ASCII)


def _after(after: object) -> float | timedelta | datetime | None:
    """What RetryAfterError was given, as a length or a time."""
    if after is None or isinstance(after, timedelta | datetime):
        return after
    if isinstance(after, str):
        length = _LENGTH.fullmatch(after.strip())
        if length is not None:
            return float(length[1]) * _SECONDS[length[2]]
        try:
            return parsedate_to_datetime(after)
        except (ValueError, TypeError, IndexError, OverflowError):
            pass  # No date: refused below.
    elif isinstance(after, int | float) and not isinstance(after, bool) and abs(after) < float("inf"):
        return min(max(after, -1.0), 1e9)
    raise FunctionError(
        "RetryAfterError refused: after must be seconds, a timedelta, a datetime, text such as '120' or '5m', an HTTP "
        f"date, or None for the usual delay; got {type(after).__name__}"
        f"{f' {ascii(after)[:80]}' if isinstance(after, str | int | float) else ''}."
    )


class StepError(UserCodeError):
    """A step has used up its attempts (or failed for good). Catch it in the body to compensate.

    ``name`` is the name of the last exception, ``stack`` its traceback as text, ``step`` the step's id.
    """

    def __init__(self, message: str, *, name: str = "StepError", stack: str = "", step: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.stack = stack
        self.step = step


INVOKE_TIMEOUT = "InngestInvokeTimeoutError"
"""The name under which an invocation that was not over in time is recorded."""


class InvokeTimeout(StepError):
    """A run that a step has started was not over in time. It goes on."""


def step_error(name: str, message: str, stack: str, step: str) -> StepError:
    """The error that the body sees where a step has failed for good."""
    kind = InvokeTimeout if name == INVOKE_TIMEOUT else StepError
    return kind(message, name=name, stack=stack, step=step)


class RunError(UserCodeError):
    """A run whose result was waited for has none: it failed, or was cancelled.

    ``run`` is its id, ``status`` Failed or Cancelled; ``name`` is the name of its error, ``stack`` the traceback.
    """

    def __init__(self, message: str, *, run: str, status: str, name: str = "", stack: str = "") -> None:
        super().__init__(message)
        self.run = run
        self.status = status
        self.name = name
        self.stack = stack


class StepsChanged(UserCodeError):
    """A function asks for other steps in a replay than are recorded. The message names the step.

    On a server such a run is parked under this name until its code fits again; ``TestApp`` raises it.
    """


class UnserialisableResult(UserCodeError):
    """A result is not JSON. The message names the path of the bad field."""


# --- ours -------------------------------------------------------------------------------------


class InternalError(MillstreamError):
    """A bug of millstream. Please report it with the message."""
