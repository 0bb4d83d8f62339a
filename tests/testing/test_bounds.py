"""What bounds a run: do events that cancel it, and times by which it must be over, end it, and nothing else?"""

from __future__ import annotations

from typing import Any

import pytest

from millstream import App, CancelOn, Context, Event, FunctionError, Timeouts
from millstream.testing import TestApp


def order_app(**options: Any) -> App:
    app = App("shop")

    @app.function(on="order/placed", **options)
    async def order(ctx: Context) -> str:
        await ctx.step.run("charge", lambda: "charged")
        await ctx.step.sleep("cool-off", "5d")
        return "shipped"

    return app


def placed(id: int) -> Event:
    return Event("order/placed", {"id": id})


def cancelled(id: int) -> Event:
    return Event("order/cancelled", {"id": id, "final": id != 3})


async def test_an_event_with_the_same_value_cancels_the_run_and_no_other() -> None:
    async with TestApp(order_app(cancel_on=CancelOn("order/cancelled", match="data.id"))) as t:
        one, two = (await t.send(placed(1))).runs[0], (await t.send(placed(2))).runs[0]
        await t.send(cancelled(1))
        assert (one.status, two.status) == ("Cancelled", "Running")
        await t.advance("5d")
        assert two.result == "shipped"


async def test_an_event_that_came_before_the_runs_own_cancels_nothing() -> None:
    async with TestApp(order_app(cancel_on=CancelOn("order/cancelled", match="data.id"))) as t:
        first = (await t.send(placed(1))).runs[0]
        await t.send(cancelled(1))
        again = (await t.send(placed(1))).runs[0]
        assert (first.status, again.status) == ("Cancelled", "Running")


async def test_an_expression_and_several_events_may_cancel() -> None:
    several = [CancelOn("order/cancelled", match="data.id", if_="async.data.final"), CancelOn("shop/closed")]
    async with TestApp(order_app(cancel_on=several)) as t:
        three, four = (await t.send(placed(3))).runs[0], (await t.send(placed(4))).runs[0]
        await t.send(cancelled(3))
        assert three.status == "Running", "that one was not final"
        await t.send(cancelled(4))
        assert four.status == "Cancelled"
        await t.send(Event("shop/closed", {}))
        assert three.status == "Cancelled"


async def test_an_event_that_comes_behind_its_time_cancels_nothing() -> None:
    async with TestApp(order_app(cancel_on=CancelOn("order/cancelled", match="data.id", timeout="1h"))) as t:
        run = (await t.send(placed(1))).runs[0]
        await t.advance("61m")
        await t.send(cancelled(1))
        assert run.status == "Running"


async def test_a_run_that_is_not_over_in_its_time_is_cancelled_also_by_the_worker_that_comes_next() -> None:
    async with TestApp(order_app(timeouts=Timeouts(finish="2d"))) as t:
        t.crash_after("charge")
        run = (await t.send(placed(1))).runs[0]
        await t.advance("47h")
        assert run.status == "Running"
        await t.advance("1h")
        assert run.status == "Cancelled"


async def test_a_run_that_is_over_in_its_time_leaves_nothing_behind() -> None:
    bounds = {"timeouts": Timeouts(start="1h", finish="6d"), "cancel_on": CancelOn("order/cancelled", match="data.id")}
    async with TestApp(order_app(**bounds)) as t:
        run = (await t.send(placed(1))).runs[0]
        await t.advance("5d")
        assert run.result == "shipped"
        await t.send(cancelled(1))
        await t.advance("2d")
        assert run.status == "Completed"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cancel_on": "order/cancelled"}, r"cancel_on takes CancelOn\(event, match=, if_=, timeout=\), one or a list"),
        ({"cancel_on": ["order/cancelled"]}, r"cancel_on takes CancelOn\(event.*got str 'order/cancelled'"),
        ({"cancel_on": CancelOn("order/*")}, "without wildcards"),
        ({"cancel_on": CancelOn("")}, "an event is named by 1 to"),
        ({"cancel_on": CancelOn("x", match="data..id")}, "must be a path such as 'data.order_id'"),
        ({"cancel_on": [CancelOn("x")] * 6}, "at most 5 events may cancel it, got 6"),
        ({"cancel_on": CancelOn("x", timeout="soon")}, "timeout of cancel_on of function 'shop-order' refused"),
        ({"timeouts": "2d"}, r"timeouts takes Timeouts\(start=, finish=\), got str '2d'"),
        ({"timeouts": Timeouts(finish=0)}, "timeouts.finish must be above 0"),
    ],
)
def test_bounds_that_cannot_be_are_refused_with_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(FunctionError, match=words):
        order_app(**options)
