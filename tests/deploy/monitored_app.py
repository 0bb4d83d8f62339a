"""Functions for dashboards to show: they fail, are held, queue, are dropped, sleep, and are parked by a second version.

Run with ``examples.orders`` beside them. MONITORED_VERSION=2 has lost one function and changed the step of another.
"""

from __future__ import annotations

import asyncio
import os

from millstream import App, Concurrency, Context, NonRetriableError, RateLimit

app = App("watched")
VERSION = os.environ.get("MONITORED_VERSION", "1")


def refuse() -> None:
    raise NonRetriableError("as the test wants it")


@app.function(on="watched/fails")
async def fails(ctx: Context) -> None:
    await ctx.step.run("refuse", refuse)


@app.function(on="watched/held", on_exhausted="hold")
async def held(ctx: Context) -> None:
    await ctx.step.run("refuse", refuse)


@app.function(on="watched/queues", concurrency=Concurrency(1))
async def queues(ctx: Context) -> None:
    await ctx.step.run("a while", asyncio.sleep, 0.2)
    await ctx.step.sleep("a moment", "100ms")


@app.function(on="watched/dropped", rate_limit=RateLimit(1, "1h"))
async def dropped(ctx: Context) -> str:
    return "the first of an hour"


@app.function(on="watched/changes")
async def changes(ctx: Context) -> None:
    await ctx.step.run("one" if VERSION == "1" else "another", str)
    await ctx.step.wait_for_event("until the next version", event="watched/go", timeout="1h")


if VERSION == "1":

    @app.function(on="watched/lost")
    async def lost(ctx: Context) -> None:
        await ctx.step.sleep("until the next version", "1h")
