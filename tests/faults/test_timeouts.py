"""A step that the body's own timer gave up is given up in every replay, as it was the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest

from millstream import App, Context, Event, StepError
from millstream.testing import Sent, TestApp

SHORT_S = 0.05


async def hang() -> str:
    await asyncio.sleep(60)
    return "special price"


async def timeout(ctx: Context, work: Callable[[], Any]) -> str:
    try:
        async with asyncio.timeout(SHORT_S):
            return str(await work())
    except TimeoutError:
        return str(await ctx.step.run("use-list-price", str, "list price"))


async def wait_for(ctx: Context, work: Callable[[], Any]) -> str:
    try:
        return str(await asyncio.wait_for(work(), SHORT_S))
    except TimeoutError:
        return str(await ctx.step.run("use-list-price", str, "list price"))


async def wait(ctx: Context, work: Callable[[], Any]) -> str:
    task = asyncio.ensure_future(work())
    done, _ = await asyncio.wait({task}, timeout=SHORT_S)
    if done:
        return str(task.result())
    task.cancel()
    return str(await ctx.step.run("use-list-price", str, "list price"))


async def nested(ctx: Context, work: Callable[[], Any]) -> str:
    try:
        async with asyncio.timeout(30):
            return await timeout(ctx, lambda: asyncio.wait_for(work(), 20))
    except TimeoutError:
        return "the outer one rang"


async def awaited(work: Callable[[], Any]) -> None:
    await work()


async def grouped(ctx: Context, work: Callable[[], Any]) -> str:
    try:
        async with asyncio.timeout(SHORT_S), asyncio.TaskGroup() as group:
            group.create_task(awaited(work))
            group.create_task(awaited(work))
    except TimeoutError:
        return str(await ctx.step.run("use-list-price", str, "list price"))
    return "never"


WORK: dict[str, Callable[[Context], Any]] = {
    "run": lambda ctx: ctx.step.run("ask-slow-partner", hang),
    "sleep": lambda ctx: ctx.step.sleep("long", "1h"),
    "gather": lambda ctx: asyncio.gather(ctx.step.run("one", hang), ctx.step.run("two", hang)),
    "shield": lambda ctx: asyncio.shield(ctx.step.sleep("long", "1h")),
}


@pytest.mark.parametrize("how", [timeout, wait_for, wait, nested, grouped])
@pytest.mark.parametrize("what", WORK)
@pytest.mark.parametrize("crash", [True, False])
async def test_a_step_that_ran_out_of_time_does_so_in_every_replay(how: Any, what: str, crash: bool) -> None:
    app, began = App("to"), []

    @app.function(on="quote/asked", retries=0)
    async def quote(ctx: Context) -> str:
        began.append(1)
        price = await how(ctx, lambda: WORK[what](ctx))
        await ctx.step.sleep("cool-off", "12s")
        last: str = await ctx.step.run("last", str, price)
        return last

    async with TestApp(app) as t:
        sent: Sent = await t.send(Event("quote/asked"))
        await asyncio.sleep(2 * SHORT_S)  # The timer is real: a sleeping run does not wait for it.
        await t.settle()
        if crash:
            await t.crash()
        await t.advance("15s")
        assert (sent.status, sent.result) == ("Completed", "list price")
    assert len(began) == 1 + crash


async def test_a_long_timeout_that_rang_rings_at_once_in_a_replay() -> None:
    app = App("to")

    @app.function(on="y", retries=0)
    async def y(ctx: Context) -> str:
        limit_s = 3_600 if ctx.step._driver.replaying else SHORT_S
        try:
            async with asyncio.timeout(limit_s):
                await ctx.step.run("ask", hang)
        except TimeoutError:
            await ctx.step.sleep("cool-off", "12s")
        return "timed out"

    async with TestApp(app) as t:
        sent = await t.send(Event("y"))
        began_s = perf_counter()
        await t.crash()
        await t.advance("15s")
        assert sent.result == "timed out"
        assert perf_counter() - began_s < 5


async def test_a_step_that_ended_in_time_does_so_in_every_replay() -> None:
    app = App("to")

    @app.function(on="x", retries=0)
    async def x(ctx: Context) -> list[str]:
        found = []
        for n in range(3):
            async with asyncio.timeout(30):
                found.append(await ctx.step.run("ask", str, n))
        await ctx.step.sleep("cool-off", "12s")
        return found

    async with TestApp(app) as t:
        sent = await t.send(Event("x"))
        await t.crash()
        await t.advance("15s")
        assert sent.result == ["0", "1", "2"]


async def test_a_step_cancelled_by_hand_is_cancelled_by_hand_in_a_replay() -> None:
    app = App("to")

    @app.function(on="x", retries=0)
    async def x(ctx: Context) -> str:
        slow = asyncio.create_task(ctx.step.run("slow", hang))
        fast = await ctx.step.run("fast", str, "fast")
        slow.cancel()
        try:
            await slow
        except asyncio.CancelledError:
            fast += " and cancelled"
        except StepError:
            fast += " and failed"
        await ctx.step.sleep("cool-off", "12s")
        return fast

    async with TestApp(app) as t:
        sent = await t.send(Event("x"))
        await t.crash()
        await t.advance("15s")
        assert sent.result == "fast and cancelled"
