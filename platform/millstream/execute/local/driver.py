"""``LocalDriver``: the step tools of a living body (``sdk.steps.Driver``), for handlers on the loop and in threads.

Each tool makes an ``Op``, gives it to the body, and waits for its row. What is checked here is what the user's call can
be wrong about; what happens to the op is the body's business.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar, cast

from millstream.errors import FunctionError, NonRetriableError
from millstream.execute.local.op import Op
from millstream.execute.local.threads import Unwound
from millstream.model import limits
from millstream.model.event import Event
from millstream.model.operations import PublishFound, SendFound, SleepFound
from millstream.model.rows import StepRow
from millstream.sdk.current import CURRENT
from millstream.sdk.outgoing import envelope_of
from millstream.sdk.payloads import decode, read, result_reader
from millstream.sdk.steps import Async

R = TypeVar("R")


class Asked(Protocol):
    """A body, as its step tools see it."""

    closed: bool
    over: bool

    @property
    def remembering(self) -> bool:
        """Whether results of finished steps are still to be gone over."""
        ...

    def ask(self, op: Op) -> None:
        """The handler wants this step."""
        ...

    async def outcome(self, op: Op) -> StepRow:
        """The step's row once it has ended. Raises StepError where it has failed for good."""
        ...


class LocalDriver:
    """The step tools of one body."""

    __slots__ = ("_asked", "_body", "_loop", "_now_ms")

    def __init__(self, body: Asked, loop: asyncio.AbstractEventLoop, now_ms: Callable[[], int]) -> None:
        self._body = body
        self._now_ms = now_ms
        self._loop = loop
        self._asked: dict[str, int] = {}
        """Every step id in use, with how often it was repeated."""

    @property
    def replaying(self) -> bool:
        """Whether finished steps are being gone over again."""
        return self._body.remembering

    async def run(
        self, id: str, call: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> object:
        """Run a step, at once or when it is handed out; its result."""
        op = self._op(id, "run")
        op.call, op.args, op.kwargs = call, args, kwargs
        self._body.ask(op)
        row = await self._body.outcome(op)
        reader = result_reader(call)
        return decode(row.data) if reader is None else read(row.data, reader, "the recorded result of step", op.step)

    async def sleep(self, id: str, length_ms: int, until_ms: int) -> None:
        """Sleep at a step."""
        op = self._op(id, "sleep")
        op.found = SleepFound(op.step, id, length_ms, until_ms)
        self._body.ask(op)
        await self._body.outcome(op)

    async def send_event(self, id: str, events: Sequence[Event]) -> list[str]:
        """Send events at a step; their ids."""
        now_ms = self._now_ms()
        envelopes = tuple(envelope_of(event, now_ms) for event in events)
        op = self._op(id, "send_event")
        op.found = SendFound(op.step, id, envelopes)
        self._body.ask(op)
        sent = cast("dict[str, list[str]]", decode((await self._body.outcome(op)).data))
        return sent["ids"]

    async def publish(self, id: str, topic: str, key: bytes, value: bytes) -> None:
        """Write a record at a step."""
        op = self._op(id, "publish")
        op.found = PublishFound(op.step, id, topic, key, value)
        self._body.ask(op)
        await self._body.outcome(op)

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

    def _op(self, id: str, kind: str) -> Op:
        task = asyncio.current_task(self._loop)
        assert task is not None, "step tools are coroutines: some task runs them"
        if self._body.closed or self._body.over:
            raise asyncio.CancelledError  # Of a body that was parked or has ended: nobody listens.
        if not id or len(id) > limits.STEP_ID_CHARS_MAX:
            raise FunctionError(
                f"step refused: an id must have 1 to {limits.STEP_ID_CHARS_MAX} characters, got {len(id)}: {id!r:.80}."
            )
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
        while f"{id}:{number}" in asked:  # Somebody named a step so.
            number += 1
        asked[id] = number
        asked[f"{id}:{number}"] = 0
        return Op(f"{id}:{number}", id, kind, task)
