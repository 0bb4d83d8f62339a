"""``step.retrying``: is a step tried again as its own Retry says, by whoever executes it?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from millstream import App, Context, NonRetriableError, Retry, RetryAfterError, StepError, SyncContext, Table, current
from millstream.model.facts import StepAttemptFailed, StepFailed
from tests.execute.harness import World, play, play_in_real_time

SOON = Table(["2s"])


class Gone(ConnectionError):
    """A subclass."""


def attempts_after(error: BaseException, retry: Retry, *, retries: int = 0) -> int:
    """How often a step that raises this is tried."""
    app, tries = App("a"), list[int]()

    async def fails() -> None:
        tries.append(current().attempt)
        raise error

    @app.function(on="go", retries=retries)
    async def fn(ctx: Context) -> str:
        try:
            await ctx.step.retrying(retry).run("fails", fails)
        except StepError as failed:
            return failed.name
        return "done"

    async def scenario() -> None:
        assert await World(app).result() != "done"

    play(scenario)
    assert tries == list(range(len(tries)))
    return len(tries)


@pytest.mark.parametrize(
    ("error", "retry", "attempts"),
    [
        (ValueError(), Retry(attempts=4), 4),
        (ValueError(), Retry(attempts=1), 1),
        (ValueError(), Retry(), 3),
        (Gone(), Retry(attempts=3, on=ConnectionError), 3),
        (ValueError(), Retry(attempts=3, on=ConnectionError), 1),
        (Gone(), Retry(attempts=3, on=(OSError, ValueError), not_on=Gone), 1),
        (Gone(), Retry(attempts=3, on=Gone, not_on=OSError), 1),
        (NonRetriableError(), Retry(attempts=3), 1),
        (RetryAfterError("busy", 2), Retry(attempts=3, on=OSError), 3),
        (RetryAfterError("busy", 2), Retry(attempts=3, not_on=RetryAfterError), 1),
        (ExceptionGroup("both", [Gone(), OSError()]), Retry(attempts=3, on=OSError), 3),
        (ExceptionGroup("both", [Gone(), ValueError()]), Retry(attempts=3, on=OSError), 1),
        (ExceptionGroup("both", [Gone(), ValueError()]), Retry(attempts=3, on=ExceptionGroup), 3),
        (ExceptionGroup("both", [Gone(), ValueError()]), Retry(attempts=3, not_on=ValueError), 1),
        (asyncio.CancelledError(), Retry(attempts=3, on=Exception), 1),
    ],
)
def test_a_step_is_tried_as_often_as_its_retry_says(error: BaseException, retry: Retry, attempts: int) -> None:
    assert attempts_after(error, retry, retries=2) == attempts


def test_code_of_the_exceptions_classes_is_not_asked() -> None:
    class Meta(type):
        def __instancecheck__(cls, other: object) -> bool:
            raise SystemExit(1)

        def __eq__(cls, other: object) -> bool:
            raise SystemExit(2)

        __hash__ = type.__hash__

    class Odd(Exception, metaclass=Meta):
        pass

    assert attempts_after(Odd(), Retry(attempts=2, on=Odd)) == 2
    assert attempts_after(Odd(), Retry(attempts=2, not_on=Odd)) == 1


def test_an_attempt_that_took_too_long_counts_as_timeout_error() -> None:
    def tries(retry: Retry) -> int:
        app, begun = App("a"), list[int]()

        async def hangs() -> None:
            begun.append(1)
            await asyncio.sleep(3_600)

        @app.function(on="go", retries=0, step_timeout="5s")
        async def fn(ctx: Context) -> None:
            await ctx.step.retrying(retry).run("hangs", hangs)

        async def scenario() -> None:
            assert (await World(app).failure()).error_name == "StepTimeout"

        play(scenario)
        return len(begun)

    assert tries(Retry(attempts=2, on=TimeoutError)) == 2
    assert tries(Retry(attempts=2, on=ConnectionError)) == 1


def flaky(until: int, tries: list[int]) -> Callable[[], int]:
    """Succeeds at this attempt."""

    async def call() -> int:
        tries.append(current().attempt)
        if len(tries) <= until:
            raise Gone(f"attempt {tries[-1]}")
        return len(tries)

    return call  # type: ignore[return-value]


def test_the_delays_are_the_steps_own_also_beside_others() -> None:
    app, tries = App("a"), list[int]()

    @app.function(on="go", retries=0)
    async def fn(ctx: Context) -> list[int]:
        steps = ctx.step.retrying(Retry(attempts=3, backoff=SOON))
        return await asyncio.gather(steps.run("a", flaky(2, tries)), steps.run("b", flaky(0, [])))

    async def scenario() -> None:
        world = World(app, retry_interval_ms=-1)
        assert await world.result() == [3, 1]
        failed = [fact for fact in world.facts if isinstance(fact, StepAttemptFailed)]
        assert [fact.attempt for fact in failed] == [0, 1]
        assert all(2_000 <= fact.retry_at_ms - fact.started_at_ms <= 2_100 for fact in failed)

    play(scenario)


def test_a_crash_uses_up_no_attempt_and_the_next_body_has_the_same_retry() -> None:
    app, tries, twice = App("a"), list[int](), asyncio.Event()

    async def fails() -> None:
        tries.append(current().attempt)
        if len(tries) == 2:
            twice.set()
        raise Gone

    @app.function(on="go", retries=0)
    async def fn(ctx: Context) -> None:
        await ctx.step.retrying(Retry(attempts=3, on=OSError)).run("fails", fails)

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await twice.wait()
        world.crash()
        end = await world.end(run)
        failed = [fact for fact in world.facts if isinstance(fact, StepFailed)]
        assert [fact.attempt for fact in failed] == [2], end
        assert tries == [0, 1, 1, 2], "the attempt that the crash has interrupted is made again, and uses up none"

    play(scenario)


def test_a_plain_handler_has_it_too() -> None:
    app, tries = App("a"), list[int]()

    @app.function(on="go", retries=0)
    def fn(ctx: SyncContext) -> int:
        return ctx.step.retrying(Retry(attempts=2, backoff=SOON)).run("flaky", flaky(1, tries))

    async def scenario() -> None:
        world = World(app, retry_interval_ms=10)
        assert await world.result() == 2
        await world.executor.close(0)

    play_in_real_time(scenario)


def test_what_is_no_retry_is_refused_and_a_step_that_is_not_awaited_is_named() -> None:
    app = App("a")

    @app.function(on="go", retries=3)
    async def fn(ctx: Context) -> None:
        if ctx.event.data["wrong"]:
            ctx.step.retrying(3)  # type: ignore[arg-type]
        ctx.step.retrying(Retry()).run("lost", print)

    async def scenario() -> None:
        world = World(app)
        refused = await world.failure({"wrong": True})
        assert refused.error_name == "FunctionError" and "expected a Retry, got int 3" in refused.error_message
        forgotten = await world.failure({"wrong": False})
        assert "were never awaited" in forgotten.error_message and "test_retrying.py, line" in forgotten.error_message

    play(scenario)
