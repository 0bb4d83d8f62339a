"""``asyncio.shield`` around a step costs nothing."""

from __future__ import annotations

import asyncio
from time import perf_counter

from millstream import App, Context, Event
from millstream.testing import TestApp


async def test_shielded_steps_cost_no_waiting() -> None:
    app = App("sh")

    @app.function(on="x", retries=0)
    async def x(ctx: Context) -> list[int]:
        found = [await asyncio.shield(ctx.step.run("s", int)) for _ in range(5)]
        found += await asyncio.gather(*(asyncio.shield(ctx.step.run("g", int)) for _ in range(5)))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.step.run("t", int)) for _ in range(2)]
            found += [await asyncio.shield(task) for task in tasks]
        found.append(await asyncio.shield(asyncio.shield(ctx.step.run("n", int))))
        found += await asyncio.shield(asyncio.gather(ctx.step.run("o", int), ctx.step.run("p", int)))
        done, _ = await asyncio.wait({asyncio.shield(ctx.step.run("w", int))})
        return [*found, *(one.result() for one in done)]

    async with TestApp(app) as t:
        began_s = perf_counter()
        assert (await t.send(Event("x"))).result == [0] * 16
        assert perf_counter() - began_s < 0.9  # One answer that was held back would cost a second.
