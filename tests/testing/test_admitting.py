"""rate_limit, idempotency and singleton in a running app: who starts, who is skipped and why, and who waits."""

from __future__ import annotations

from typing import Any

import pytest

from millstream import App, Context, Event, RateLimit, Singleton, StepError
from millstream.testing import TestApp
from millstream.testing.expectations import NotAsExpected
from millstream.testing.views import Run


def order_app(**options: Any) -> App:
    """``order`` takes an hour; ``parent`` invokes it, and returns what it says."""
    app = App("shop")

    @app.function(on="order/placed", retries=1, **options)
    async def order(ctx: Context) -> int:
        await ctx.step.sleep("pack", "1h")
        return int(ctx.event.data["id"])

    @app.function(on="order/wanted", retries=0)
    async def parent(ctx: Context) -> object:
        try:
            return await ctx.step.invoke("child", order, data=ctx.event.data)
        except StepError as error:
            return f"{error.name}: {error}"

    return app


def placed(id: int, **data: object) -> Event:
    return Event("order/placed", {"id": id, **data})


def ended(runs: list[Run]) -> list[object]:
    """What completed runs returned; the status of others."""
    return [run.result if run.status == "Completed" else run.status for run in runs]


# --- rate_limit -----------------------------------------------------------------------------------


async def test_more_starts_than_the_limit_are_skipped_until_there_is_room_again() -> None:
    async with TestApp(order_app(rate_limit=RateLimit(2, "1m"))) as t:
        for id in range(3):
            sent = await t.send(placed(id))
        with pytest.raises(NotAsExpected, match=r"rate_limit: 2 starts in 1m, and no more.*2026-01-05T00:01:00.000Z"):
            _ = sent.status
        await t.advance("59s")
        await t.send(placed(3))
        await t.advance("1s")
        await t.send(placed(4))
        await t.advance("1h")
        assert ended(t.runs) == [0, 1, 4]


async def test_each_value_of_a_key_has_a_limit_of_its_own_and_no_value_is_one() -> None:
    async with TestApp(order_app(rate_limit=RateLimit(1, "1m", key="event.data.shop"))) as t:
        for id, shop in enumerate(({"shop": "a"}, {"shop": "a"}, {"shop": "b"}, {}, {"shop": None})):
            await t.send(placed(id, **shop))
        await t.advance("1h")
        assert ended(t.runs) == [0, 2, 3]


async def test_a_limit_outlives_the_worker() -> None:
    async with TestApp(order_app(rate_limit=RateLimit(1, "1m"))) as t:
        await t.send(placed(0))
        await t.crash()
        await t.send(placed(1))
        await t.advance("1h")
        await t.send(placed(2))
        assert [run.status for run in t.runs] == ["Completed", "Running"]


# --- idempotency ----------------------------------------------------------------------------------


async def test_a_value_starts_one_run_in_24_hours() -> None:
    async with TestApp(order_app(idempotency="event.data.change")) as t:
        for id in range(2):
            sent = await t.send(placed(id, change="c"))
        with pytest.raises(NotAsExpected, match=rf"idempotency: {t.runs[0].id} was started for the same value of"):
            _ = sent.status
        await t.advance("1d")
        await t.send(placed(2, change="c"))
        assert len(t.runs) == 2


async def test_an_event_without_the_value_is_no_repetition() -> None:
    async with TestApp(order_app(idempotency="event.data.change")) as t:
        for data in ({}, {}, {"change": None}, {"change": None}):
            await t.send(placed(0, **data))
        assert len(t.runs) == 4


# --- singleton ------------------------------------------------------------------------------------


async def test_skip_starts_nothing_while_a_run_is_open() -> None:
    async with TestApp(order_app(singleton=Singleton("skip"))) as t:
        for id in range(2):
            sent = await t.send(placed(id))
        with pytest.raises(NotAsExpected, match=rf"singleton: run {t.runs[0].id} is open"):
            _ = sent.status
        await t.advance("1h")
        await t.send(placed(2))
        await t.advance("1h")
        assert ended(t.runs) == [0, 2]


async def test_latest_starts_the_newest_when_the_open_run_is_over() -> None:
    async with TestApp(order_app(singleton=Singleton("latest"))) as t:
        for id in range(4):
            await t.send(placed(id))
        await t.crash()
        await t.advance("30m")
        assert [run.status for run in t.runs] == ["Running"]
        await t.advance("90m")
        assert ended(t.runs) == [0, 3]


async def test_cancel_ends_the_open_run_and_starts_the_newest() -> None:
    async with TestApp(order_app(singleton=Singleton("cancel", key="event.data.shop"))) as t:
        for id, shop in enumerate("aba"):
            await t.send(placed(id, shop=shop))
        await t.advance("1h")
        assert ended(t.runs) == ["Cancelled", 1, 2]


async def test_a_run_that_waits_for_its_next_attempt_is_open() -> None:
    async with TestApp(order_app(singleton=Singleton("skip"))) as t:
        await t.send(Event("order/placed", {"id": "no number"}))
        await t.advance("1h")  # The body fails, and is tried again within a minute.
        assert t.runs[0].status == "Running"
        await t.send(placed(1))
        assert len(t.runs) == 1
        await t.advance("5m")
        assert t.runs[0].status == "Failed"
        await t.send(placed(2))
        assert len(t.runs) == 2


# --- whoever waits --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rate_limit": RateLimit(1, "1m")}, "rate_limit: 1 start in 1m"),
        ({"idempotency": "'one'"}, "idempotency: "),
        ({"singleton": Singleton("skip")}, "singleton: run "),
    ],
)
async def test_a_step_whose_child_is_skipped_fails_and_says_why(options: dict[str, Any], reason: str) -> None:
    async with TestApp(order_app(**options)) as t:
        await t.send(placed(0))
        parent = await t.send(Event("order/wanted", {"id": 1}))
        assert parent.result.startswith(f"FunctionNotStarted: function 'shop-order' was not started: {reason}")


async def test_a_step_whose_child_is_kept_waits_for_it_and_fails_when_a_newer_one_takes_its_place() -> None:
    async with TestApp(order_app(singleton=Singleton("latest"))) as t:
        await t.send(placed(0))
        first = await t.send(Event("order/wanted", {"id": 1}))
        assert first.status == "Running"
        second = await t.send(Event("order/wanted", {"id": 2}))
        assert first.result.startswith(
            "FunctionNotStarted: function 'shop-order' was not started: singleton: the newer"
        )
        await t.advance("2h")
        assert second.result == 2
