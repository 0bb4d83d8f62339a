"""Crashes: does a worker that dies lose nothing a test can see, and redo nothing that was recorded?"""

from __future__ import annotations

import asyncio

import pytest

from millstream import App, Context, Event, StepsChanged
from millstream.testing import NotAsExpected, TestApp
from tests.testing import shop

ORDER = Event("order/placed", {"order": 1})


@pytest.mark.parametrize("step", ["charge", "cool-off", "mail", "copy", "announce", "ledger"])
async def test_a_worker_that_dies_behind_any_step_goes_on_and_does_not_do_it_again(step: str) -> None:
    async with TestApp(shop.make()) as t:
        t.crash_after(step, function="fulfil")
        run = (await t.send(ORDER)).runs[0]
        await t.advance("3d")
        assert run.result == {"charge": 10, "mails": ["sent to ada", "sent to team"]}
        assert len(t.sent_events) == len(t.published) == 1
        assert [other.function for other in t.runs].count("shop-thank") == 1
    assert shop.calls.count("charge 1") == 1
    if step in ("mail", "copy"):
        assert shop.calls.count({"mail": "mail ada", "copy": "mail team"}[step]) == 1
    else:
        assert sorted(shop.calls) == ["charge 1", "mail ada", "mail team"]


async def test_dying_between_every_two_steps_changes_no_result() -> None:
    async with TestApp(shop.make()) as t:
        for step in ("charge", "cool-off", "announce", "ledger"):
            t.crash_after(step)
        run = (await t.send(ORDER)).runs[0]
        await t.advance("3d")
        assert run.status == "Completed"
    assert sorted(shop.calls) == ["charge 1", "mail ada", "mail team"]


async def test_a_worker_that_dies_while_runs_sleep_wakes_them_all_the_same() -> None:
    async with TestApp(shop.make()) as t:
        run = (await t.send(ORDER)).runs[0]
        await t.crash()
        await t.advance("1d")
        await t.crash()
        assert run.status == "Running"
        await t.advance("2d")
        assert run.status == "Completed"
    assert sorted(shop.calls) == ["charge 1", "mail ada", "mail team"]


async def test_a_worker_that_dies_within_a_step_does_that_step_again_without_using_an_attempt() -> None:
    app, began = App("a"), []

    @app.function(on="go", retries=0)
    async def buy(ctx: Context) -> int:
        first = await ctx.step.run("first", shop.charge, 1)
        return first.id + (await ctx.step.run("second", shop.charge, 2)).id

    async with TestApp(app) as t:

        async def dies_once(order: int) -> dict[str, int]:
            began.append(order)
            if len(began) == 1:
                await t.crash()
            return {"id": order}

        first = t.stub("first", {"id": 1})
        t.stub("second", dies_once)
        run = await t.send(Event("go"))
        assert run.result == 3
        assert run.steps["second"].attempts == 1
        assert len(first.calls) == 1
    assert began == [2, 2]


async def test_code_of_a_dead_worker_does_not_go_on() -> None:
    app, seen = App("a"), []

    @app.function(on="go")
    async def two(ctx: Context) -> None:
        await ctx.step.run("first", shop.charge, 1)
        seen.append("behind the first step")
        await asyncio.sleep(0)
        await ctx.step.run("second", shop.charge, 2)

    shop.calls.clear()
    async with TestApp(app) as t:
        t.crash_after("first")
        assert (await t.send(Event("go"))).status == "Completed"
    assert seen == ["behind the first step"]
    assert shop.calls == ["charge 1", "charge 2"]


async def test_a_crash_that_never_came_is_an_error() -> None:
    async def misspelt() -> None:
        async with TestApp(shop.make()) as t:
            t.crash_after("chrage")
            await t.send(ORDER)

    with pytest.raises(NotAsExpected, match=r"crash_after was never reached: no step \['chrage'\] ended"):
        await misspelt()


async def crash_and_advance(t: TestApp) -> None:
    await t.crash()
    await t.advance("2d")


async def test_code_that_asks_for_other_steps_in_a_replay_fails_the_test_naming_the_step() -> None:
    app, calls = App("dice"), []

    @app.function(on="go")
    async def throw(ctx: Context) -> None:
        calls.append(1)
        await ctx.step.run(f"throw-{len(calls)}", lambda: None)
        await ctx.step.sleep("rest", "1d")

    async with TestApp(app) as t:
        run = await t.send(Event("go"))
        with pytest.raises(StepsChanged, match=r"step 'throw-1' of kind 'run' .* the code asks for 'throw-2' instead"):
            await crash_and_advance(t)
        assert run.status == "Running" and run.steps["throw-1"].result is None
