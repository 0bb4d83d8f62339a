"""Orders, as a saga: charge, reserve, ship, wait for the courier; where it fails, undo in reverse order what was done.

Shows a wait of three days for an event of one order, another function invoked as a step with its result, and
compensation: each step that has changed the world puts down how to undo it before the next one begins. The list lives
in the function's own variables: a replay fills it again from the recorded results, so there is nothing to store.

    millstream dev examples.orders:app

    E=http://127.0.0.1:8288/e/dev
    curl $E -d '{"name": "order/placed", "data": {"order_id": "A7", "item": "lamp", "cents": 42, "email": "ada@home"}}'
    curl $E -d '{"name": "courier/delivered", "data": {"order_id": "A7", "signed_by": "Ada"}}'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import millstream
from examples import mail, records
from millstream import App, Context, NonRetriableError, On, StepError

DELIVERY: Final = "3d"
STOCK: Final = {"lamp": 20, "vase": 0}

app = App("orders")


class CalledOff(Exception):
    """The order cannot be brought to its end, though no step has failed."""


Undo = tuple[str, Callable[..., object], str]
"""Step id, what to call, and with what."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer wants."""

    order_id: str
    item: str
    cents: int
    email: str


@dataclass(frozen=True, slots=True)
class Courier:
    """What the courier says at the door, or on the way back."""

    order_id: str
    signed_by: str = ""
    reason: str = ""


@app.function(on="order/placed", retries=3)
async def fulfil(ctx: Context[Order]) -> dict[str, str]:
    """Sell one thing, or leave the world as it was."""
    order = ctx.event.data
    undo: list[Undo] = []
    try:
        signed_by = await sell(ctx, order, undo)
    except (StepError, CalledOff) as error:
        for id, call, number in reversed(undo):
            await ctx.step.run(id, call, number)
        await tell(ctx, order, "We are sorry", f"Your order was called off: {error}. You have your money back.")
        return {"order": order.order_id, "state": "called off"}
    await tell(ctx, order, "Delivered", f"{signed_by} has taken in your {order.item}.")
    return {"order": order.order_id, "state": "delivered"}


async def sell(ctx: Context[Order], order: Order, undo: list[Undo]) -> str:
    """Charge, reserve, ship, deliver; who signed for it. ``undo`` gets what must be undone, step by step."""
    charge = await ctx.step.run("charge", charge_card, order.order_id, order.cents)
    undo.append(("refund", refund, charge))
    place = await ctx.step.run("reserve", reserve, order.item)
    undo.append(("release", release, place))
    parcel = await ctx.step.invoke("ship", ship, data={"order_id": order.order_id, "place": place}, timeout="1d")
    undo.append(("call-back", call_back, parcel))
    courier = await ctx.step.wait_for_any(
        "courier",
        [
            On("courier/delivered", match="data.order_id", type_=Courier),
            On("courier/returned", match="data.order_id", type_=Courier),
        ],
        timeout=DELIVERY,
    )
    if courier is None:
        raise CalledOff(f"the courier was not heard of in {DELIVERY}")
    if courier.name == "courier/returned":
        raise CalledOff(f"the parcel came back, {courier.data.reason}")
    return str(courier.data.signed_by)


@app.function(retries=2)
async def ship(ctx: Context) -> str:
    """Pack what lies at a place and hand it to the courier; the number of the parcel.

    ``fulfil`` invokes it as one of its steps. It has runs and attempts of its own, and no trigger.
    """
    parcel = await ctx.step.run("pack", pack, ctx.event.data["order_id"], ctx.event.data["place"])
    await ctx.step.run("hand-over", note, "handed over", parcel)
    return parcel


async def tell(ctx: Context[Order], order: Order, subject: str, text: str) -> None:
    """One mail for the customer, at the end."""
    await ctx.step.run("tell", mail.send, order.email, subject, text)


# --- what the steps do: each is safe to repeat, since its row has the step's key --------------------


def note(what: str, number: str) -> str:
    """Put down what was done; its number."""
    records.keep(what, millstream.current().idempotency_key, number, {"number": number})
    return number


def charge_card(order_id: str, cents: int) -> str:
    """Take the money. A card that is refused once is refused: no attempt follows."""
    if cents > 1_000_000:
        raise NonRetriableError("the card was refused")
    return note("charged", f"charge-{order_id}")


def reserve(item: str) -> str:
    """Keep one of them for this order; where it lies."""
    if not STOCK.get(item):
        raise NonRetriableError(f"there is no {item} in stock")
    return note("reserved", f"shelf-{item}")


def pack(order_id: str, place: str) -> str:
    """Fetch it and pack it."""
    return note("packed", f"parcel-{order_id}")


def refund(charge: str) -> str:
    """Give the money back."""
    return note("refunded", charge)


def release(place: str) -> str:
    """Let others have it."""
    return note("released", place)


def call_back(parcel: str) -> str:
    """Tell the courier to bring it back."""
    return note("called back", parcel)
