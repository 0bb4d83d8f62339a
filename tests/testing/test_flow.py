"""Flow control as a user of the test kit sees it: who starts when, on the virtual clock."""

from __future__ import annotations

from typing import Any

import pytest

from millstream import App, Batch, Concurrency, Context, Debounce, Event, RateLimit, Throttle
from millstream.testing import TestApp


def shop(log: list[Any], **options: Any) -> App:
    app = App("shop")

    @app.function(on="order/placed", **options)
    async def order(ctx: Context) -> str:
        log.append(("begins", ctx.event.data["id"]))
        await ctx.step.sleep("cool-off", "1h")
        log.append(("ends", ctx.event.data["id"]))
        return "shipped"

    return app


def placed(id: int, customer: str = "a", **more: Any) -> Event:
    return Event("order/placed", {"id": id, "customer": customer, **more})


async def test_one_run_at_a_time() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, concurrency=Concurrency(1, per="run"))) as t:
        runs = [(await t.send(placed(n))).runs[0] for n in range(3)]
        assert log == [("begins", 0)]
        assert [run.status for run in runs] == ["Running", "Queued", "Queued"]
        await t.advance("1h")
        assert log == [("begins", 0), ("ends", 0), ("begins", 1)]
        await t.advance("2h")
        assert [run.result for run in runs] == ["shipped"] * 3


async def test_a_run_that_sleeps_holds_no_slot_of_those_that_execute() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, concurrency=1)) as t:
        for n in range(3):
            await t.send(placed(n))
        assert log == [("begins", 0), ("begins", 1), ("begins", 2)], "all of them sleep"


async def test_a_key_has_a_limit_of_its_own() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, concurrency=Concurrency(1, key="event.data.customer", per="run"))) as t:
        for n, customer in enumerate("aab"):
            await t.send(placed(n, customer))
        assert log == [("begins", 0), ("begins", 2)]


async def test_events_without_the_key_share_one() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, concurrency=Concurrency(1, key="event.data.gone.deeper", per="run"))) as t:
        for n in range(2):
            await t.send(placed(n))
        await t.send(placed(2, gone={"deeper": None}))
        assert log == [("begins", 0)]


async def test_a_throttle_spreads_starts_and_loses_none() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, throttle=Throttle(2, "1m", burst=2))) as t:
        for n in range(5):
            await t.send(placed(n))
        assert len(log) == 2, "a burst of two"
        await t.advance("29s")
        assert len(log) == 2
        await t.advance("1s")
        assert len(log) == 3
        await t.advance("1m")
        assert len(log) == 5


async def test_a_higher_priority_comes_first() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, concurrency=Concurrency(1, per="run"), priority="event.data.vip ? 600 : 0")) as t:
        for n in range(3):
            await t.send(placed(n, vip=n == 2))
        await t.advance("1h")
        assert log[-1] == ("begins", 2)


async def test_runs_of_a_key_follow_each_other_in_order() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, ordered_by="event.data.customer")) as t:
        for n, customer in enumerate("aabb"):
            await t.send(placed(n, customer))
        assert log == [("begins", 0), ("begins", 2)]
        await t.advance("1h")
        assert sorted(log[2:]) == [("begins", 1), ("begins", 3), ("ends", 0), ("ends", 2)]


async def test_a_queued_run_can_be_cancelled_and_lets_the_next_one_pass() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, concurrency=Concurrency(1, per="run"))) as t:
        runs = [(await t.send(placed(n))).runs[0] for n in range(3)]
        await t.cancel(runs[1])
        assert runs[1].status == "Cancelled"
        await t.cancel(runs[0])
        assert log == [("begins", 0), ("begins", 2)]


async def test_functions_share_a_limit_of_the_group() -> None:
    log: list[Any] = []
    app = App("shop")
    for name in ("one", "two"):

        @app.function(id=name, on="go", concurrency=Concurrency(1, key="'smtp'", scope="env", per="run"))
        async def mail(ctx: Context) -> None:
            log.append(ctx.run_id)
            await ctx.step.sleep("send", "1h")

    async with TestApp(app) as t:
        await t.send(Event("go", {}))
        assert len(log) == 1
        await t.advance("1h")
        assert len(set(log)) == 2


async def test_a_child_queues_like_any_run_and_its_parent_waits_for_it() -> None:
    log: list[Any] = []
    app = shop(log, concurrency=Concurrency(1, per="run"))

    @app.function(on="go")
    async def parent(ctx: Context) -> str:
        return str(await ctx.step.invoke_by_id("order", "shop-order", data={"id": "child"}))

    async with TestApp(app) as t:
        await t.send(placed(1))
        run = (await t.send(Event("go", {}))).runs[0]
        assert log == [("begins", 1)]
        await t.advance("1h")
        assert log[-1] == ("begins", "child")
        await t.advance("1h")
        assert run.result == "shipped"


@pytest.mark.parametrize("per", ["step", "run"])
async def test_a_run_that_fails_gives_its_place_back(per: str) -> None:
    app = App("shop")

    @app.function(on="go", retries=0, concurrency=Concurrency(1, per=per))
    async def fails(ctx: Context) -> None:
        raise ValueError("no")

    async with TestApp(app) as t:
        runs = [(await t.send(Event("go", {}))).runs[0] for _ in range(3)]
        assert [run.status for run in runs] == ["Failed"] * 3


# --- debounce -------------------------------------------------------------------------------------


async def test_the_last_of_several_events_starts_the_run() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, debounce=Debounce("1m"))) as t:
        for n in range(3):
            await t.send(placed(n))
            await t.advance("59s")
        assert log == []
        await t.advance("1s")
        assert log == [("begins", 2)]
        await t.send(placed(3))
        await t.advance("1m")
        assert log == [("begins", 2), ("begins", 3)]


async def test_a_debounce_has_a_longest_time_and_a_key() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, debounce=Debounce("1m", key="event.data.customer", timeout="2m"))) as t:
        await t.send(placed(100, "b"))
        for n in range(4):
            await t.send(placed(n))
            await t.advance("40s")
        assert log == [("begins", 100), ("begins", 2)], "of customer a the one that was the last at two minutes"


async def test_what_is_invoked_is_not_debounced() -> None:
    log: list[Any] = []
    app = shop(log, debounce=Debounce("1m"))

    @app.function(on="go")
    async def parent(ctx: Context) -> None:
        await ctx.step.invoke_by_id("order", "shop-order", data={"id": "child"})

    async with TestApp(app) as t:
        await t.send(Event("go", {}))
        assert log == [("begins", "child")]


# --- batch ----------------------------------------------------------------------------------------


def writer(log: list[Any], batch: Batch, **options: Any) -> App:
    app = App("shop")

    @app.function(on="page/viewed", batch=batch, **options)
    async def write(ctx: Context) -> int:
        log.append([event.data["n"] for event in ctx.events])
        await ctx.step.run("write", lambda: None)
        return len(ctx.events)

    return app


def viewed(n: int, site: str = "a") -> Event:
    return Event("page/viewed", {"n": n, "site": site})


async def test_enough_events_start_one_run() -> None:
    log: list[Any] = []
    async with TestApp(writer(log, Batch(3, "1m"))) as t:
        for n in range(7):
            await t.send(viewed(n))
        assert log == [[0, 1, 2], [3, 4, 5]]
        await t.advance("59s")
        assert len(log) == 2
        await t.advance("1s")
        assert log[-1] == [6]


async def test_a_batch_has_a_key_and_what_does_not_fit_starts_alone() -> None:
    log: list[Any] = []
    async with TestApp(writer(log, Batch(2, "1m", key="event.data.site", if_="event.data.n != 9"))) as t:
        for n, site in ((1, "a"), (2, "b"), (9, "a"), (3, "a"), (4, "b")):
            await t.send(viewed(n, site))
        assert log == [[9], [1, 3], [2, 4]]


async def test_a_batch_that_would_be_too_large_starts_before() -> None:
    log: list[Any] = []
    async with TestApp(writer(log, Batch(1_000, "1m"))) as t:
        large = "x" * (2 * 1024 * 1024)
        for n in range(6):
            await t.send(Event("page/viewed", {"n": n, "large": large}))
        assert log == [[0, 1, 2, 3, 4]] or log == [[0, 1, 2, 3]]


async def test_batches_queue_at_the_other_gates() -> None:
    log: list[Any] = []
    async with TestApp(writer(log, Batch(2, "1m"), throttle=Throttle(1, "1h"))) as t:
        for n in range(4):
            await t.send(viewed(n))
        assert log == [[0, 1]]
        await t.advance("1h")
        assert log == [[0, 1], [2, 3]]


# --- events with a time of their own ----------------------------------------------------------------


def later(t: TestApp, n: int, seconds: int) -> Event:
    due_ms = int(t.now.timestamp() * 1_000) + seconds * 1_000
    return Event("order/placed", {"id": n, "customer": "a"}, ts=due_ms)


async def test_a_limit_counts_an_event_when_its_time_has_come() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, rate_limit=RateLimit(1, "1m"))) as t:
        await t.send(later(t, 1, 90))
        await t.send(placed(2))
        assert log == [("begins", 2)], "nothing has started before it"
        await t.advance("59s")
        await t.send(placed(3))
        assert log == [("begins", 2)]
        await t.advance("40s")
        assert log == [("begins", 2), ("begins", 1)]


async def test_events_that_are_due_together_keep_the_order_in_which_they_were_read() -> None:
    log: list[Any] = []
    async with TestApp(shop(log, ordered_by="event.data.customer")) as t:
        due_ms = int(t.now.timestamp() * 1_000) + 60_000
        for n in range(6):
            await t.send(Event("order/placed", {"id": n, "customer": "a"}, ts=due_ms))
        assert log == []
        await t.advance("7h")
        assert [n for what, n in log if what == "begins"] == list(range(6))
