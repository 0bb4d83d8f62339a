"""A small shop to test the test kit on; the services it calls are plain functions that note their calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from millstream import App, Context, Event, SyncContext

calls: list[str] = []


@dataclass
class Charge:
    """What the bank answers."""

    id: int
    cents: int = 0


async def charge(order: int) -> Charge:
    calls.append(f"charge {order}")
    return Charge(id=order * 10)


async def mail(to: str) -> str:
    calls.append(f"mail {to}")
    return f"sent to {to}"


def make() -> App:
    """A new app, so that tests share nothing."""
    calls.clear()
    app = App("shop")

    @app.function(on="order/placed")
    async def fulfil(ctx: Context) -> dict[str, object]:
        paid = await ctx.step.run("charge", charge, ctx.event.data["order"])
        assert isinstance(paid, Charge)
        await ctx.step.sleep("cool-off", "3d")
        a, b = await asyncio.gather(ctx.step.run("mail", mail, "ada"), ctx.step.run("copy", mail, "team"))
        await ctx.step.send_event("announce", Event("order/done", {"charge": paid.id}))
        await ctx.step.publish("ledger", "ledger", "k", {"charge": paid.id})
        return {"charge": paid.id, "mails": [a, b]}

    @app.function(on="order/done")
    async def thank(ctx: Context) -> int:
        return ctx.event.data["charge"]

    @app.function(on="report/wanted")
    def report(ctx: SyncContext) -> list[str]:
        return [ctx.step.run("page", mail, str(n)) for n in range(2)]

    @app.function(on="order/*")
    async def audit(ctx: Context) -> str:
        return ctx.event.name

    return app
