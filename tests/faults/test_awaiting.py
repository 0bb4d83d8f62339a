"""A step that is asked for and never awaited fails the run, and the error names the line."""

from __future__ import annotations

import asyncio
from typing import Any

from millstream import App, Context, Event, StepError
from millstream.testing import Run, TestApp


async def run_of(body: Any) -> Run:
    app = App("awaiting")
    app.function(on="x", retries=3)(body)
    async with TestApp(app) as t:
        (run,) = (await t.send(Event("x"))).runs
    return run


async def test_a_step_that_is_never_awaited_fails_the_run_with_its_line() -> None:
    async def body(ctx: Context) -> str:
        await ctx.step.run("a", int)
        ctx.step.run("b", int)
        await ctx.step.run("c", int)
        return "done"

    run = await run_of(body)
    assert run.status == "Failed" and run.error is not None
    line = body.__code__.co_firstlineno + 2
    assert f"{__file__}, line {line}, in " in run.error.message
    assert "1 of its steps were never awaited" in run.error.message


async def test_every_tool_is_watched() -> None:
    async def body(ctx: Context) -> None:
        ctx.step.sleep("s", 1)
        ctx.step.sleep_until("u", "2030-01-01T00:00:00Z")
        ctx.step.send_event("e", Event("y"))
        ctx.step.publish("p", "topic", "k", 1)

    run = await run_of(body)
    assert run.error is not None and "4 of its steps were never awaited" in run.error.message


async def test_a_task_that_was_made_and_never_given_a_turn_counts_too() -> None:
    async def body(ctx: Context) -> None:
        task = asyncio.create_task(ctx.step.run("b", int))
        assert task

    run = await run_of(body)
    assert run.status == "Failed"


async def test_steps_that_were_begun_cancelled_or_gathered_are_awaited() -> None:
    async def body(ctx: Context) -> list[int]:
        found: list[int] = await asyncio.gather(*(ctx.step.run(f"g{n}", int) for n in range(20)))
        slow = asyncio.create_task(ctx.step.run("slow", asyncio.sleep, 0.5))
        slow.cancel()  # Before its turn.
        with_timeout = asyncio.wait_for(ctx.step.run("never", int), 0)
        try:
            await with_timeout
        except (TimeoutError, StepError):
            found.append(1)
        return found

    run = await run_of(body)
    assert (run.status, run.result) == ("Completed", [0] * 20 + [1])
