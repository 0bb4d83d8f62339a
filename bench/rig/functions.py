"""The functions that benches run: trivial steps, so that what is measured is penstock."""

from __future__ import annotations

from typing import Final

from penstock import App, Context

THREE: Final = "bench/three"
NAP: Final = "bench/nap"
NOBODY: Final = "bench/nobody"
app = App("bench")


async def increment(n: int) -> int:
    """A step's work."""
    return n + 1


@app.function(on=THREE)
async def three(ctx: Context) -> int:
    """Three steps, each recorded before the next begins."""
    a = await ctx.step.run("one", increment, ctx.event.data["n"])
    b = await ctx.step.run("two", increment, a)
    return await ctx.step.run("three", increment, b)


@app.function(on=NAP)
async def nap(ctx: Context) -> None:
    """A sleep as long as the event says, in seconds."""
    await ctx.step.sleep("nap", float(ctx.event.data["s"]))
