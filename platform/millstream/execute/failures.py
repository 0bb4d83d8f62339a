"""Exceptions of user code as data: which failure is recorded, and whether another attempt may help.

Whatever user code raises is caught, ``SystemExit`` and ``KeyboardInterrupt`` too: a function must not end its worker.

The rule: **nothing here raises**, or the report would be missing and the run hang. An exception is user code: its
``__str__``, its notes, even its ``__class__`` may raise. What it says is asked for where that is caught, and made
storable (``model/text/storable.py``); what it is, is looked up by its type alone. Local and child-process executors
share this.
"""

from __future__ import annotations

import traceback
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final

from millstream.errors import (
    BadRequest,
    FunctionError,
    LimitExceeded,
    MillstreamError,
    NonRetriableError,
    RetryAfterError,
    StepError,
    UnserialisableResult,
)
from millstream.execute.local.threads import unescaped
from millstream.model import limits
from millstream.model.operations import BodyErrored, Failure, StepErrored, failure_json
from millstream.model.operations import failure_of as stored
from millstream.model.rows import Hand, StepRow
from millstream.model.text.storable import storable, text_by, type_name
from millstream.sdk.retry import Retry

STEP_TIMEOUT: Final = "StepTimeout"
CANCELLED: Final = "StepCancelled"

_FINAL: Final = (
    NonRetriableError,
    StepError,
    UnserialisableResult,
    FunctionError,
    BadRequest,
    LimitExceeded,
)
_CANCELLED_JSON: Final = failure_json(CANCELLED, "", "").partition(CANCELLED.encode())[0] + CANCELLED.encode()
_OURS: Final = str(Path(__file__).parent)
_PACKAGE: Final = str(Path(__file__).parents[1])
_FRAMES_MAX: Final = 50
_LEAVES_MAX: Final = 1_000


def step_errored(
    step: str, name: str, error: BaseException, started_at_ms: int, now_ms: int, *, retry: Retry | None = None
) -> StepErrored:
    """The operation that reports a step's exception. ``retry``: the step's own; None: its function's counts."""
    shown = _ungrouped(error)
    return StepErrored(
        step, name, failure_of(shown), started_at_ms, _is_retriable(error) and _is_allowed(error, retry),
        _after_ms(shown, now_ms), retry.policy if retry is not None else None,
    )  # fmt: skip


def body_errored(error: BaseException, now_ms: int) -> BodyErrored:
    """The operation that reports a handler's exception."""
    shown = _ungrouped(error)
    is_final = any(issubclass(type(leaf), StepError) for leaf in _leaves(error))  # Every attempt would raise it again.
    return BodyErrored(failure_of(shown), _is_retriable(error), _after_ms(shown, now_ms), is_final)


def timed_out(step: str, name: str, started_at_ms: int, ran_ms: int, retry: Retry | None = None) -> StepErrored:
    """The operation that reports an attempt that took too long: for a Retry, a TimeoutError."""
    message = (
        f"step {step!r} was stopped after {ran_ms / 1_000:g} s: an attempt may take as long as the function's "
        "step_timeout. Raise that, or make the step smaller."
    )
    failure = Failure(STEP_TIMEOUT, message)
    if retry is None:
        return StepErrored(step, name, failure, started_at_ms)
    return StepErrored(step, name, failure, started_at_ms, _is_allowed(TimeoutError(), retry), retry=retry.policy)


def cancelled(step: str, name: str, started_at_ms: int) -> StepErrored:
    """The operation that reports an attempt cancelled by its body: failed for good, since another has no use."""
    message = f"step {step!r} was cancelled by the function's own code, which no longer waits for it."
    return StepErrored(step, name, Failure(CANCELLED, message), started_at_ms, retriable=False, is_final=True)


def is_cancelled(row: StepRow) -> bool:
    """Whether this step was cancelled by its body."""
    return row.hand == Hand.FAILED and row.data.startswith(_CANCELLED_JSON) and stored(row.data).name == CANCELLED


def failure_of(error: BaseException) -> Failure:
    """The exception as name, message and stack, each within its limit and storable."""
    name, stack = type_name(error), ""
    if issubclass(type(error), StepError):  # Of the exception that failed the step: people look for that one.
        name = text_by(lambda error: error.name, error, name)  # type: ignore[attr-defined]
        stack = text_by(lambda error: error.stack, error, "")  # type: ignore[attr-defined]
    else:
        stack = _stack(error)
    message = text_by(str, error, f"(an exception of class {name}, whose text could not be read: its __str__ raises)")
    return Failure(
        storable(name, limits.ERROR_NAME_CHARS_MAX),
        storable(message, limits.ERROR_MESSAGE_CHARS_MAX),
        storable(stack[-limits.ERROR_STACK_CHARS_MAX :], limits.ERROR_STACK_CHARS_MAX),
    )


def _stack(error: BaseException) -> str:
    try:
        frames = _user_frames(error.__traceback__)
        shown = traceback.TracebackException(type(error), error, frames, limit=-_FRAMES_MAX)
        if issubclass(type(error), MillstreamError) and not _leave_out_ours(shown):
            return "".join(shown.format_exception_only())
        return "".join(shown.format())
    except BaseException:  # An exception whose own text raises.
        return f"{_frames(error)}{type_name(error)} (the rest of its traceback could not be written: its text raises)"


def _leave_out_ours(shown: traceback.TracebackException) -> bool:
    """Leave out our own frames: what we raise says itself what is wrong. Whether any of the user's are left."""
    shown.stack[:] = [frame for frame in shown.stack if not frame.filename.startswith(_PACKAGE)]
    cause = shown.__cause__
    if cause is not None and not _leave_out_ours(cause):
        shown.__cause__, shown.__suppress_context__ = None, True
    return bool(shown.stack)


def _frames(error: BaseException) -> str:
    """The frames alone, for which the exception is not asked."""
    try:
        return "".join(traceback.format_tb(_user_frames(error.__traceback__), limit=-_FRAMES_MAX))
    except BaseException:
        return ""


def _user_frames(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is not the executor's."""
    while frames is not None and frames.tb_next is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
        frames = frames.tb_next
    return frames


def _leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group and the groups in it, however deep; of no group, the one."""
    if not issubclass(type(error), BaseExceptionGroup):
        return [unescaped(error)]
    leaves: list[BaseException] = []
    todo: list[BaseException] = [error]
    while todo and len(leaves) < _LEAVES_MAX:
        one = todo.pop()
        if issubclass(type(one), BaseExceptionGroup):
            todo += reversed(BaseExceptionGroup.exceptions.__get__(one))
        else:
            leaves.append(unescaped(one))
    return leaves


def _ungrouped(error: BaseException) -> BaseException:
    """The exception to show: of a group of one (a TaskGroup's), the one in it."""
    leaves = _leaves(error)
    return leaves[0] if len(leaves) == 1 else error


def _is_retriable(error: BaseException) -> bool:
    """Whether another attempt may succeed. A StepError would be raised again by every attempt: its step has ended."""
    return not any(issubclass(type(leaf), _FINAL) for leaf in _leaves(error))


def _is_allowed(error: BaseException, retry: Retry | None) -> bool:
    """Whether the step's own Retry lets it be tried again; a group, by its own class or by all exceptions in it."""
    if retry is None:
        return True
    kinds = [type(leaf) for leaf in _leaves(error)]
    own = type(unescaped(error))
    if any(retry.excludes(kind) for kind in (own, *kinds)):
        return False
    return retry.includes(own) or all(retry.includes(kind) or issubclass(kind, RetryAfterError) for kind in kinds)


def _after_ms(error: BaseException, now_ms: int) -> int:
    """When the exception wants the next attempt; −1: it does not say, or not so that it can be understood."""
    if not issubclass(type(error), RetryAfterError):
        return -1
    try:
        after = error.after  # type: ignore[attr-defined]
        if isinstance(after, datetime):
            if after.tzinfo is None:
                after = after.astimezone()  # What a naive time means everywhere else in Python: this machine's zone.
            ms = after.timestamp() * 1_000 - now_ms
        elif isinstance(after, timedelta):
            ms = after / timedelta(milliseconds=1)
        else:
            ms = float(after) * 1_000
        return int(min(max(ms, 0), limits.RETRY_AFTER_MS_MAX))
    except BaseException:  # A class of the user's, which sets it as it likes, or a year that no clock has.
        return -1
