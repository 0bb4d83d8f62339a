"""What an executor says of a failure decides whether it is held: nothing is, where trying again would end the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millstream import App, Context, NonRetriableError, StepError
from millstream.model.facts import BodyHeld, Fact, RunCompleted, RunFailed, StepFailed, StepHeld
from millstream.model.run_requests import FailRun, ResumeRun
from tests.execute.harness import World, play


async def until(world: World, kind: type[Fact]) -> Any:
    """The first fact of a kind."""
    async with asyncio.timeout(1_000):
        while True:
            for fact in world.facts:
                if isinstance(fact, kind):
                    return fact
            await asyncio.sleep(0.1)


async def hang() -> None:
    await asyncio.sleep(3_600)


def closed() -> str:
    raise ConnectionError("closed")


def holding(handler: Any, **options: Any) -> App:
    app = App("a")
    app.function(on="go", id="fn", retries=0, on_exhausted="hold", **options)(handler)
    return app


def test_a_step_that_its_own_body_gives_up_fails_and_the_body_goes_on() -> None:
    async def fn(ctx: Context) -> str:
        try:
            async with asyncio.timeout(1):
                await ctx.step.run("hang", hang)
        except TimeoutError:
            return "without"
        return "with"

    async def scenario() -> None:
        world = World(holding(fn))
        assert await world.result() == "without"
        assert not [fact for fact in world.facts if isinstance(fact, StepHeld)]

    play(scenario)


def test_an_attempt_that_takes_too_long_is_held_and_goes_on_in_the_same_body() -> None:
    tries = []

    async def slow() -> str:
        tries.append(1)
        if len(tries) == 1:
            await hang()
        return "in time"

    async def fn(ctx: Context) -> str:
        return await ctx.step.run("slow", slow)

    async def scenario() -> None:
        world = World(holding(fn, step_timeout="2s"))
        run = await world.send()
        assert (await until(world, StepHeld)).error_name == "StepTimeout"
        world.submit(ResumeRun(run))
        end = await world.end(run)
        assert isinstance(end, RunCompleted) and end.result == b'"in time"'

    play(scenario)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_step_error_that_the_body_lets_through_fails_the_run(grouped: bool) -> None:
    async def fn(ctx: Context) -> None:
        if not grouped:
            await ctx.step.run("ask", closed)
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step.run("ask", closed))
            group.create_task(ctx.step.run("other", lambda: None))

    async def scenario() -> None:
        world = World(holding(fn))
        run = await world.send()
        await until(world, StepHeld)
        world.crash()
        world.submit(FailRun(run))
        end = await world.end(run)
        assert isinstance(end, RunFailed) and end.error_message == "closed"
        assert isinstance(await until(world, StepFailed), StepFailed)

    play(scenario)


def test_a_body_that_raises_for_good_is_held_and_led_over_its_steps_again_when_resumed() -> None:
    mended: list[int] = []

    async def fn(ctx: Context) -> str:
        first = await ctx.step.run("first", lambda: "first")
        if not mended:
            raise NonRetriableError("broken")
        return first

    async def scenario() -> None:
        world = World(holding(fn))
        run = await world.send()
        await until(world, BodyHeld)
        mended.append(1)
        world.submit(ResumeRun(run))
        end = await world.end(run)
        assert isinstance(end, RunCompleted) and end.result == b'"first"'

    play(scenario)


def test_a_caught_step_error_that_an_operator_let_through_is_one_the_body_can_use() -> None:
    async def fn(ctx: Context) -> str:
        try:
            return await ctx.step.run("ask", closed)
        except StepError as error:
            return error.name

    async def scenario() -> None:
        world = World(holding(fn))
        run = await world.send()
        await until(world, StepHeld)
        world.submit(FailRun(run))
        end = await world.end(run)
        assert isinstance(end, RunCompleted) and end.result == b'"ConnectionError"'

    play(scenario)
