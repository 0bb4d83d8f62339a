"""``LocalDriver``: the step tools of a living body (``sdk.steps.Driver``), for handlers on the loop and in threads.

Each tool makes an ``Op``, gives it to the body, and drives it until it has a row. What is checked here is what the
user's call can be wrong about. A driver knows two sorts of steps: those that run code (``run``), and those that say
what they want as an operation (``ask``); no kind by name.

    ask the body ──> wait for a signal ── GO ──> run an attempt ──> attempt_ended ──┐
                        ^   └── StepRow ──> the step has ended                      │
                        └───────────────────────────────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeVar

from millstream.errors import FunctionError, NonRetriableError, step_error
from millstream.execute import failures
from millstream.execute.local.host import BodyHost
from millstream.execute.local.op import GO, INLINE, REPORTED, Op, attempt
from millstream.execute.local.threads import Unwound
from millstream.model.operations import Operation, failure_of
from millstream.model.rows import Hand, StepRow
from millstream.sdk.current import CURRENT, Current
from millstream.sdk.payloads import decode, read, result_reader
from millstream.sdk.retry import Retry
from millstream.sdk.steps import Async

R = TypeVar("R")
_FAILED: Final = int(Hand.FAILED)


class AskingBody(Protocol):
    """A body, as its step tools see it."""

    run_id: str
    current: Current
    dispatch: int
    closed: bool
    over: bool

    @property
    def replaying(self) -> bool:
        """Whether results of steps that were finished earlier are still to be delivered."""
        ...

    def ask(self, op: Op) -> None:
        """The handler asks for this step. It is INLINE, or its coroutine is to wait for a signal."""
        ...

    def attempt_ended(self, op: Op, operation: Operation) -> None:
        """An attempt of this step has ended so."""
        ...

    def deliver_results(self) -> None:
        """See which of the awaited steps have ended meanwhile, and deliver the first."""
        ...

    def forsake(self, op: Op) -> None:
        """The task that waits for this step was cancelled."""
        ...


class LocalDriver:
    """The step tools of one body."""

    __slots__ = ("_asked", "_loop", "_threads", "body", "now_ms")

    def __init__(self, body: AskingBody, host: BodyHost) -> None:
        self.body = body
        self.now_ms: Callable[[], int] = host.source.now_ms
        """The lane's time."""
        self._loop = host.loop
        self._threads = host.step_threads
        self._asked: dict[str, int] = {}
        """Every step id in use, with how often it was repeated."""

    @property
    def replaying(self) -> bool:
        """Whether finished steps are being gone over again."""
        return self.body.replaying

    async def run(
        self,
        id: str,
        call: Callable[..., object],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        retry: Retry | None = None,
    ) -> object:
        """Run a step, at once or when it is handed out; its result."""
        op = self._op(id, "run")
        op.call, op.args, op.kwargs, op.retry = call, args, kwargs, retry
        reader = op.reader = result_reader(call)
        self.body.ask(op)
        row = await self._drive(op)
        return decode(row.data) if reader is None else read(row.data, reader, "the recorded result of step", op.step)

    async def ask(self, id: str, kind: str, make: Callable[[str], Operation]) -> bytes:
        """Report an operation that the engine carries out; the step's result as its recorded JSON."""
        op = self._op(id, kind)
        op.operation = make(op.step)
        self.body.ask(op)
        return (await self._drive(op)).data

    def wait(self, call: Async[R]) -> R:
        """For a handler in a thread: block until the coroutine is done on the loop.

        Raises Unwound when the run was parked or is over.
        """
        if asyncio._get_running_loop() is not None:
            call.close()
            raise FunctionError(
                "a step tool of SyncContext was called on an event loop, which it would block. "
                "Use `async def handler(ctx: Context)`, or call it from the handler's own thread."
            )
        try:
            return asyncio.run_coroutine_threadsafe(call, self._loop).result()
        except concurrent.futures.CancelledError:
            raise Unwound from None

    async def _drive(self, op: Op) -> StepRow:
        """Follow one signal after another until the step has ended. Raises StepError where it has failed for good."""
        body = self.body
        signal = GO if op.state is INLINE else None
        while True:
            if signal is GO:
                op.started_at_ms, op.stopped_at_ms = self.now_ms(), 0
                try:
                    operation = await attempt(op, body.run_id, self._threads, self.now_ms)
                except asyncio.CancelledError:
                    CURRENT.set(body.current)
                    body.attempt_ended(op, failures.cancelled(op.step, op.name, op.started_at_ms))
                    body.deliver_results()  # Its own, too: the step may have ended under an earlier dispatch.
                    raise
                CURRENT.set(body.current)  # Not in a ``finally``: GeneratorExit comes in another task's context.
                body.attempt_ended(op, operation)
                if body.closed or body.over:
                    raise asyncio.CancelledError  # The body has ended; another one will be given the result.
            wait = op.wait = self._loop.create_future()
            if body.dispatch and op.state is REPORTED:
                body.deliver_results()  # Only now that it waits can it be given its result.
            try:
                signal = await wait
            except BaseException:
                op.wait = None
                body.forsake(op)
                raise
            op.wait = None
            if signal is not GO:
                break
        assert isinstance(signal, StepRow)
        if signal.hand == _FAILED:
            failure = failure_of(signal.data)
            raise step_error(failure.name, failure.message, failure.stack, op.step)
        return signal

    def _op(self, id: str, kind: str) -> Op:
        task = asyncio.current_task(self._loop)
        assert task is not None, "step tools are coroutines: some task runs them"
        if self.body.closed or self.body.over:
            raise asyncio.CancelledError  # Of a body that was parked or has ended: its code must not go on.
        at = CURRENT.get()
        if at is not None and at.step:
            raise NonRetriableError(
                f"step {id!r} was asked for inside step {at.step!r}: steps do not nest, since only the outer one "
                "would be remembered. Ask for it in the handler."
            )
        asked = self._asked
        if id not in asked:
            asked[id] = 0
            return Op(id, id, kind, task)
        number = asked[id] + 1
        while f"{id}:{number}" in asked:  # The user has named a step so.
            number += 1
        asked[id] = number
        asked[f"{id}:{number}"] = 0
        return Op(f"{id}:{number}", id, kind, task)
