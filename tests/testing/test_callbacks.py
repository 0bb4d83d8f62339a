"""Callbacks under test: what is posted, and when, and whatever died meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from millstream import App, Callback, Context, Event, StepError, SyncCallback, SyncContext
from millstream.testing import NotAsExpected, TestApp

ORDER = Event("order/placed", {"order_id": 7})


def desk(sent: list[Callback | SyncCallback]) -> App:
    """An order is approved by mail, or refused when three days are over."""
    app = App("desk")

    def mail(url: str) -> None:
        assert url.startswith("https://callbacks.test/v1/callbacks/")

    @app.function(on="order/placed")
    async def order(ctx: Context) -> object:
        approval = await ctx.step.callback("approve", timeout="3d")
        sent.append(approval)
        await ctx.step.run("mail", mail, approval.url)
        answer = await approval.result()
        return "too late" if answer is None else answer

    @app.function(on="order/plain")
    def plain(ctx: SyncContext) -> object:
        approval = ctx.step.callback("approve", timeout="3d")
        sent.append(approval)
        ctx.step.run("mail", mail, approval.url)
        return approval.result() or "too late"

    return app


@pytest.mark.parametrize("event", ["order/placed", "order/plain"])
async def test_a_post_ends_the_wait_with_its_body(event: str) -> None:
    sent: list[Any] = []
    async with TestApp(desk(sent)) as t:
        began = t.now
        run = await t.send(Event(event, {}))
        step = run.steps["approve/result"]
        assert (run.status, step.status, step.kind) == ("Running", "waiting", "callback_post")
        assert step.waits_for == "a post to callback approve"
        assert step.wakes_at == began + timedelta(days=3)
        assert run.steps["approve"].result == {"id": sent[0].id}
        await t.callback("approve", {"by": "Ada"})
        assert run.result == {"by": "Ada"}
        assert not step.timed_out


@pytest.mark.parametrize("event", ["order/placed", "order/plain"])
async def test_without_a_post_the_result_is_none_when_the_time_is_over_and_not_before(event: str) -> None:
    sent: list[Any] = []
    async with TestApp(desk(sent)) as t:
        run = await t.send(Event(event, {}))
        await t.advance("71h")
        assert run.status == "Running"
        await t.advance("1h")
        assert run.result == "too late"
        assert run.steps["approve/result"].timed_out


async def test_a_callback_is_named_by_its_url_its_id_or_its_step() -> None:
    sent: list[Any] = []
    async with TestApp(desk(sent)) as t:
        runs = [await t.send(ORDER) for _ in range(3)]
        with pytest.raises(NotAsExpected, match="'approve' is 3 callbacks"):
            await t.callback("approve")
        await t.callback(sent[0].url, 1)
        await t.callback(sent[1].id, 2)
        await t.callback("approve", 3)
        assert [run.result for run in runs] == [1, 2, 3]
        with pytest.raises(NotAsExpected, match="is 0 callbacks: open runs have made none"):
            await t.callback("approve")
        assert sent[0].url not in repr(sent[0]) and sent[0].id in repr(sent[0])


def app_that_asks_late(takes: list[object]) -> App:
    """It does other things first, and asks twice."""
    app = App("late")

    @app.function(on="go")
    async def late(ctx: Context) -> object:
        made = await ctx.step.callback("cb", timeout="1d")
        await ctx.step.sleep("first", ctx.event.data["sleeps"])
        one = await made.result()
        takes.append(one)
        two, _ = await asyncio.gather(made.result(), ctx.step.run("beside", lambda: 1))
        return [one, two]

    return app


async def test_a_post_that_comes_before_the_run_asks_is_kept_over_a_crash() -> None:
    takes: list[object] = []
    async with TestApp(app_that_asks_late(takes)) as t:
        run = await t.send(Event("go", {"sleeps": "1h"}))
        await t.callback("cb", "yes")
        with pytest.raises(NotAsExpected, match="somebody has posted to it before"):
            await t.callback("cb", "no")
        await t.crash()
        await t.advance("1h")
        assert run.result == ["yes", "yes"]
        assert run.steps["cb/result:1"].result == "yes"


async def test_whoever_asks_when_the_time_is_over_gets_none_at_once_and_a_post_is_refused() -> None:
    async with TestApp(app_that_asks_late([])) as t:
        run = await t.send(Event("go", {"sleeps": "25h"}))
        await t.advance("24h")
        with pytest.raises(NotAsExpected, match=r"takes no post .* its time is over"):
            await t.callback("cb", "yes")
        await t.advance("1h")
        assert run.result == [None, None]


async def test_a_crash_at_any_step_changes_nothing() -> None:
    for step in ("approve", "mail", "approve/result"):
        sent: list[Any] = []
        async with TestApp(desk(sent)) as t:
            t.crash_after(step)
            run = await t.send(ORDER)
            await t.callback("approve", [1])
            assert run.result == [1]
            assert len({one.url for one in sent}) == 1, "a callback has one URL, whoever asks again"


async def test_callbacks_in_a_loop_are_callbacks_of_their_own() -> None:
    app = App("loop")
    urls: list[str] = []

    @app.function(on="go")
    async def loop(ctx: Context) -> object:
        answers = []
        for _ in range(3):
            made = await ctx.step.callback("ask", timeout="1d")
            urls.append(made.url)
            answers.append(await made.result())
        return answers

    async with TestApp(app) as t:
        run = await t.send(Event("go", {}))
        for number in range(3):
            await t.callback("ask" if not number else f"ask:{number}", number)
        assert run.result == [0, 1, 2]
        assert len(set(urls)) == 3
        assert list(run.steps) == ["ask", "ask/result", "ask:1", "ask:1/result", "ask:2", "ask:2/result"]


async def test_two_callbacks_race_and_a_replay_ends_as_the_first_time() -> None:
    app = App("race")
    wins: list[object] = []

    @app.function(on="go")
    async def race(ctx: Context) -> object:
        yes = await ctx.step.callback("yes", timeout="1d")
        no = await ctx.step.callback("no", timeout="1d")
        async with asyncio.TaskGroup() as tasks:
            each = [tasks.create_task(one.result()) for one in (yes, no)]
            done, _ = await asyncio.wait(each, return_when=asyncio.FIRST_COMPLETED)
            wins.append([task.result() for task in done])
            await ctx.step.sleep("then", "1h")
        return wins[-1]

    async with TestApp(app) as t:
        run = await t.send(Event("go", {}))
        await t.callback("no", "no")
        await t.callback("yes", "yes")
        await t.crash()
        await t.advance("1h")
        assert run.result == ["no"]
        assert wins == [["no"], ["no"]]


async def test_a_callback_that_nobody_asks_for_holds_no_run() -> None:
    app = App("a")

    @app.function(on="go")
    async def go(ctx: Context) -> str:
        return (await ctx.step.callback("cb", timeout="1d")).id

    async with TestApp(app) as t:
        run = await t.send(Event("go", {}))
        assert run.status == "Completed"
        with pytest.raises(NotAsExpected):
            await t.callback(run.result)


async def test_a_result_that_was_not_awaited_is_named_with_its_line() -> None:
    app = App("a")

    @app.function(on="go", retries=0)
    async def go(ctx: Context) -> None:
        made = await ctx.step.callback("cb", timeout="1d")
        made.result()

    async with TestApp(app) as t:
        run = await t.send(Event("go", {}))
        assert run.status == "Failed"
        assert "were never awaited" in run.error.message and __file__ in run.error.message


@pytest.mark.parametrize("timeout", [None, "367d", -1, "soon"])
async def test_a_time_that_cannot_be_fails_the_run_at_the_call(timeout: Any) -> None:
    app = App("a")

    @app.function(on="go", retries=0)
    async def go(ctx: Context) -> None:
        try:
            await ctx.step.callback("cb", timeout=timeout)
        except StepError:
            raise AssertionError("it must not be recorded") from None

    async with TestApp(app) as t:
        run = await t.send(Event("go", {}))
        assert (run.status, run.error.name) == ("Failed", "FunctionError")
