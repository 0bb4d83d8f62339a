"""A user's value is refused with words where the tool is called; the run fails, and everything else goes on."""

from __future__ import annotations

import asyncio
import enum
import math
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from millstream import App, Context, Event, RetryAfterError, StepError, SyncContext
from millstream.errors import BadRequest, FunctionError
from millstream.testing import Run, TestApp

Body = Callable[[Context[Any]], Any]


async def run_of(body: Body, *, retries: int = 3) -> Run:
    """The run of this body; another function of the app must still work behind it."""
    app = App("faults")
    app.function(on="bad", retries=retries)(body)

    @app.function(on="good", retries=0)
    async def good(ctx: Context) -> str:
        return "fine"

    async with TestApp(app) as t:
        (run,) = (await t.send(Event("bad"))).runs
        assert (await t.send(Event("good"))).result == "fine"
    return run


class Order(enum.StrEnum):
    CHARGE = "charge"


class Silent:
    """A value whose every word raises."""

    def __repr__(self) -> str:
        raise ValueError("no repr")

    __str__ = __repr__


SURROGATE = os.fsdecode(b"caf\xe9.csv")

IDS = [b"order-7", ("charge", 7), None, 7, "", "x" * 513, SURROGATE, Silent(), ["a"], {"a": 1}, len]


@pytest.mark.parametrize("id", IDS, ids=[type(id).__name__ for id in IDS])
async def test_a_step_id_that_is_no_usable_text_fails_the_run_at_the_users_line(id: Any) -> None:
    async def body(ctx: Context) -> object:
        return await ctx.step.run(id, len, "abc")  # The line.

    run = await run_of(body)
    assert run.status == "Failed"  # And not tried again.
    assert run.error is not None and run.error.name == "FunctionError"
    assert run.error.message.startswith("step refused: an id must ")
    assert "# The line." in run.error.stack


async def test_an_id_of_a_str_enum_is_its_value() -> None:
    async def body(ctx: Context) -> object:
        return await ctx.step.run(Order.CHARGE, len, "abc")

    run = await run_of(body)
    assert (run.result, list(run.steps)) == (3, ["charge"])


async def work() -> str:
    return "worked"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: None, "expected a function to call, got NoneType None"),
        (lambda: "charge", "expected a function to call, got str 'charge'"),
        (work, "got the coroutine of work(): it was called already"),
        (Silent, "expected a function to call, got Silent <Silent, whose repr raises>"),
    ],
)
async def test_a_step_needs_a_function_to_call(make: Callable[[], Any], said: str) -> None:
    async def body(ctx: Context) -> object:
        return await ctx.step.run("w", make())

    run = await run_of(body)
    assert run.status == "Failed"  # And not tried again.
    assert run.error is not None and said in run.error.message


async def test_the_plain_face_refuses_in_the_same_words() -> None:
    app = App("plain")

    @app.function(on="x", retries=3)
    def body(ctx: SyncContext) -> object:
        return ctx.step.run("w", None)  # type: ignore[call-overload]

    async with TestApp(app) as t:
        (run,) = (await t.send(Event("x"))).runs
    assert run.status == "Failed"  # And not tried again.
    assert run.error is not None and "expected a function to call" in run.error.message


# --- topics, keys, headers ------------------------------------------------------------------------


@pytest.mark.parametrize("topic", [None, "", b"t", "my topic!", ".", "..", "ä", "x" * 250, SURROGATE, 7, Silent()])
async def test_a_topic_name_that_kafka_cannot_have_is_refused(topic: Any) -> None:
    async def body(ctx: Context) -> None:
        await ctx.step.publish("tell", topic, "k", {"a": 1})

    run = await run_of(body)
    assert run.status == "Failed"  # And not tried again.
    assert run.error is not None and "a topic's name must be text of 1 to 249" in run.error.message


@pytest.mark.parametrize(
    ("key", "value", "headers", "said"),
    [
        (SURROGATE, 1, None, "key must be Unicode text"),
        (7, 1, None, "key must be text, bytes or None, got int 7"),
        ("k", SURROGATE, None, "value must be Unicode text"),
        ("k", math.nan, None, "is a number that JSON does not have"),
        ("k", "x" * (4 << 20 | 1), None, "a record may have 4194304 bytes"),
        ("x" * (4 << 20 | 1), 1, None, "a record may have 4194304 bytes"),
        ("k", 1, {f"h{n}": b"" for n in range(101)}, "and 100 headers"),
        (None, None, None, "got no key either"),
        ("k", 1, [("a", "b")], "headers must be a dict"),
        ("k", 1, {b"a": "b"}, "header's name must be text"),
        ("k", 1, {"a": 1}, "header 'a' must be text or bytes, got int 1"),
        ("k", 1, {"a": SURROGATE}, "header 'a' must be text or bytes"),
        ("k", 1, {"millstream-id": "x"}, "is millstream's own"),
    ],
)
async def test_what_cannot_be_a_record_is_refused(key: Any, value: Any, headers: Any, said: str) -> None:
    async def body(ctx: Context) -> None:
        await ctx.step.publish("tell", "fine", key, value, headers=headers)

    run = await run_of(body)
    assert run.status == "Failed"  # And not tried again.
    assert run.error is not None and said in run.error.message


# --- events -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ({"name": "a", "data": {}}, "expected a millstream.Event, got dict {'name': 'a'"),
        ([{"name": "a"}], "expected a millstream.Event, got dict"),
        ("order/placed", "expected a millstream.Event or a list of them, got str 'order/placed'"),
        (None, "expected a millstream.Event or a list of them, got NoneType None"),
        ([None], "expected a millstream.Event, got NoneType"),
        (Event(SURROGATE), "name is no Unicode text"),
        (Event("a", {"n": math.nan}), "$.n is a number that JSON does not have"),
        (Event("a", {SURROGATE: 1}), "is not JSON"),
        (Event("a", ts=True), "ts must be Unix milliseconds, an int, got bool"),
        (Event("a", [1]), "data must be a JSON object"),  # type: ignore[arg-type]
    ],
)
async def test_what_is_no_event_is_refused_and_not_tried_again(events: Any, said: str) -> None:
    async def body(ctx: Context) -> object:
        return await ctx.step.send_event("s", events)

    run = await run_of(body)
    assert run.status == "Failed"  # And not tried again.
    assert run.error is not None and said in run.error.message


async def test_the_app_sends_no_dict_as_an_event() -> None:
    app = App("sender")
    async with TestApp(app):
        with pytest.raises(BadRequest, match=r"expected a millstream[.]Event, got dict"):
            await app.send({"name": "a"})  # type: ignore[arg-type]


# --- RetryAfterError --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        ("120", 120.0), (" 7 ", 7.0), ("5m", 300.0), ("1.5h", 5_400.0), (None, None), (1.5, 1.5), (0, 0),
        (timedelta(minutes=1), timedelta(minutes=1)), (10**400, 1e9),
        ("Wed, 21 Oct 2026 07:28:00 GMT", datetime(2026, 10, 21, 7, 28, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_retry_after_takes_what_http_hands_over(after: Any, wanted: object) -> None:
    assert RetryAfterError("429", after=after).after == wanted


@pytest.mark.parametrize("after", ["soon", "", b"120", True, math.nan, math.inf, -math.inf, [], Silent(), SURROGATE])
def test_retry_after_refuses_what_is_no_time(after: Any) -> None:
    with pytest.raises(FunctionError, match="after must be seconds, a timedelta"):
        RetryAfterError("429", after=after)


class Spoiled(RetryAfterError):
    """One that does not call ours, so that it has no ``after``; or has one of its own."""

    def __init__(self, **fields: object) -> None:
        self.__dict__ |= fields


@pytest.mark.parametrize(
    "raised",
    [
        lambda: RetryAfterError("429", after="120"),
        lambda: RetryAfterError("429", after=None),
        lambda: RetryAfterError("429", after=datetime.max.replace(tzinfo=UTC)),
        lambda: Spoiled(),
        lambda: Spoiled(after="x"),
        lambda: Spoiled(after=math.nan),
        lambda: Spoiled(after=datetime.min.replace(tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("where", ["body", "step"])
async def test_whatever_retry_after_holds_the_attempt_is_followed_by_another(
    raised: Callable[[], Exception], where: str
) -> None:
    tries = []

    def fail() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise raised()
        return "done"

    app = App("after")

    @app.function(on="x", retries=1)
    async def body(ctx: Context) -> str:
        return fail() if where == "body" else await ctx.step.run("call", fail)

    async with TestApp(app) as t:
        (run,) = (await t.send(Event("x"))).runs
        await t.advance("25h")
        assert (run.status, run.result) == ("Completed", "done")


# --- results ----------------------------------------------------------------------------------------

BAD_RESULTS = [
    math.nan, -math.inf, [1, math.nan], {"a": {"b": math.inf}}, SURROGATE, {SURROGATE: 1}, object(), Silent(),
    {Silent()}, {1: Silent()}, 1j, len, range(3),
]  # fmt: skip


@pytest.mark.parametrize("where", ["body", "step"])
@pytest.mark.parametrize("result", BAD_RESULTS, ids=lambda result: type(result).__name__)
async def test_a_result_that_would_change_or_cannot_be_kept_fails_where_it_is_returned(result: Any, where: str) -> None:
    async def body(ctx: Context) -> object:
        if where == "body":
            return result
        try:
            return await ctx.step.run("mean", lambda: result)
        except StepError as error:
            return error.name

    run = await run_of(body)
    if where == "step":
        assert (run.status, run.result, run.steps["mean"].attempts) == ("Completed", "UnserialisableResult", 1)
    else:
        assert run.status == "Failed" and run.error is not None
        assert run.error.name == "UnserialisableResult"


async def test_what_may_hold_null_still_does() -> None:
    async def body(ctx: Context) -> object:
        return await ctx.step.run("x", lambda: {"a": None, "b": [None, 1.5], "null": "null", "d": Decimal("NaN")})

    assert (await run_of(body)).result == {"a": None, "b": [None, 1.5], "null": "null", "d": "NaN"}


# --- exceptions -------------------------------------------------------------------------------------


class ApiError(Exception):
    """As in many generated clients: its text is looked up in what was never set."""

    response = None

    def __str__(self) -> str:
        return self.response.text  # type: ignore[attr-defined, no-any-return]


class Exits(Exception):
    def __str__(self) -> str:
        sys.exit(3)

    __repr__ = __str__


class Numeric(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class Liar(Exception):
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise ValueError("no class")


class Groupless(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise ValueError("no exceptions")


class OwnStep(StepError):
    def __init__(self) -> None:
        self.name = 7  # type: ignore[assignment]


class NamedBadly(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ValueError("no name")


class Nameless(Exception, metaclass=NamedBadly):
    pass


def noted(notes: object) -> Exception:
    error = ValueError("noted")
    error.__notes__ = notes  # type: ignore[assignment]
    return error


def nested(depth: int) -> BaseException:
    error: BaseException = ValueError("inner")
    for _ in range(depth):
        error = BaseExceptionGroup("outer", [error])
    return error


def chained() -> Exception:
    error = ValueError("outer")
    error.__cause__ = ApiError()
    error.__context__ = Exits()
    return error


RAISED: list[Callable[[], BaseException]] = [
    ApiError, Exits, Numeric, lambda: Liar("x"), lambda: Groupless("g", [ValueError()]), OwnStep, lambda: Nameless("x"),
    lambda: ValueError(f"cannot import {SURROGATE}"), lambda: noted(7),
    lambda: noted([SURROGATE, 7, Silent()]), lambda: noted(Silent()), lambda: nested(5_000), chained,
    lambda: ExceptionGroup("two", [ValueError(SURROGATE), ExceptionGroup("in", [ApiError(), KeyError("k")])]),
    lambda: BaseExceptionGroup("b", [KeyboardInterrupt(), GeneratorExit()]), GeneratorExit, lambda: SystemExit(1),
    KeyboardInterrupt, StopIteration, StopAsyncIteration, asyncio.CancelledError, MemoryError, RecursionError,
    lambda: ValueError("x" * 10_000_000), lambda: ValueError(Silent()),
    lambda: StepError("x", name=SURROGATE, stack="\ud800"),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), lambda: SyntaxError("x", (SURROGATE, 1, 1, SURROGATE)),
]  # fmt: skip


@pytest.mark.parametrize("raised", RAISED, ids=range(len(RAISED)))
@pytest.mark.parametrize("where", ["body", "plain step", "async step", "beside"])
async def test_whatever_is_raised_is_reported(raised: Callable[[], BaseException], where: str) -> None:
    def plain() -> None:
        raise raised()

    async def slow() -> None:
        raise raised()

    async def body(ctx: Context) -> str:
        if where == "body":
            raise raised()
        try:
            if where == "beside":
                await asyncio.gather(ctx.step.run("s", slow), ctx.step.run("t", plain))
            else:
                await ctx.step.run("s", plain if where == "plain step" else slow)
        except StepError as error:
            error.stack.encode()
            return error.name
        return "never"

    run = await run_of(body, retries=0)
    if where == "body":
        assert run.status == "Failed" and run.error is not None
        (run.error.name + run.error.message + run.error.stack).encode()
        assert len(run.error.message) <= 4_000 and len(run.error.stack) <= 16_000
    else:
        assert (run.status, run.steps["s"].status) == ("Completed", "failed")
        assert run.result not in ("never", "")


async def test_half_a_surrogate_pair_in_an_error_is_written_out() -> None:
    async def body(ctx: Context) -> None:
        raise ValueError(f"cannot import {SURROGATE}")

    run = await run_of(body, retries=0)
    assert run.error is not None and run.error.message == "cannot import caf\\udce9.csv"


async def test_of_an_exception_without_a_text_the_class_and_the_frames_remain() -> None:
    async def body(ctx: Context) -> None:
        raise Exits  # The line.

    run = await run_of(body, retries=0)
    assert run.error is not None and run.error.name == "Exits"
    assert "its __str__ raises" in run.error.message
    assert "# The line." in run.error.stack
