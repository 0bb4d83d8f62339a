"""What the shops of examples/fastapi_inngest and examples/express_v3 promise their visitors, on `millstream dev`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.sdk.examples.shops import Shop, opened
from tests.sdk.rig.processes import PATIENCE_S
from tests.sdk.rig.stage import FAST_RETRIES, Server

VISITOR: Final = "ada@example.com"
MESSAGE: Final = {"name": "Ada", "email": VISITOR, "text": "Does it count?\n.\nYes."}


@pytest.fixture(scope="module", params=["fastapi_inngest", "express_v3"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop with a server of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    server = Server(folder / "server", *FAST_RETRIES)
    try:
        server.start()
        with opened(request.param, server, folder) as made:
            yield made
    finally:
        server.close()


def test_a_visitor_is_answered_before_the_mails_are_out_and_each_is_sent_once(shop: Shop) -> None:
    shop.mailbox.open.clear()
    status, text = shop.ask("POST", "/contact", MESSAGE, form=True)
    assert (status, text) == (202, "Thank you, we have your message.")
    assert shop.mailbox.offered.acquire(timeout=PATIENCE_S)
    assert shop.mailbox.offered.acquire(timeout=PATIENCE_S)  # Both mails are on their way: they are sent side by side.
    assert shop.mailbox.mails == []  # Answered, and none is through.
    shop.mailbox.open.set()
    (run,) = shop.ended("shop/message.received", email=VISITOR)
    assert run["status"] == "Completed", run
    (team,), (visitor,) = shop.mailbox.to("team@example.com"), shop.mailbox.to(VISITOR)
    assert [team["Message-ID"], visitor["Message-ID"]] == run["output"]["mails"]
    assert team["Subject"] == "Message from Ada"
    assert team.get_content().splitlines() == MESSAGE["text"].splitlines()


def test_a_form_with_an_empty_field_is_refused(shop: Shop) -> None:
    assert shop.ask("POST", "/contact", MESSAGE | {"name": " "}, form=True)[0] == 400


def test_an_order_that_is_paid_is_shipped(shop: Shop) -> None:
    order = shop.accepts("/orders", {"item": "lamp"})["order"]
    shop.accepts(f"/orders/{order}/payment")
    (run,) = shop.ended("shop/order.placed", order=order)
    assert (run["status"], run["output"]["state"]) == ("Completed", "shipped"), run
    assert shop.reads(f"/orders/{order}") == {"item": "lamp", "state": "shipped"}


def test_an_order_that_nobody_pays_expires(shop: Shop) -> None:
    order = shop.accepts("/orders", {"item": "chair", "hold_s": 1})["order"]
    (run,) = shop.ended("shop/order.placed", order=order)
    assert (run["status"], run["output"]["state"]) == ("Completed", "expired"), run
    assert shop.reads(f"/orders/{order}") == {"item": "chair", "state": "expired"}


def test_a_payment_for_no_order_is_refused(shop: Shop) -> None:
    assert shop.ask("POST", "/orders/nothing/payment")[0] == 404


def test_a_new_account_starts_three_functions(shop: Shop) -> None:
    account = shop.accepts("/accounts", {"email": "grace@example.com"})["account"]
    shop.until("three runs", lambda: len(shop.ended("shop/account.created", account=account)) == 3)
    runs = shop.ended("shop/account.created", account=account)
    assert {(run["function_id"], run["status"]) for run in runs} == {
        ("shop-welcome", "Completed"),
        ("shop-start-trial", "Completed"),
        ("shop-subscribe-to-newsletter", "Completed"),
    }
    assert len(shop.mailbox.to("grace@example.com")) == 1


def test_the_hourly_function_counts_the_orders(shop: Shop) -> None:
    order = shop.accepts("/orders", {"item": "table"})["order"]
    shop.accepts(f"/orders/{order}/payment")
    shop.ended("shop/order.placed", order=order)
    status, answer = shop.server.ask("POST", "/invoke/shop-refresh-figures", {"data": {}})
    assert status == 200, answer
    assert shop.until("the figures", lambda: shop.reads("/figures").get("shipped", 0)) >= 1
