"""Orders: does a customer get the thing or the money, whatever happens on the way?"""

from __future__ import annotations

from typing import Any

import pytest

from examples import orders, records
from millstream import Event, NonRetriableError
from millstream.testing import TestApp

DONE = ("charged", "reserved", "packed", "handed over", "called back", "released", "refunded")


def placed(order_id: str = "A7", item: str = "lamp", cents: int = 4_200) -> Event:
    data = {"order_id": order_id, "item": item, "cents": cents, "email": "ada@example.com"}
    return Event("order/placed", data, id=f"order-{order_id}")


def courier(word: str, order_id: str = "A7", **data: str) -> Event:
    return Event(f"courier/{word}", {"order_id": order_id, **data})


def done() -> dict[str, int]:
    return {what: len(records.found(what)) for what in DONE if records.found(what)}


def mails() -> list[tuple[str, str]]:
    return [(sent["subject"], sent["text"]) for sent in records.found("mail")]


SOLD = {"charged": 1, "reserved": 1, "packed": 1, "handed over": 1}
UNDONE = SOLD | {"called back": 1, "released": 1, "refunded": 1}


async def test_an_order_that_arrives_is_paid_once_and_undone_never() -> None:
    async with TestApp(orders.app) as t:
        run = (await t.send(placed(), copies=2)).run
        assert run.status == "Running"
        assert run.steps["courier"].waits_for == (
            "any of courier/delivered (data.order_id), courier/returned (data.order_id)"
        )
        await t.send(courier("delivered", "B8", signed_by="Bob"))
        await t.advance("2d")
        await t.send(courier("delivered", signed_by="Ada"))
        assert run.result == {"order": "A7", "state": "delivered"}
    assert done() == SOLD
    assert mails() == [("Delivered", "Ada has taken in your lamp.")]


async def test_a_courier_who_is_not_heard_of_in_three_days_undoes_the_order_in_reverse() -> None:
    async with TestApp(orders.app) as t:
        run = (await t.send(placed())).run
        await t.advance("3d")
        assert run.result == {"order": "A7", "state": "called off"}
        assert list(run.steps) == [
            "charge", "reserve", "ship", "courier", "call-back", "release", "refund", "tell",
        ]  # fmt: skip
        assert run.steps["courier"].timed_out
    assert done() == UNDONE
    assert mails()[0][0] == "We are sorry"


async def test_a_parcel_that_comes_back_undoes_the_order_and_says_why() -> None:
    async with TestApp(orders.app) as t:
        run = (await t.send(placed())).run
        await t.send(courier("returned", reason="nobody was in"))
        assert run.result["state"] == "called off"
    assert done() == UNDONE
    assert "the parcel came back, nobody was in" in mails()[0][1]


@pytest.mark.parametrize(
    ("order", "undone", "why"),
    [
        ({"cents": 2_000_000}, {}, "the card was refused"),
        ({"item": "vase"}, {"charged": 1, "refunded": 1}, "there is no vase in stock"),
    ],
)
async def test_what_fails_early_undoes_only_what_was_done(
    order: dict[str, Any], undone: dict[str, int], why: str
) -> None:
    async with TestApp(orders.app) as t:
        run = (await t.send(placed(**order))).run
        assert run.result["state"] == "called off"
    assert done() == undone
    assert why in mails()[0][1]


async def test_a_shipping_that_fails_gives_back_the_money_and_the_place() -> None:
    async with TestApp(orders.app) as t:
        t.stub("ship", NonRetriableError("no van today"))
        run = (await t.send(placed())).run
        assert run.result["state"] == "called off"
    assert done() == {"charged": 1, "reserved": 1, "released": 1, "refunded": 1}
    assert "no van today" in mails()[0][1]


@pytest.mark.parametrize("step", ["charge", "reserve", "pack", "hand-over", "ship", "courier", "release"])
async def test_a_worker_that_dies_anywhere_does_nothing_twice_and_forgets_nothing(step: str) -> None:
    async with TestApp(orders.app) as t:
        t.crash_after(step)
        run = (await t.send(placed())).run
        await t.advance("3d")
        assert run.result["state"] == "called off"
    assert done() == UNDONE
    assert len(mails()) == 1
