"""Coming to rest: is real waiting waited for, and what never ends named?"""

from __future__ import annotations

import asyncio
import time

import pytest

from millstream import App, Context, Event, SyncContext
from millstream.errors import FunctionError
from millstream.testing import NotAsExpected, TestApp, rig

SHORT_S = 0.02
PATIENCE_S = 0.2


def waits(seconds: float) -> App:
    app = App("a")

    @app.function(on="step")
    async def in_step(ctx: Context) -> None:
        await ctx.step.run("nap", asyncio.sleep, seconds)

    @app.function(on="thread")
    async def in_thread(ctx: Context) -> None:
        await ctx.step.run("nap", time.sleep, seconds)

    @app.function(on="body")
    async def in_body(ctx: Context) -> None:
        await asyncio.sleep(seconds)

    @app.function(on="both")
    async def in_parallel(ctx: Context) -> None:
        await asyncio.gather(ctx.step.run("a", asyncio.sleep, seconds), ctx.step.run("b", time.sleep, seconds))

    return app


@pytest.mark.parametrize("where", ["step", "thread", "body", "both"])
async def test_real_waiting_is_waited_for_and_costs_no_virtual_time(where: str) -> None:
    async with TestApp(waits(SHORT_S)) as t:
        before = t.now
        assert (await t.send(Event(where))).status == "Completed"
        assert t.now == before


@pytest.mark.parametrize(
    ("where", "named"),
    [("step", r"step 'nap' of run \w+ \(a-in_step\) does not end"), ("body", r"the body, between steps, of run")],
)
async def test_what_never_ends_is_named_once_patience_is_over(where: str, named: str) -> None:
    async with TestApp(waits(3_600), patience_s=PATIENCE_S) as t:
        with pytest.raises(NotAsExpected, match=named):
            await t.send(Event(where))


async def test_a_function_that_starts_itself_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "RECORDS_AT_ONE_TIME_MAX", 50)
    app = App("a")

    @app.function(on="go")
    async def echo(ctx: Context) -> None:
        await ctx.step.send_event("again", Event("go"))

    async with TestApp(app) as t:
        with pytest.raises(NotAsExpected, match=r"more than 50 journal records.*a-echo.*the event that starts it"):
            await t.send(Event("go"))


async def test_a_cron_that_fires_too_often_for_one_advance_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "LEAPS_PER_ADVANCE_MAX", 10)
    app = App("a")

    @app.function(cron="* * * * *")
    async def tick(ctx: Context) -> None: ...

    async with TestApp(app) as t:
        await t.advance("9m")
        assert len(t.runs) == 9
        with pytest.raises(NotAsExpected, match="more than 10 timers fired in one advance"):
            await t.advance("1h")


async def test_an_idle_year_is_one_leap() -> None:
    app = App("a")

    @app.function(on="go")
    async def sleeper(ctx: Context) -> None:
        await ctx.step.sleep("long", "300d")

    async with TestApp(app) as t:
        run = await t.send(Event("go"))
        await t.advance("365d")
        assert run.status == "Completed"


async def test_many_runs_wake_in_one_leap() -> None:
    app = App("a")

    @app.function(on="go")
    async def sleeper(ctx: Context) -> int:
        await ctx.step.sleep("nap", "1h")
        return int(ctx.event.data["n"])

    async with TestApp(app) as t:
        await t.send([Event("go", {"n": n}) for n in range(300)])
        await t.advance("1h")
        assert [run.result for run in t.runs] == list(range(300))


async def test_an_app_under_test_is_entered_once_and_needs_an_app() -> None:
    t = TestApp(waits(0))
    async with t:
        pass
    with pytest.raises(FunctionError, match="entered before"):
        await t.__aenter__()
    with pytest.raises(FunctionError, match="at least one App"):
        TestApp()


async def test_nothing_is_left_running_behind_a_test() -> None:
    before = asyncio.all_tasks()
    async with TestApp(waits(2 * PATIENCE_S), patience_s=PATIENCE_S) as t:
        with pytest.raises(NotAsExpected):
            await t.send(Event("both"))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def test_the_kit_runs_on_any_asyncio_loop_and_the_same_test_gives_the_same_ids() -> None:
    async def test() -> list[str]:
        async with TestApp(waits(0)) as t:
            await t.send(Event("step"))
            return [run.id for run in t.runs]

    assert asyncio.run(test()) == asyncio.run(test())


async def test_a_sync_step_sends_through_the_app_without_a_network() -> None:
    app = App("shop")

    @app.function(on="go")
    def go(ctx: SyncContext) -> int:
        return ctx.step.run("send", lambda: len(app.send_sync([Event("sent"), Event("sent")])))

    @app.function(on="sent")
    async def sent(ctx: Context) -> None: ...

    async with TestApp(app) as t:
        assert (await t.send(Event("go"))).result == 2
        assert [run.function for run in t.runs] == ["shop-go", "shop-sent", "shop-sent"]
        with pytest.raises(FunctionError, match=r"await app\.send"):
            app.send_sync(Event("go"))
