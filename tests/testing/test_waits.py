"""Waiting for events, signals and other runs: does what comes find the run, once, whatever died meanwhile?"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from millstream import App, Context, Event, InvokeTimeout, On, StepError, SyncContext
from millstream.testing import NotAsExpected, TestApp

PLACED = Event("order/placed", {"order_id": 7})


def paid(order_id: int, cents: int = 100, id: str | None = None) -> Event:
    return Event("order/paid", {"order_id": order_id, "cents": cents}, id=id)


def waiting_app() -> App:
    app = App("a")

    @app.function(on="order/placed")
    async def order(ctx: Context) -> object:
        event = await ctx.step.wait_for_event("paid", event="order/paid", match="data.order_id", timeout="3d")
        return event.data["cents"] if event is not None else "too late"

    return app


# --- events -----------------------------------------------------------------------------------------


async def test_an_event_with_the_same_value_ends_the_wait_and_others_do_not() -> None:
    async with TestApp(waiting_app()) as t:
        began = t.now
        run = await t.send(PLACED)
        await t.send([paid(8), Event("order/refused", {"order_id": 7}), Event("order/paid", {})])
        step = run.steps["paid"]
        assert (run.status, step.status, step.kind) == ("Running", "waiting", "wait_for_event")
        assert step.waits_for == "event order/paid (data.order_id)"
        assert step.wakes_at == began + timedelta(days=3)
        await t.send(paid(7, 250))
        assert run.result == 250
        assert run.steps["paid"].result["data"] == {"order_id": 7, "cents": 250}
        assert not run.steps["paid"].timed_out


async def test_a_wait_ends_with_nothing_when_its_time_is_over_and_not_before() -> None:
    async with TestApp(waiting_app()) as t:
        run = await t.send(PLACED)
        await t.advance("71h")
        assert run.status == "Running"
        await t.advance("1h")
        assert run.result == "too late"
        assert run.steps["paid"].timed_out
        await t.send(paid(7))  # Nobody waits any more.
        assert run.result == "too late"


async def test_an_event_that_comes_before_the_run_waits_is_not_missed() -> None:
    app = App("a")

    @app.function(on="order/placed")
    async def order(ctx: Context) -> object:
        await ctx.step.sleep("first", "1d")
        event = await ctx.step.wait_for_event("paid", event="order/paid", match="data.order_id", timeout="1h")
        return event and event.data["cents"]

    async with TestApp(app) as t:
        await t.send(paid(7, 1))  # Before the run's own event: of no concern to it.
        await t.advance("1s")
        run = await t.send(PLACED)
        await t.advance("1h")
        await t.send(paid(7, 2))
        await t.advance("1d")
        assert run.result == 2


@pytest.mark.parametrize(("lookback", "found"), [("2h", 1), ("30m", None), (0, None)])
async def test_a_lookback_says_how_old_an_event_may_be(lookback: Any, found: int | None) -> None:
    app = App("a")

    @app.function(on="order/placed")
    async def order(ctx: Context) -> object:
        event = await ctx.step.wait_for_event(
            "paid", event="order/paid", match="data.order_id", timeout="1h", lookback=lookback
        )
        return event and event.data["cents"]

    async with TestApp(app) as t:
        await t.send(paid(7, 1))
        await t.advance("1h")
        run = await t.send(PLACED)
        await t.advance("1h")
        assert run.result == found


async def test_an_expression_reads_both_events() -> None:
    app = App("a")

    @app.function(on="order/placed")
    async def order(ctx: Context) -> object:
        event = await ctx.step.wait_for_event(
            "paid",
            event="order/paid",
            if_="async.data.cents >= event.data.cents && async.data.cents < 900",
            timeout="1h",
        )
        return event and event.data["cents"]

    async with TestApp(app) as t:
        run = await t.send(Event("order/placed", {"cents": 100}))
        await t.send([paid(1, 99), paid(1, 901), Event("order/paid", {"cents": "many"}), paid(1, 100), paid(1, 101)])
        assert run.result == 100


async def test_an_expression_that_is_none_fails_the_step_with_words() -> None:
    app = App("a")

    @app.function(on="go", retries=0)
    async def body(ctx: Context) -> None:
        await ctx.step.wait_for_event("x", event="y", if_="async.data.n >", timeout="1h")

    async with TestApp(app) as t:
        run = await t.send(Event("go"))
        assert run.status == "Failed"
        assert run.error is not None and "async.data.n >" in run.error.message


async def test_the_event_that_started_the_run_does_not_end_its_wait() -> None:
    app = App("a")

    @app.function(on="order/placed")
    async def order(ctx: Context) -> object:
        event = await ctx.step.wait_for_event("next", event="order/placed", match="data.order_id", timeout="1h")
        return event and event.id

    async with TestApp(app) as t:
        first = (await t.send(Event("order/placed", {"order_id": 7}, id="first"))).run
        await t.send(Event("order/placed", {"order_id": 7}, id="second"))
        assert first.result == "second"


async def test_an_own_event_without_the_value_waits_for_what_no_event_can_bring() -> None:
    async with TestApp(waiting_app()) as t:
        run = await t.send(Event("order/placed", {}))
        assert run.steps["paid"].waits_for == "event order/paid (never: the run's own event has no data.order_id)"
        await t.send(Event("order/paid", {}))
        await t.advance("3d")
        assert run.result == "too late"


async def test_one_event_ends_every_wait_that_it_fits() -> None:
    async with TestApp(waiting_app()) as t:
        runs = [await t.send(PLACED) for _ in range(5)]
        other = await t.send(Event("order/placed", {"order_id": 8}))
        await t.send(paid(7, 3))
        assert [run.result for run in runs] == [3] * 5
        assert other.status == "Running"


async def test_a_loop_of_waits_takes_each_event_once() -> None:
    app = App("a")

    @app.function(on="order/placed")
    async def order(ctx: Context) -> list[int]:
        sums: list[int] = []
        while len(sums) < 4:
            event = await ctx.step.wait_for_event("paid", event="order/paid", match="data.order_id", timeout="1h")
            if event is None:
                break
            sums.append(event.data["cents"])
            await ctx.step.sleep("rest", "1m")
        return sums

    async with TestApp(app) as t:
        run = await t.send(PLACED)
        await t.send([paid(7, n) for n in range(3)])
        await t.send(paid(7, 0, id="twice"), copies=2)
        await t.advance("4m")
        assert sorted(run.result) == [0, 0, 1, 2]

        run = await t.send(PLACED)
        await t.send(paid(7, 5))
        await t.advance("2h")
        assert run.result == [5]


async def test_the_first_of_several_events_says_which_it_is() -> None:
    app = App("a")

    @app.function(on="order/placed")
    async def order(ctx: Context) -> object:
        on = [On("order/paid", match="data.order_id"), On("order/cancelled", match="data.order_id")]
        first = await ctx.step.wait_for_any("end", on, timeout="1h")
        return (first.on, first.name) if first is not None else None

    async with TestApp(app) as t:
        run, late = await t.send(PLACED), await t.send(Event("order/placed", {"order_id": 8}))
        assert run.steps["end"].waits_for == "any of order/paid (data.order_id), order/cancelled (data.order_id)"
        await t.send([Event("order/cancelled", {"order_id": 7}), paid(7)])
        assert run.result == [1, "order/cancelled"]
        await t.advance("1h")
        assert late.result is None
        assert late.steps["end"].timed_out


async def test_all_of_several_events_come_in_the_order_of_the_conditions() -> None:
    app = App("a")

    @app.function(on="order/placed")
    async def order(ctx: Context) -> object:
        on = [On("order/paid", match="data.order_id"), On("order/packed", match="data.order_id")]
        both = await ctx.step.wait_for_all("ready", on, timeout="1h")
        return [event.name for event in both] if both is not None else None

    async with TestApp(app) as t:
        run, late = await t.send(PLACED), await t.send(Event("order/placed", {"order_id": 8}))
        await t.send([Event("order/packed", {"order_id": n}) for n in (7, 8)])
        assert run.steps["ready"].waits_for == "event order/paid (data.order_id); 1 of 2 came"
        await t.send(paid(7))
        assert run.result == ["order/paid", "order/packed"]
        await t.advance("1h")
        assert late.result is None


async def test_waits_beside_each_other_end_each_with_its_own_event() -> None:
    app = App("a")

    @app.function(on="go")
    async def body(ctx: Context) -> list[Any]:
        events = await asyncio.gather(
            *(ctx.step.wait_for_event(name, event=name, timeout="1h") for name in ("x", "y", "z"))
        )
        return [event and event.data["n"] for event in events]

    async with TestApp(app) as t:
        run = await t.send(Event("go"))
        await t.send([Event("z", {"n": 3}), Event("x", {"n": 1})])
        await t.advance("1h")
        assert run.result == [1, None, 3]


async def test_a_plain_function_waits_as_well() -> None:
    app = App("a")

    @app.function(on="order/placed")
    def order(ctx: SyncContext) -> object:
        event = ctx.step.wait_for_event("paid", event="order/paid", match="data.order_id", timeout="1h")
        signal = ctx.step.wait_for_signal("ok", "ok", timeout="1h")
        return [event and event.data["cents"], signal]

    async with TestApp(app) as t:
        run = await t.send(PLACED)
        await t.send(paid(7, 4))
        await t.signal("ok", "yes")
        assert run.result == [4, "yes"]


async def test_a_cancelled_run_waits_for_nothing_any_more() -> None:
    async with TestApp(waiting_app()) as t:
        run = await t.send(PLACED)
        await t.cancel(run)
        await t.send(paid(7))
        await t.advance("4d")
        assert run.status == "Cancelled"


# --- signals ----------------------------------------------------------------------------------------


def signal_app() -> App:
    app = App("a")

    @app.function(on="go")
    async def ask(ctx: Context) -> object:
        name = f"approve-{ctx.event.data['n']}"
        try:
            return await ctx.step.wait_for_signal(
                "approval", name, timeout="1d", on_conflict=ctx.event.data.get("conflict", "fail")
            )
        except StepError as error:
            return f"{error.name}: {error}"

    return app


async def test_a_signal_reaches_the_run_that_waits_for_it_with_what_was_sent() -> None:
    async with TestApp(signal_app()) as t:
        one, two = await t.send(Event("go", {"n": 1})), await t.send(Event("go", {"n": 2}))
        assert one.steps["approval"].waits_for == "signal approve-1"
        await t.signal("approve-1", {"by": "ada"})
        assert one.result == {"by": "ada"}
        assert two.status == "Running"
        await t.signal("approve-2")
        assert two.result is None
        assert not two.steps["approval"].timed_out


async def test_a_signal_that_nobody_waits_for_is_refused_naming_those_that_are() -> None:
    async with TestApp(signal_app()) as t:
        run = await t.send(Event("go", {"n": 1}))
        with pytest.raises(NotAsExpected, match=r"no step waits for the signal 'aprove': waited for are 'approve-1'"):
            await t.signal("aprove")
        await t.advance("1d")
        assert run.result is None
        assert run.steps["approval"].timed_out
        with pytest.raises(NotAsExpected, match="waited for are none"):
            await t.signal("approve-1")


async def test_one_run_waits_for_a_signal_unless_another_takes_it() -> None:
    async with TestApp(signal_app()) as t:
        first = await t.send(Event("go", {"n": 1}))
        second = await t.send(Event("go", {"n": 1}))
        assert second.result.startswith("SignalConflict: ") and first.id in second.result
        third = await t.send(Event("go", {"n": 1, "conflict": "replace"}))
        await t.signal("approve-1", 3)
        assert third.result == 3
        assert first.status == "Running"
        await t.advance("1d")
        assert first.result is None


# --- other functions --------------------------------------------------------------------------------


class Stop(Exception):
    """A failure of the child's."""


def family(timeout: str = "1h", detached: bool = False) -> App:
    app = App("a")

    @app.function(retries=0)
    async def child(ctx: Context) -> dict[str, int]:
        n = ctx.event.data["n"]
        if n < 0:
            raise Stop("below nothing")
        if n:
            await ctx.step.sleep("work", n)
        return {"n": n}

    @app.function(on="go", retries=0)
    async def parent(ctx: Context) -> object:
        try:
            answer = await ctx.step.invoke("work", child, data=ctx.event.data, timeout=timeout, detached=detached)
        except StepError as error:
            return [type(error).__name__, error.name, str(error)]
        return answer["n"]

    return app


async def test_a_function_gets_the_result_of_the_one_it_invokes_and_both_name_each_other() -> None:
    async with TestApp(family()) as t:
        run = (await t.send(Event("go", {"n": 60}))).run
        child = run.steps["work"].child
        assert child is not None and child.function == "a-child" and child.parent == run and run.parent is None
        assert run.steps["work"].waits_for == f"run {child.id} of a-child"
        assert (run.steps["work"].status, child.status) == ("waiting", "Running")
        await t.advance("1m")
        assert (child.result, run.result) == ({"n": 60}, 60)
        assert run.steps["work"].child == child


async def test_a_child_that_fails_fails_the_step_with_its_error() -> None:
    async with TestApp(family()) as t:
        run = await t.send(Event("go", {"n": -1}))
        child = run.steps["work"].child
        assert child is not None and child.status == "Failed"
        assert run.result == ["StepError", "Stop", "below nothing"]
        assert run.steps["work"].error is not None
        assert "raise Stop" in run.steps["work"].error.stack


async def test_a_child_that_is_not_over_in_time_goes_on_without_its_parent() -> None:
    async with TestApp(family(timeout="1m")) as t:
        run = await t.send(Event("go", {"n": 120}))
        await t.advance("1m")
        child = run.steps["work"].child
        assert child is not None and child.status == "Running"
        assert run.result[:2] == [InvokeTimeout.__name__, "InngestInvokeTimeoutError"]
        assert run.result[2] == "Timed out waiting for invoked function to complete"
        await t.advance("1m")
        assert child.status == "Completed"


async def test_a_child_that_is_cancelled_fails_the_step_which_says_so() -> None:
    async with TestApp(family()) as t:
        run = await t.send(Event("go", {"n": 60}))
        child = run.steps["work"].child
        assert child is not None
        await t.cancel(child)
        assert run.result[1] == "RunCancelled"
        assert f"run {child.id} of a-child was cancelled" in run.result[2]


@pytest.mark.parametrize(("detached", "status"), [(False, "Cancelled"), (True, "Completed")])
async def test_a_cancelled_parent_cancels_its_child_unless_that_is_detached(detached: bool, status: str) -> None:
    async with TestApp(family(detached=detached)) as t:
        run = await t.send(Event("go", {"n": 60}))
        child = run.steps["work"].child
        assert child is not None
        await t.cancel(run)
        await t.advance("1m")
        assert (run.status, child.status) == ("Cancelled", status)


async def test_a_function_that_is_not_there_fails_the_step() -> None:
    app = App("a")

    @app.function(on="go")
    async def parent(ctx: Context) -> str:
        try:
            return await ctx.step.invoke_by_id("x", "b-report")
        except StepError as error:
            return str(error)

    async with TestApp(app) as t:
        run = await t.send(Event("go"))
        assert "'b-report' was not started: no function has this id" in run.result
        assert run.steps["x"].child is None


async def test_a_function_of_another_app_is_invoked_by_its_id() -> None:
    app, other = App("a"), App("b")

    @other.function()
    async def double(ctx: Context) -> int:
        return 2 * int(ctx.event.data["n"])

    @app.function(on="go")
    async def parent(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*(ctx.step.invoke_by_id(f"{n}", "b-double", data={"n": n}) for n in range(3))))

    async with TestApp(app, other) as t:
        assert (await t.send(Event("go"))).result == [0, 2, 4]


async def test_a_stub_answers_for_an_invoked_function_which_is_not_run() -> None:
    async with TestApp(family()) as t:
        stub = t.stub("work", {"n": 5})
        run = await t.send(Event("go", {"n": 60}))
        assert run.result == 5
        assert stub.calls == [(({"n": 60},), {})]
        assert [other.function for other in t.runs] == ["a-parent"]

        t.stub("work", lambda data: {"n": data["n"] + 1})
        assert (await t.send(Event("go", {"n": 60}))).result == 61


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (Stop("no"), ["StepError", "Stop", "no"]),
        (InvokeTimeout("late"), ["InvokeTimeout", "InngestInvokeTimeoutError", "late"]),
    ],
)
async def test_a_stub_that_raises_is_a_child_that_failed_for_good(error: Exception, seen: list[str]) -> None:
    async with TestApp(family()) as t:
        stub = t.stub("work", error)
        assert (await t.send(Event("go", {"n": 60}))).result == seen
        assert len(stub.calls) == 1


async def test_a_stub_set_while_a_run_waits_for_a_child_changes_nothing_for_that_run() -> None:
    async with TestApp(family()) as t:
        run = await t.send(Event("go", {"n": 60}))
        t.stub("work", {"n": 5}, optional=True)
        await t.crash()
        await t.advance("1m")
        assert run.result == 60


# --- crashes ----------------------------------------------------------------------------------------


def everything() -> App:
    app = App("a")

    @app.function()
    async def child(ctx: Context) -> int:
        await ctx.step.sleep("nap", "10s")
        return 3

    @app.function(on="order/placed")
    async def order(ctx: Context) -> list[Any]:
        event = await ctx.step.wait_for_event("paid", event="order/paid", match="data.order_id", timeout="1h")
        signal = await ctx.step.wait_for_signal("ok", "ok", timeout="1h")
        late = await ctx.step.wait_for_event("late", event="nobody/sends", timeout="1m")
        number = await ctx.step.invoke("child", child)
        return [event and event.data["cents"], signal, late, number]

    return app


@pytest.mark.parametrize("step", ["paid", "ok", "late", "nap", "child"])
async def test_a_worker_that_dies_behind_any_wait_loses_nothing(step: str) -> None:
    async with TestApp(everything()) as t:
        t.crash_after(step)
        run = await t.send(PLACED)
        await t.send(paid(7, 1))
        await t.signal("ok", 2)
        await t.advance("2m")
        assert run.result == [1, 2, None, 3]
        assert len(t.runs) == 2


async def test_a_worker_that_dies_during_every_wait_loses_nothing() -> None:
    async with TestApp(everything()) as t:
        run = await t.send(PLACED)
        await t.crash()
        assert run.steps["paid"].status == "waiting"
        await t.send(paid(7, 1))
        await t.crash()
        await t.signal("ok", 2)
        await t.crash()
        await t.advance("1m")
        await t.crash()
        assert run.steps["child"].status == "waiting"
        await t.advance("10s")
        assert run.result == [1, 2, None, 3]
        assert len(t.runs) == 2
