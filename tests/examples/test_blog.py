"""The blog: do views, milestones and crons do what the example says?"""

from __future__ import annotations

import pytest

from examples import blog, records
from millstream import Event
from millstream.testing import TestApp


async def view(t: TestApp, post: str, times: int) -> None:
    for _ in range(times):
        await t.send(Event("blog/post.viewed", {"post": post}))


async def test_the_tenth_view_is_a_milestone_and_the_author_hears_of_it_once() -> None:
    async with TestApp(blog.app) as t:
        await view(t, "hello", 12)
        told = [run.result for run in t.runs if run.function == "blog-congratulate"]
    assert told == ["hello was read 10 times"]
    assert [mail["subject"] for mail in records.found("mail")] == told


async def test_trending_is_recomputed_every_hour_from_the_last_24_hours() -> None:
    async with TestApp(blog.app) as t:
        await view(t, "old", 3)
        await t.advance("23h")
        await view(t, "new", 2)
        await t.advance("1h")
        assert records.found("trending") == [{"old": 3, "new": 2}]
        await t.advance("2h")
        assert records.found("trending") == [{"new": 2}]


async def test_the_nightly_refresh_renders_what_is_trending() -> None:
    async with TestApp(blog.app) as t:
        await view(t, "hello", 2)
        await t.advance("1d")
        nightly = [run for run in t.runs if run.function == "blog-refresh_cache"]
    assert [run.result for run in nightly] == [["hello: 2 views"]]


async def test_a_refresh_that_fails_is_not_tried_again_before_the_next_night() -> None:
    async with TestApp(blog.app) as t:
        t.stub("render", ConnectionError("the cache does not answer"))
        await t.advance("1d")
        nightly = [run for run in t.runs if run.function == "blog-refresh_cache"]
    assert [(run.status, run.error.name) for run in nightly] == [("Failed", "ConnectionError")]


def test_a_refresh_without_a_trending_list_says_what_is_missing() -> None:
    with pytest.raises(blog.NonRetriableError, match="expected the list of trending posts, got none"):
        blog.render()
