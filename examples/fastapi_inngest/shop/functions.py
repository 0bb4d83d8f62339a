"""What the shop does behind its web site. Each step is remembered: after a crash, none with a result runs again."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import inngest

from shop import mail, records
from shop.client import client

TEAM = "team@example.com"


@client.create_function(fn_id="answer-message", trigger=inngest.TriggerEvent(event="shop/message.received"))
async def answer_message(ctx: inngest.Context) -> dict[str, Any]:
    """Mail the team and the visitor, side by side."""
    name, email, text = (str(ctx.event.data[field]) for field in ("name", "email", "text"))
    team, visitor = await ctx.group.parallel(
        (
            lambda: ctx.step.run("mail-team", mail.send, f"{ctx.run_id}.team", TEAM, f"Message from {name}", text),
            lambda: ctx.step.run(
                "mail-visitor",
                mail.send,
                f"{ctx.run_id}.visitor",
                email,
                "Thank you",
                f"{name}, we have your message.",
            ),
        )
    )
    return {"mails": [team, visitor]}


@client.create_function(fn_id="fulfil-order", trigger=inngest.TriggerEvent(event="shop/order.placed"))
async def fulfil_order(ctx: inngest.Context) -> dict[str, Any]:
    """Reserve the goods, wait for the payment, and ship them; without a payment in time, release them."""
    order, item, hold_s = (ctx.event.data[field] for field in ("order", "item", "hold_s"))

    async def reach(state: str) -> dict[str, Any]:
        return records.put("orders", str(order), {"item": item, "state": state})

    await ctx.step.run("reserve", reach, "reserved")
    paid = await ctx.step.wait_for_event(
        "payment",
        event="shop/order.paid",
        if_exp="event.data.order == async.data.order",
        timeout=datetime.timedelta(seconds=float(str(hold_s))),
    )
    if paid is None:
        return await ctx.step.run("release", reach, "expired")
    return await ctx.step.run("ship", reach, "shipped")


ACCOUNT_CREATED = inngest.TriggerEvent(event="shop/account.created")


@client.create_function(fn_id="welcome", trigger=ACCOUNT_CREATED)
async def welcome(ctx: inngest.Context) -> str:
    """One of three functions that a new account starts. Each has its own retries: none waits for another."""
    email = str(ctx.event.data["email"])
    return await ctx.step.run("mail", mail.send, ctx.run_id, email, "Welcome", "It is good to have you here.")


@client.create_function(fn_id="start-trial", trigger=ACCOUNT_CREATED)
async def start_trial(ctx: inngest.Context) -> dict[str, Any]:
    """A trial of 14 days, from the time of the sign-up, however late this runs."""

    async def start() -> dict[str, Any]:
        ends = datetime.datetime.fromtimestamp(ctx.event.ts / 1_000, datetime.UTC) + datetime.timedelta(days=14)
        return records.put("trials", str(ctx.event.data["account"]), {"ends": ends.isoformat()})

    return await ctx.step.run("start", start)


@client.create_function(fn_id="subscribe-to-newsletter", trigger=ACCOUNT_CREATED)
async def subscribe_to_newsletter(ctx: inngest.Context) -> dict[str, Any]:
    """The newsletter's list."""

    async def subscribe() -> dict[str, Any]:
        return records.put("newsletter", str(ctx.event.data["account"]), {"email": ctx.event.data["email"]})

    return await ctx.step.run("subscribe", subscribe)


@client.create_function(fn_id="refresh-figures", trigger=inngest.TriggerCron(cron="0 * * * *"))
async def refresh_figures(ctx: inngest.Context) -> dict[str, Any]:
    """Count the orders by state once an hour, for the front page."""

    async def count() -> dict[str, Any]:
        states = Counter(order["state"] for _, order in records.every("orders"))
        return records.put("figures", "orders", dict(states))

    return await ctx.step.run("count", count)


ALL: list[inngest.Function[Any]] = [
    answer_message,
    fulfil_order,
    welcome,
    start_trial,
    subscribe_to_newsletter,
    refresh_figures,
]
