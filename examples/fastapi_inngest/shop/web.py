"""The web site. A request is answered once its event is durable; the work goes on behind it.

uvicorn shop.web:app --port 8000
"""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import parse_qsl

import fastapi
import inngest
import inngest.fast_api
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic import BaseModel, Field

from shop import functions, records
from shop.client import client

FORM = """<!doctype html><title>Shop</title><h1>Write to us</h1>
<form method="post" action="/contact">
<p><input name="name" placeholder="Your name" required> <input name="email" type="email" placeholder="Mail" required>
<p><textarea name="text" placeholder="Your message" required></textarea> <p><button>Send</button></form>"""

app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, functions.ALL)


class Order(BaseModel):
    """What somebody orders. ``hold_s``: how long the goods are kept for the payment."""

    item: str = Field(min_length=1, max_length=200)
    hold_s: int = Field(default=3_600, ge=1, le=86_400)


class Account(BaseModel):
    """Who signs up."""

    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=200)


@app.get("/", response_class=HTMLResponse)
async def show_form() -> str:
    return FORM


@app.post("/contact")
async def contact(request: fastapi.Request) -> PlainTextResponse:
    """The form's fields, on one line each but the text."""
    form = dict(parse_qsl((await request.body()).decode()))
    name, email = (" ".join(form.get(field, "").split()) for field in ("name", "email"))
    text = form.get("text", "").strip()
    if not (name and email and text):
        return PlainTextResponse("Please fill in your name, your mail address and your message.", 400)
    await client.send(inngest.Event(name="shop/message.received", data={"name": name, "email": email, "text": text}))
    return PlainTextResponse("Thank you, we have your message.", 202)


@app.post("/orders", status_code=202)
async def place_order(given: Order) -> dict[str, str]:
    order = uuid.uuid4().hex
    records.put("orders", order, {"item": given.item, "state": "placed"})
    data = {"order": order, "item": given.item, "hold_s": given.hold_s}
    await client.send(inngest.Event(name="shop/order.placed", id=order, data=data))
    return {"order": order}


@app.get("/orders/{order}")
async def show_order(order: str) -> dict[str, Any]:
    found = records.get("orders", order)
    if found is None:
        raise fastapi.HTTPException(404, f"there is no order {order}")
    return found


@app.post("/orders/{order}/payment", status_code=202)
async def pay_order(order: str) -> dict[str, str]:
    await show_order(order)
    await client.send(inngest.Event(name="shop/order.paid", data={"order": order}))
    return {"order": order}


@app.post("/accounts", status_code=202)
async def sign_up(given: Account) -> dict[str, str]:
    account = uuid.uuid4().hex
    data = {"account": account, "email": given.email}
    await client.send(inngest.Event(name="shop/account.created", id=account, data=data))
    return {"account": account}


@app.get("/figures")
async def show_figures() -> dict[str, Any]:
    return records.get("figures", "orders") or {}
