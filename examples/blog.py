"""A blog that counts: views make milestones, an hourly cron says what is trending, a nightly one refreshes a cache.

Shows a function that sends an event another function starts on, an event id that makes a milestone happen once,
crons with and without a time zone, and two ways to meet failure: attempts in quick succession for a counter, none at
all for a nightly job that is pointless an hour later.

    millstream dev examples.blog:app
    millstream events send blog/post.viewed --data '{"post": "hello-world"}'
"""

from __future__ import annotations

from typing import TypedDict

import millstream
from examples import mail, records
from millstream import App, Context, Event, Exponential, NonRetriableError

AUTHOR = "author@example.com"
MILESTONES = frozenset({10, 100, 1_000, 10_000})
TRENDING_FOR_MS = 24 * 3_600_000
TRENDING_POSTS_MAX = 5

app = App("blog")


class Viewed(TypedDict):
    """The data of ``blog/post.viewed``."""

    post: str


class Reached(TypedDict):
    """The data of ``blog/milestone.reached``."""

    post: str
    views: int


@app.function(on="blog/post.viewed", retries=8, backoff=Exponential("100ms", maximum="10s"))
async def count_view(ctx: Context[Viewed]) -> int:
    """Count one view; a milestone is an event of its own."""
    post = ctx.event.data["post"]
    views = await ctx.step.run("count", count, post, ctx.event.ts)
    if views in MILESTONES:
        # The id: should two views ever claim the same milestone, the second event starts nothing.
        reached = Event("blog/milestone.reached", {"post": post, "views": views}, id=f"{post}/{views}")
        await ctx.step.send_event("announce", reached)
    return views


@app.function(on="blog/milestone.reached")
async def congratulate(ctx: Context[Reached]) -> str:
    """Tell the author."""
    reached = ctx.event.data
    subject = f"{reached['post']} was read {reached['views']:,} times"
    await ctx.step.run("mail-author", mail.send, AUTHOR, subject, "Congratulations.")
    return subject


@app.function(cron="0 * * * *")
async def recompute_trending(ctx: Context) -> dict[str, int]:
    """Every hour: which posts were read most in the 24 hours before."""
    return await ctx.step.run("recompute", recompute, ctx.event.ts)


@app.function(cron="TZ=Europe/Paris 0 3 * * *", retries=0)
async def refresh_cache(ctx: Context) -> list[str]:
    """Every night at three in Paris. It fails fast: at noon nobody wants last night's attempt any more."""
    return await ctx.step.run("render", render)


def count(post: str, at_ms: int) -> int:
    """Record the view; how many there were up to this one. The same view is never counted twice."""
    return records.keep("view", millstream.current().idempotency_key, post, {}, at_ms)


def recompute(now_ms: int) -> dict[str, int]:
    """The posts read most, with their views, most first."""
    read = records.counts("view", now_ms - TRENDING_FOR_MS)
    trending = dict(list(read.items())[:TRENDING_POSTS_MAX])
    records.replace("trending", "now", "", trending)
    return trending


def render() -> list[str]:
    """Lines for the front page. Raises NonRetriableError when there is nothing to render from."""
    lists = records.found("trending")
    if not lists:
        raise NonRetriableError(
            "the front page was not refreshed: expected the list of trending posts, got none. Was "
            "recompute_trending ever run? The old page stays; the next try is tomorrow night."
        )
    return [f"{post}: {views} views" for post, views in lists[0].items()]
