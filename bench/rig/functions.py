"""The functions that benches run: trivial steps, so that what is measured is millstream."""

from __future__ import annotations

import time
from typing import Final

from millstream import App, Context

THREE: Final = "bench/three"
STAMPED: Final = "bench/stamped"
NAP: Final = "bench/nap"
COMPUTE: Final = "bench/compute"
NOBODY: Final = "bench/nobody"
ORDERED: Final = "bench/ordered"
PAID: Final = "bench/paid"
PARENT: Final = "bench/parent"
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


async def stamp() -> float:
    """When it began, on the clock that all processes of a machine share."""
    return time.perf_counter()


@app.function(on=STAMPED)
async def stamped(ctx: Context) -> float:
    """Three steps; the first one's result says when it began."""
    await ctx.step.run("one", stamp)
    await ctx.step.run("two", stamp)
    return await ctx.step.run("three", stamp)


@app.function(on=NAP)
async def nap(ctx: Context) -> None:
    """A sleep as long as the event says, in seconds."""
    await ctx.step.sleep("nap", float(ctx.event.data["s"]))


def count_primes(below: int) -> int:
    """Pure Python that computes: some milliseconds of one interpreter."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, below))


async def compute(below: int) -> int:
    """The same on the loop."""
    return count_primes(below)


@app.function(on=COMPUTE)
async def computing(ctx: Context) -> int:
    """Three steps that compute."""
    below = ctx.event.data["below"]
    a = await ctx.step.run("one", compute, below)
    b = await ctx.step.run("two", compute, below)
    return a + b + await ctx.step.run("three", compute, below)


@app.function(on=ORDERED)
async def order(ctx: Context) -> bool:
    """A wait for the event with the same number."""
    return await ctx.step.wait_for_event("paid", event=PAID, match="data.n", timeout="7d") is not None


@app.function(on="bench/child")
async def child(ctx: Context) -> None:
    """Nothing, for a parent that waits for it."""


@app.function(on=PARENT)
async def parent(ctx: Context) -> float:
    """An empty child; the result is how long it took, in seconds."""
    begun = time.perf_counter()
    await ctx.step.invoke("child", child)
    return time.perf_counter() - begun
