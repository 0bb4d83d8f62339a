"""Any value into any argument of any step tool, any exception out of any step: the run ends, and the lane lives.

    make fuzz                            100,000 calls
    python -m tests.faults.fuzz 5000     so many

``test_fuzz.py`` runs a few of them with every test run. Add a tool: a line in ``TOOLS``.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream import (
    App,
    Context,
    Event,
    Linear,
    NonRetriableError,
    On,
    Retry,
    RetryAfterError,
    StepError,
    UnserialisableResult,
)
from millstream.testing import TestApp

CALLS_PER_APP = 25
CRASH_EVERY = 20
GOOD = Event("good")


class Silent:
    """A value whose every word raises, once ``hostile`` is set: hypothesis must be able to show it."""

    hostile = False

    def __repr__(self) -> str:
        if self.hostile:
            raise SystemExit(1)
        return "Silent()"

    def __eq__(self, other: object) -> bool:
        if self.hostile:
            raise KeyboardInterrupt
        return self is other

    def __hash__(self) -> int:
        if self.hostile:
            raise ValueError("no hash")
        return 7

    def __bool__(self) -> bool:
        if self.hostile:
            raise TypeError("no truth")
        return True

    def __iter__(self) -> Any:
        raise GeneratorExit

    def model_dump(self, mode: str) -> Any:
        raise SystemExit(2)


class Text(str):
    """A text whose own methods cannot be relied on."""

    def __str__(self) -> str:
        return "other"

    def encode(self, *args: object, **kwargs: object) -> bytes:
        raise ValueError("no bytes")

    def isascii(self) -> bool:
        return True


@dataclass
class Held:
    """A dataclass around anything."""

    value: object


TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(
    ["", "x", "a/b", "\udce9", "\ud800\udc00", "\x00", "x" * 600, "test.journal", "inngest/x", "5m", "-1", "NaN",
     Text("sub")]
)  # fmt: skip
NUMBERS = (
    st.integers() | st.floats()
    | st.sampled_from([10**400, -1, 0, True, math.nan, math.inf, 1e308, 2**63, Decimal("NaN")])
)  # fmt: skip
SCALARS = (
    st.none() | TEXTS | NUMBERS | st.binary(max_size=20) | st.datetimes() | st.timedeltas() | st.uuids() | st.decimals()
    | st.sampled_from([Silent(), object(), len, int, print, Event, GOOD, Event("\udce9"), Exception("x"), range(3)])
    | st.builds(Event, name=TEXTS) | st.builds(iter, st.just([1])) | st.builds(bytearray, st.binary(max_size=3))
)  # fmt: skip
KEYS = TEXTS | st.integers() | st.none() | st.binary(max_size=3) | st.tuples(st.integers())
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3) | st.builds(Held, inner)
        | st.tuples(inner, inner) | st.builds(lambda value: {"name": value, "data": value}, inner)
    ),
    max_leaves=6,
)  # fmt: skip
ERRORS = (ValueError, KeyError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, asyncio.CancelledError)


def _raised(kind: type[BaseException], args: list[Any], notes: object, cause: bool) -> BaseException:
    error = kind(*args)
    error.__notes__ = notes  # type: ignore[assignment]
    if cause:
        error.__cause__ = ValueError(*args)
    return error


def _retry_after(after: Any) -> BaseException:
    error = RetryAfterError("x", 1)
    error.after = after
    return error


EXCEPTIONS: st.SearchStrategy[BaseException] = st.recursive(
    st.builds(_raised, st.sampled_from(ERRORS), st.lists(VALUES, max_size=2), VALUES, st.booleans())
    | st.builds(_retry_after, VALUES)
    | st.builds(lambda name, stack: StepError("x", name=name, stack=stack), VALUES, VALUES)
    | st.builds(NonRetriableError, VALUES),
    lambda inner: st.builds(lambda some: BaseExceptionGroup("group", some), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=4,
)


def _returns(value: object) -> Callable[..., object]:
    return lambda *_args, **_kwargs: value


def _raises(error: BaseException, in_loop: bool) -> Callable[..., object]:
    async def inside(*_args: object) -> None:
        raise error

    def plainly(*_args: object) -> None:
        raise error

    return inside if in_loop else plainly


CALLS = st.builds(_returns, VALUES) | st.builds(_raises, EXCEPTIONS, st.booleans())
IDS = st.just("step") | VALUES
NAMES = st.just("good") | VALUES
TIMEOUTS = st.just("1h") | VALUES
CLASSES = (
    st.sampled_from([ValueError, OSError, BaseException, ExceptionGroup, int])
    | VALUES
    | st.lists(st.sampled_from([KeyError, SystemExit]) | VALUES, max_size=3)
)
RETRIES = st.tuples(
    st.none() | st.just("unlimited") | VALUES, st.none() | st.just(Linear("10s")) | VALUES, CLASSES, CLASSES
)
EXPRESSIONS = st.sampled_from(["", "async.data.n == event.data.n", "async.data.n > 1 && async", "async ="]) | VALUES
CONDITIONS = VALUES | st.lists(
    st.builds(On, NAMES, st.just("data.n") | VALUES, EXPRESSIONS, st.none() | VALUES) | VALUES, max_size=22
)
TOOLS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "run": st.tuples(IDS, CALLS | VALUES, VALUES),
    "retrying": st.tuples(RETRIES | VALUES, IDS, CALLS | VALUES, VALUES),
    "sleep": st.tuples(IDS, VALUES),
    "sleep_until": st.tuples(IDS, VALUES),
    "send_event": st.tuples(IDS, VALUES),
    "publish": st.tuples(IDS, st.just("fine") | VALUES, VALUES, VALUES, VALUES),
    "wait_for_event": st.tuples(
        IDS, NAMES, st.just("data.n") | VALUES, EXPRESSIONS, TIMEOUTS, st.none() | VALUES, VALUES
    ),
    "wait_for_any": st.tuples(IDS, CONDITIONS, TIMEOUTS),
    "wait_for_all": st.tuples(IDS, CONDITIONS, TIMEOUTS),
    "wait_for_signal": st.tuples(IDS, st.just("fine") | VALUES, TIMEOUTS, st.just("replace") | VALUES),
    "callback": st.tuples(IDS, TIMEOUTS, st.just("fine") | VALUES),
    "invoke": st.tuples(IDS, CALLS | VALUES, st.just({"n": 1}) | VALUES, TIMEOUTS, VALUES),
    "invoke_by_id": st.tuples(IDS, st.just("fuzz-good") | VALUES, st.just({"n": 1}) | VALUES, TIMEOUTS, VALUES),
    "return": st.tuples(VALUES),
    "raise": st.tuples(EXCEPTIONS),
    "retry after": st.tuples(VALUES),
}
CALL = st.sampled_from(sorted(TOOLS)).flatmap(lambda tool: st.tuples(st.just(tool), TOOLS[tool]))


async def called(ctx: Context[Any], tool: str, args: tuple[Any, ...]) -> object:
    """Call the tool as a handler would."""
    match tool:
        case "return":
            return args[0]
        case "raise":
            raise args[0]
        case "retry after":
            raise RetryAfterError("later", after=args[0])
        case "retrying":
            retry, *first = args
            if type(retry) is tuple:
                attempts, backoff, on, not_on = retry
                retry = Retry(attempts=attempts, backoff=backoff, on=on, not_on=not_on)
            return await ctx.step.retrying(retry).run(*first)
        case "publish":
            *first, headers = args
            return await ctx.step.publish(*first, headers=headers)
        case "wait_for_event":
            id, event, match_, if_, timeout, lookback, type_ = args
            return await ctx.step.wait_for_event(
                id, event=event, match=match_, if_=if_, timeout=timeout, lookback=lookback, type_=type_
            )
        case "wait_for_any" | "wait_for_all":
            id, on, timeout = args
            return await getattr(ctx.step, tool)(id, on, timeout=timeout)
        case "wait_for_signal":
            id, signal, timeout, conflict = args
            return await ctx.step.wait_for_signal(id, signal, timeout=timeout, on_conflict=conflict)
        case "callback":
            id, timeout, _ = args
            made = await ctx.step.callback(id, timeout=timeout)
            return [made.id, await made.result()]
        case "invoke" | "invoke_by_id":
            id, function, data, timeout, detached = args
            return await getattr(ctx.step, tool)(id, function, data=data, timeout=timeout, detached=detached)
    return await getattr(ctx.step, tool)(*args)


async def survive(calls: list[tuple[str, tuple[Any, ...]]], crash: bool) -> None:
    """Each call in a run of its own: every run ends, sleeps, waits or is tried again; the next is served.

    A restart changes nothing.
    """
    app = App("fuzz")

    @app.function(on="call/made", retries=0)
    async def body(ctx: Context) -> object:
        return await called(ctx, *calls[ctx.event.data["n"]])

    @app.function(on="call/held", retries=0, on_exhausted="hold")
    async def held(ctx: Context) -> object:
        return await called(ctx, *calls[ctx.event.data["n"]])

    @app.function(on="good", retries=0)
    async def good(ctx: Context) -> str:
        return "fine"

    async with TestApp(app, patience_s=30) as t:
        for n, call in enumerate(calls):
            (run,) = (await t.send(Event(("call/made", "call/held")[n % 2], {"n": n}))).runs
            if run.is_held:
                await t.fail(run)  # Its body lets the StepError through, or was held itself.
            asleep = any(step.status in ("sleeping", "waiting", "retrying") for step in run.steps.values())
            assert run.status in ("Completed", "Failed") or asleep, f"{call[0]} of {n} left its run {run.status}"
            if any(step.kind == "callback_post" and step.status == "waiting" for step in run.steps.values()):
                (made,) = (step.result["id"] for step in run.steps.values() if step.kind == "callback")
                with suppress(UnserialisableResult):
                    await t.callback(made, call[1][-1])
                    assert run.status in ("Completed", "Failed"), f"a post to {n} left its run {run.status}"
            if run.error is not None:
                msgspec.json.encode([run.error.name, run.error.message, run.error.stack])
        over = {run: run.status for run in t.runs if run.status in ("Completed", "Failed")}
        if crash:
            await t.crash()  # A second and a half, so not every time.
        assert (await t.send(GOOD)).runs[-1].status == "Completed"
        assert {run: run.status for run in over} == over


def fuzz(examples: int) -> None:
    """So many lists of calls."""

    @settings(
        max_examples=examples, deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(CALL, min_size=1, max_size=CALLS_PER_APP), st.integers(1, CRASH_EVERY))
    def every_run_ends(calls: list[tuple[str, tuple[Any, ...]]], dice: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Coroutines that were drawn as values and never awaited.
            Silent.hostile = True
            try:
                asyncio.run(asyncio.wait_for(survive(calls, dice == CRASH_EVERY), 120))
            finally:
                Silent.hostile = False

    logging.disable()
    try:
        every_run_ends()
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    fuzz(max(1, wanted // 10))  # A list has about ten calls.
    print(f"fuzzed calls={wanted} found=0")
