"""Stubs: what is called in the place of a step's own function. Everything else stays: attempts, recording, replay.

The functions of an app are wrapped (``StubbedApp``): each body gets step tools that look for a stub whenever a step is
run. So the engine and the executor know nothing of stubs, and a replayed step asks none.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from millstream.errors import INVOKE_TIMEOUT, InvokeTimeout, NonRetriableError, StepError
from millstream.execute.failures import failure_of
from millstream.execute.local.op import is_async
from millstream.model.operations import InvokeFound, Operation
from millstream.sdk.app import App
from millstream.sdk.context import Context, SyncContext
from millstream.sdk.function import Function, Handler
from millstream.sdk.payloads import decode, encode
from millstream.sdk.retry import Retry
from millstream.sdk.steps import Async, Driver, StepTools, SyncStepTools
from millstream.testing.expectations import NotAsExpected

R = TypeVar("R")
STEPS_SHOWN_MAX: Final = 20


class Call(NamedTuple):
    """One call of a stub: the arguments the step was given."""

    args: tuple[object, ...]
    kwargs: Mapping[str, object]


class Replies:
    """One reply after another; see ``sequence``."""

    def __init__(self, replies: Iterable[object]) -> None:
        self._replies = tuple(replies)
        self._next = 0

    def take(self, step: str) -> object:
        """The next reply. Raises NonRetriableError when there is none, so that the run fails and says why."""
        if self._next >= len(self._replies):
            raise NonRetriableError(
                f"the stub of step {step!r} was called {self._next + 1} times, but its sequence has "
                f"{len(self._replies)} replies. Add replies, or find out why the step runs so often."
            )
        self._next += 1
        return self._replies[self._next - 1]


def sequence(replies: Iterable[object]) -> Replies:
    """One reply for each call, in order; each a value, an exception or a callable.

    t.stub("charge", sequence([TimeoutError("slow"), {"id": 7}]))    # fails once, then works
    """
    return Replies(replies)


class Stub:
    """A stub in place. ``calls`` are the calls so far, ``reached`` says whether there was one."""

    def __init__(self, step: str, reply: object, function: str, optional: bool) -> None:
        self.step = step
        self.function = function
        self.optional = optional
        self.calls: list[Call] = []
        self._reply = reply

    @property
    def reached(self) -> bool:
        """Whether the step was run."""
        return bool(self.calls)

    async def answer(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """What the step's function would have returned or raised."""
        self.calls.append(Call(args, kwargs))
        reply = self._reply.take(self.step) if isinstance(self._reply, Replies) else self._reply
        if isinstance(reply, BaseException):
            raise reply.with_traceback(None)
        if isinstance(reply, type) and issubclass(reply, BaseException):
            raise reply()
        if callable(reply):
            result = reply(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        return reply


class Stubs:
    """The stubs of a test; the newest counts, one for a function before one for all."""

    def __init__(self) -> None:
        self._stubs: dict[tuple[str, str], Stub] = {}
        self._asked: dict[str, None] = {}
        self._of_invokes: dict[tuple[str, str, int], Stub | None] = {}

    def put(self, stub: Stub) -> None:
        """From now on this one answers for its step."""
        self._stubs[stub.function, stub.step] = stub

    def check(self) -> None:
        """Raise NotAsExpected if a stub was never reached that should have been."""
        missed = sorted(stub.step for stub in self._stubs.values() if not (stub.reached or stub.optional))
        if missed:
            asked = ", ".join(map(repr, list(self._asked)[:STEPS_SHOWN_MAX])) or "none at all"
            raise NotAsExpected(
                f"stubs were never reached: {', '.join(map(repr, missed))}. The functions ran these steps: {asked}. "
                "Check the id (and function=), or say optional=True."
            )

    def find(self, function: str, step: str) -> Stub | None:
        """The stub of a step that is asked for now."""
        self._asked[step] = None
        return self._stubs.get((function, step)) or self._stubs.get(("", step))

    def of_invoke(self, function: str, run: str, step: str, number: int) -> Stub | None:
        """The stub of a step that invokes a function; the same whenever this step of this run is asked for again.

        What stands in is recorded as another kind of step, and a replay must ask for what is recorded.
        """
        found = self.find(function, step)
        return self._of_invokes.setdefault((run, step, number), found)

    def instead_of(self, function: str, step: str, call: Callable[..., object]) -> Callable[..., object]:
        """What to call for a step: its own function, or a stub that declares the same result."""
        stub = self.find(function, step)
        if stub is None:
            return call

        async def stand_in(*args: object, **kwargs: object) -> object:
            return await stub.answer(args, kwargs)

        stand_in.__annotations__ = {"return": _result_type(call)}
        return stand_in


def _result_type(call: Callable[..., object]) -> object:
    while isinstance(call, functools.partial):
        call = call.func
    try:
        return typing.get_type_hints(call).get("return")
    except Exception:  # Names that exist for type checkers only: plain JSON then, as without a stub.
        return None


def _as_a_run(stub: Stub) -> Callable[[object], Async[object]]:
    """The stub in the place of another run, which fails for good when it fails."""

    async def answer(data: object) -> object:
        try:
            return await stub.answer((data,), {})
        except Exception as error:
            failure = failure_of(error)
            name = INVOKE_TIMEOUT if isinstance(error, InvokeTimeout) else failure.name
            raise StepError(failure.message, name=name, stack=failure.stack) from error

    return answer


class StubbedApp(App):
    """An app whose steps ask the stubs first; its spec is the app's own."""

    def __init__(self, app: App, stubs: Stubs) -> None:
        super().__init__(app.id, version=app.version)
        for function in app.functions.values():
            self._add(Function(function.spec, _stubbed(function, stubs)))


def _stubbed(function: Function, stubs: Stubs) -> Handler:
    handler, slug = function.handler, function.spec.slug
    if is_async(handler):

        @functools.wraps(handler)
        async def body(ctx: Context[Any]) -> object:
            ctx.step = StepTools(_Stubbed(ctx._driver, slug, ctx.run_id, stubs))
            return await typing.cast("Async[object]", handler(ctx))

        return body

    @functools.wraps(handler)
    def sync_body(ctx: SyncContext[Any]) -> object:
        ctx.step = SyncStepTools(_Stubbed(ctx._driver, slug, ctx.run_id, stubs))
        return handler(ctx)

    return sync_body


class _Stubbed:
    """The executor's driver, with stubs in the place of functions."""

    def __init__(self, driver: Driver, function: str, run: str, stubs: Stubs) -> None:
        self._function = function
        self._run = run
        self._invoked: Counter[str] = Counter()
        self._stubs = stubs
        self._driver = driver

    @property
    def replaying(self) -> bool:
        return self._driver.replaying

    def now_ms(self) -> int:
        return self._driver.now_ms()

    def run(
        self,
        id: str,
        call: Callable[..., object],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        retry: Retry | None = None,
    ) -> Async[object]:
        return self._driver.run(id, self._stubs.instead_of(self._function, id, call), args, kwargs, retry)

    def ask(self, id: str, kind: str, make: Callable[[str], Operation]) -> Async[bytes]:
        return self._ask(id, kind, make)

    async def _ask(self, id: str, kind: str, make: Callable[[str], Operation]) -> bytes:
        found = make(id)
        if isinstance(found, InvokeFound):
            self._invoked[id] += 1
            stub = self._stubs.of_invoke(self._function, self._run, id, self._invoked[id])
            if stub is not None:
                result = await self._driver.run(id, _as_a_run(stub), (decode(found.data),), {})
                return encode(result, f"the stub of step {id!r}")
        return await self._driver.ask(id, kind, make)

    def wait(self, call: Async[R]) -> R:
        return self._driver.wait(call)
