"""A contact form: the visitor is answered at once, the work goes on behind, for a day if need be.

Shows steps side by side with plain ``asyncio.gather``, a day of waiting for a reply that holds nothing, data checked
against a dataclass, a step that is safe to repeat, and a web handler that answers as soon as the event is
durable, while the mails take seconds. ``kill -9`` the server at any moment: the run goes on where it was.

    millstream dev examples.contact_form:app      # the functions
    python -m examples.contact_form             # the web site: http://127.0.0.1:8080
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass

from aiohttp import web

import millstream
from examples import mail, records
from millstream import App, Client, Context, Event

TEAM = "team@example.com"
FORM = """<!doctype html><title>Contact</title><h1>Write to us</h1>
<form method="post" action="/contact">
<p><input name="name" placeholder="Your name" required> <input name="email" type="email" placeholder="Mail" required>
<p><textarea name="text" placeholder="Your message" required></textarea> <p><button>Send</button></form>"""

app = App("contact")


@dataclass(frozen=True, slots=True)
class Message:
    """What a visitor wrote."""

    name: str
    email: str
    text: str


@app.function(on="contact/message.received")
async def answer_message(ctx: Context[Message]) -> dict[str, object]:
    """Store the message, mail the team and the visitor; follow up where the visitor has not replied in a day."""
    message = ctx.event.data
    number = await ctx.step.run("store", store, message)
    await asyncio.gather(
        ctx.step.run("mail-team", mail.send, TEAM, f"Message {number} from {message.name}", message.text),
        ctx.step.run("mail-visitor", mail.send, message.email, "Thank you", f"{message.name}, we have your message."),
    )
    ctx.logger.info("message %d answered", number)  # Once: the logger is silent while steps are gone over again.
    reply = await ctx.step.wait_for_event("reply", event="contact/reply.received", match="data.email", timeout="1d")
    if reply is not None:
        return {"message": number, "mails": 2}
    await ctx.step.run("follow-up", mail.send, message.email, "All answered?", f"{message.name}, did we help?")
    return {"message": number, "mails": 3}


def store(message: Message) -> int:
    """Keep the message; its number among those of this visitor. Safe to repeat: the key is the step's."""
    return records.keep("message", millstream.current().idempotency_key, message.email, asdict(message))


def site(client: Client) -> web.Application:
    """The web site. ``POST /contact`` answers when the event is durable, long before the work is done."""

    async def show(request: web.Request) -> web.Response:
        return web.Response(text=FORM, content_type="text/html")

    async def take(request: web.Request) -> web.Response:
        form = await request.post()
        fields = {name: str(form.get(name, "")).strip() for name in ("name", "email", "text")}
        empty = [name for name, text in fields.items() if not text]
        if empty:
            return web.Response(status=400, text=f"Please fill in: {', '.join(empty)}.")
        await client.send(Event("contact/message.received", fields))
        return web.Response(status=202, text="Thank you, we have your message.")

    async def close(application: web.Application) -> None:
        await client.close()

    application = web.Application()
    application.router.add_get("/", show)
    application.router.add_post("/contact", take)
    application.on_cleanup.append(close)
    return application


if __name__ == "__main__":
    web.run_app(site(Client()), host="127.0.0.1", port=8080)
