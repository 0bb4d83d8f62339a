r"""An approval by mail: an expense waits for a decision of the manager, a week if need be, and holds nothing meanwhile.

Shows a callback: a URL of the run's own, made before anybody waits, that takes one answer from outside. The link in the
mail leads to a page of ours with two buttons, since mail scanners open every link; only the button posts. A second
click, or one after a week, is told so. ``kill -9`` the server at any moment: the run and its link go on.

    millstream dev examples.approval:app      # the functions
    python -m examples.approval             # the page behind the link: http://127.0.0.1:8081
    millstream events send expense/submitted \
        --data '{"number": 7, "by": "ada@example.com", "manager": "max@example.com", "amount": 120.5}'
    sqlite3 .millstream-examples.db "select value from records where kind = 'mail'"      # the mail with the link
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web

from examples import mail
from millstream import App, Context

SITE: Final = os.environ.get("APPROVAL_SITE", "http://127.0.0.1:8081")
CALLBACKS: Final = "/v1/callbacks/"
PAGE = """<!doctype html><title>Expense</title><h1>Approve this expense?</h1>
<form method="post"><button name="decision" value="approved">Approve</button>
<button name="decision" value="refused">Refuse</button></form>"""
ANSWERS: Final = {
    200: "Thank you, your decision was taken.",
    404: "There is no such expense. Use the whole link of the mail.",
    410: "This expense was decided before, or nobody waits for the decision any more.",
}

app = App("approval")


@dataclass(frozen=True, slots=True)
class Expense:
    """What somebody has paid and wants back."""

    number: int
    by: str
    manager: str
    amount: float


@app.function(on="expense/submitted")
async def decide(ctx: Context[Expense]) -> str:
    """Ask the manager by mail, wait for the decision, and tell whoever asked."""
    expense = ctx.event.data
    decision = await ctx.step.callback("decision", timeout="7d")
    text = f"{expense.by} asks for {expense.amount:.2f}. Decide here: {link_to(decision.url)}"
    await ctx.step.run("ask", mail.send, expense.manager, f"Expense {expense.number}", text)
    answer = await decision.result()
    outcome = "undecided" if answer is None else answer["decision"]
    await ctx.step.run("tell", mail.send, expense.by, f"Expense {expense.number} is {outcome}", "")
    return str(outcome)


def link_to(url: str) -> str:
    """The link for the mail: our page, with the token of the callback."""
    return f"{SITE}/decide/{url.rpartition(CALLBACKS)[2]}"


def site(server: str) -> web.Application:
    """The page behind the link. ``server`` is where millstream listens."""

    async def show(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def take(request: web.Request) -> web.Response:
        form = await request.post()
        decision = form.get("decision")
        if decision not in ("approved", "refused"):
            return web.Response(status=400, text="Please press one of the two buttons.")
        url = f"{server}{CALLBACKS}{request.match_info['token']}"
        async with aiohttp.ClientSession() as http, http.post(url, json={"decision": decision}) as answer:
            text = ANSWERS.get(answer.status, "Please try again in a moment.")
            return web.Response(status=answer.status, text=text)

    application = web.Application()
    application.router.add_get("/decide/{token}", show)
    application.router.add_post("/decide/{token}", take)
    return application


if __name__ == "__main__":
    web.run_app(site(os.environ.get("MILLSTREAM_URL", "http://127.0.0.1:8288")), host="127.0.0.1", port=8081)
