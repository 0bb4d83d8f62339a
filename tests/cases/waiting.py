"""The functions of the cases that wait: a second app of the group, which invokes the first one's functions by id."""

from __future__ import annotations

import asyncio
from typing import Any

from millstream import App, CancelOn, Context, InvokeTimeout, On, StepError, Timeouts
from millstream.sdk.received import Received

app = App("waiting")


def _data(came: Received[Any] | None) -> Any:
    return None if came is None else came.data


@app.function(on="waiting/order")
async def order(ctx: Context) -> Any:
    """Waits for its payment; sleeps first, where it is told to."""
    asked = ctx.event.data
    await ctx.step.sleep("before", asked.get("before_s", 0))
    paid = await ctx.step.wait_for_event(
        "paid", event="waiting/paid", match="data.order_id", timeout=asked["wait_s"], lookback=asked.get("lookback")
    )
    return _data(paid)


@app.function(on="waiting/expression")
async def expression(ctx: Context) -> Any:
    """Waits for an offer that is low enough."""
    if_ = "async.data.item == event.data.item && async.data.price <= event.data.most"
    return _data(await ctx.step.wait_for_event("offer", event="waiting/offer", if_=if_, timeout="1h"))


@app.function(on="waiting/loop")
async def loop(ctx: Context) -> list[Any]:
    """Waits three times for an event such as its own."""
    found = []
    for _ in range(3):
        came = await ctx.step.wait_for_event("next", event="waiting/next", match="data.order_id", timeout="1h")
        found.append(_data(came)["n"])
    return found


@app.function(on="waiting/own")
async def own(ctx: Context) -> Any:
    """Waits for another event of the name that has started it."""
    wait_s = ctx.event.data["wait_s"]
    return _data(await ctx.step.wait_for_event("own", event="waiting/own", match="data.order_id", timeout=wait_s))


@app.function(on="waiting/several")
async def several(ctx: Context) -> list[Any]:
    """Waits for one of two events, and then for both."""
    on = [On("waiting/paid", match="data.order_id"), On("waiting/shipped", match="data.order_id")]
    first = await ctx.step.wait_for_any("any", on, timeout="1h")
    both = await ctx.step.wait_for_all("all", on, timeout="1h")
    assert first is not None and both is not None
    return [first.on, first.data["n"], [came.data["n"] for came in both]]


@app.function(on="waiting/stoppable", cancel_on=CancelOn("waiting/stop", match="data.order_id"))
async def stoppable(ctx: Context) -> None:
    """Is cancelled by an event."""
    await ctx.step.sleep("long", "1h")


@app.function(on="waiting/bounded", timeouts=Timeouts(finish="1s"))
async def bounded(ctx: Context) -> None:
    """Is cancelled by its time."""
    await ctx.step.sleep("long", "1h")


@app.function(on="waiting/caller")
async def caller(ctx: Context) -> Any:
    """Invokes a function of the other app, and says how that ended."""
    try:
        return await ctx.step.invoke_by_id("call", ctx.event.data["function"], data=ctx.event.data, timeout="1m")
    except StepError as error:
        return f"{error.name}: {error}"


@app.function()
async def endless(ctx: Context) -> None:
    """Is never over by itself."""
    await ctx.step.wait_for_signal("never", f"never-{ctx.run_id}", timeout="1h")


@app.function(on="waiting/parent")
async def parent(ctx: Context) -> str:
    """Invokes a function that is not over in time, and one that goes on when this run is cancelled."""
    try:
        await ctx.step.invoke("late", endless, timeout="300ms")
    except InvokeTimeout as error:
        late = str(error)
    await asyncio.gather(
        ctx.step.invoke("detached", endless, detached=True, timeout="1h"),
        ctx.step.invoke("taken-along", endless, timeout="1h"),
    )
    return late


@app.function(on="waiting/approval")
async def approval(ctx: Context) -> Any:
    """Waits for a signal, and takes it from another run where it is told to."""
    asked = ctx.event.data
    try:
        return await ctx.step.wait_for_signal("ok", asked["signal"], timeout=asked["wait_s"], on_conflict=asked["how"])
    except StepError as error:
        return f"refused: {error}"
