"""The functions of the fleet that the tests run; FLEET_NOTES is where their code says what it really did."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from millstream import App, Context, SyncContext

app = App("fleet")
NOTES = Path(os.environ.get("FLEET_NOTES", "/dev/null"))


def note(text: str) -> None:
    """One line, whole even where several processes write."""
    with NOTES.open("a") as file:
        file.write(f"{text} by {os.environ.get('FLEET_WORKER', '?')}\n")


async def work(n: int, seconds: float) -> int:
    note(f"began {n}")
    await asyncio.sleep(seconds)
    note(f"did {n}")
    return n


@app.function(on="fleet/work")
async def worked(ctx: Context) -> int:
    done = await ctx.step.run("work", work, ctx.event.data["n"], ctx.event.data["seconds"])
    return await ctx.step.run("after", lambda: note(f"after {done}") or done)


@app.function(on="fleet/quick")
def quick(ctx: SyncContext) -> int:
    n: int = ctx.event.data["n"]
    return ctx.step.run("only", lambda: note(f"quick {n}") or n)


@app.function(on="fleet/sleep")
async def sleeper(ctx: Context) -> str:
    before = await ctx.step.run("before", lambda: note("slept") or "kept")
    await ctx.step.sleep("night", ctx.event.data["length"])
    return await ctx.step.run("woken", lambda: note("woken") or before)


@app.function(on="fleet/publish", retries=0)
async def publisher(ctx: Context) -> None:
    wanted = ctx.event.data
    await ctx.step.publish("tell", wanted["topic"], wanted["key"], "x" * wanted["size"])


if os.environ.get("FLEET_VERSION") == "2":

    @app.function(on="fleet/new")
    async def new(ctx: Context) -> None:
        await ctx.step.run("only", lambda: note(f"new {ctx.event.data['n']}"))
