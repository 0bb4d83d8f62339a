"""``Op``: one step as a living body asked for it; and ``attempt``, one call of the user's function.

    FOUND ──> INLINE ──────────────┐   run at once, under the body's dispatch
      └─────> REPORTED ──> RUNNING ┤   recorded, then handed out under a dispatch of its own
                 ^─────────────────┴──> gone: the body has the result

All transitions are in ``open_steps.py``.

An op is driven by its own coroutine, inside the task that asked for it: it waits on ``wait`` for one signal after
another, ``GO`` (run an attempt) or a StepRow (the end). So no step costs a task.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from millstream.errors import LimitExceeded
from millstream.execute import failures
from millstream.execute.local.threads import Threads, is_thrown_away
from millstream.model import limits
from millstream.model.operations import Operation, StepDone, StepErrored
from millstream.model.rows import StepRow
from millstream.sdk.current import CURRENT, Current
from millstream.sdk.payloads import Reader, encode, read
from millstream.sdk.retry import Retry

_COROUTINE: Final = inspect.CO_COROUTINE


class State(enum.Enum):
    """How far an op is; see ``open_steps.py``."""

    FOUND = "found"
    INLINE = "inline"
    REPORTED = "reported"
    RUNNING = "running"


FOUND, INLINE, REPORTED, RUNNING = State.FOUND, State.INLINE, State.REPORTED, State.RUNNING


class Go(enum.Enum):
    """The signal to run an attempt."""

    GO = "go"


GO: Final = Go.GO
Signal = Go | StepRow


class Op(msgspec.Struct, eq=False):
    """A step that a body asked for and has no result of yet.

    ``task``           the task that asked for it, which its attempts run in.
    ``operation``      what is reported when it is found; None: StepFound, since it carries code (``call``).
    ``retry``          how it is tried again; None: as its function says.
    ``reader``         what its result is read with, where its function says what it returns.
    ``wait``           what its coroutine waits on; None while an attempt runs, and when the body no longer waits
                       (its branch was cancelled).
    ``started_at_ms``  −1: the attempt has not begun.
    ``stopped_at_ms``  when the attempt was cancelled for taking too long; 0: it was not.
    ``given_up``       it did not stop and was reported as timed out: report nothing more.
    ``ended``          how the attempt ended, while it awaits its number (``OpenSteps.run_apart``).
    ``muted``          the run is over: report nothing.
    """

    step: str
    name: str
    kind: str
    task: asyncio.Task[object]
    operation: Operation | None = None
    call: Callable[..., object] | None = None
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = {}
    retry: Retry | None = None
    reader: Reader | None = None
    state: State = FOUND
    wait: asyncio.Future[Signal] | None = None
    attempt: int = 0
    dispatch: int = 0
    started_at_ms: int = -1
    stopped_at_ms: int = 0
    given_up: bool = False
    ended: Operation | None = None
    muted: bool = False


async def attempt(op: Op, run: str, threads: Threads, now_ms: Callable[[], int]) -> StepDone | StepErrored:
    """Call the user's function once. Raises CancelledError only where the body (or we) cancelled its task."""
    call = op.call
    assert call is not None, "only steps that run code are handed out"
    CURRENT.set(Current(run, op.step, op.attempt))
    try:
        code = getattr(call, "__code__", None)
        if code is not None and code.co_flags & _COROUTINE:  # The common case, recognised without a call.
            result = await (call(*op.args, **op.kwargs) if op.kwargs else call(*op.args))  # type: ignore[misc]
        else:
            if is_async(call):
                result = call(*op.args, **op.kwargs)
            else:
                result = await threads.run(functools.partial(call, *op.args, **op.kwargs))
            if inspect.isawaitable(result):  # Also of a plain function: ``lambda: charge(order)``.
                result = await result
        if op.stopped_at_ms:
            return _stopped(op)  # It finished in spite of its cancellation; the attempt was over by then.
        data = encode(result, "the result of step", op.step)
        if len(data) > limits.STEP_OUTPUT_BYTES_MAX:
            raise LimitExceeded(
                f"the result of step {op.step!r} was refused: at most {limits.STEP_OUTPUT_BYTES_MAX} bytes, "
                f"got {len(data)}. Store it elsewhere and return a reference."
            )
        if op.reader is not None:  # Here a misfit fails the step; behind it, it would fail the run.
            read(data, op.reader, "the result of step", op.step)
        return StepDone(op.step, op.name, data, op.started_at_ms)
    except asyncio.CancelledError as error:
        if op.stopped_at_ms:
            return _stopped(op)
        if op.task.cancelling() or op.muted:
            raise
        # This task was not cancelled: the function awaited something that was.
        return failures.step_errored(op.step, op.name, error, op.started_at_ms, now_ms(), retry=op.retry)
    except BaseException as error:
        if type(error) is GeneratorExit and is_thrown_away(op.task):
            raise
        if op.stopped_at_ms:
            return _stopped(op)
        return failures.step_errored(op.step, op.name, error, op.started_at_ms, now_ms(), retry=op.retry)


def _stopped(op: Op) -> StepErrored:
    op.task.uncancel()
    length_ms = op.stopped_at_ms - op.started_at_ms
    return failures.timed_out(op.step, op.name, op.started_at_ms, length_ms, op.retry)


def is_async(call: Callable[..., object]) -> bool:
    """Whether calling it gives a coroutine at once, so that it may be called on the loop."""
    while isinstance(call, functools.partial):
        call = call.func
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004
