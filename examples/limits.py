"""Four limits of the world outside: a mail provider's, a customer's fair share, a database's, an index's.

Shows flow control: a throttle and a priority for mails, so many exports at once for each customer, page views written
by the hundred, and an index that is made once when an author has stopped typing. ``kill -9`` the server while runs
queue: they wait on disk, and no limit is exceeded when it is back.

    millstream dev examples.limits:app

    E=http://127.0.0.1:8288/e/dev
    for n in $(seq 20); do curl $E -d '{"name": "mail/asked", "data": {"to": "ada@home", "subject": "'$n'"}}'; done
    for n in $(seq 20); do curl $E -d '{"name": "document/changed", "data": {"document": "A7", "version": '$n'}}'; done
    sqlite3 .millstream-examples.db "select kind, subject, value from records order by rowid"
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import millstream
from examples import mail, records
from millstream import App, Batch, Concurrency, Context, Debounce, Throttle

EXPORT_S: Final = 2.0

app = App("limits")


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that somebody wants to be sent. Nobody should wait for a link to log in."""

    to: str
    subject: str
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Export:
    """All data of a customer's project, to be packed."""

    customer: str
    project: str


@dataclass(frozen=True, slots=True)
class View:
    """Somebody has seen a page."""

    site: str
    page: str


@dataclass(frozen=True, slots=True)
class Change:
    """A document has a new version."""

    document: str
    version: int


@app.function(on="mail/asked", throttle=Throttle(30, "1m", burst=5), priority="event.data.urgent ? 600 : 0")
async def send_mail(ctx: Context[Mail]) -> None:
    """Send it; the provider takes one every two seconds, and five at once after a pause."""
    asked = ctx.event.data
    await ctx.step.run("send", mail.send, asked.to, asked.subject, "")


@app.function(on="export/asked", concurrency=Concurrency(2, key="event.data.customer"))
async def export(ctx: Context[Export]) -> None:
    """Pack a project: of each customer two at once, so that nobody's hundred keep the others waiting."""
    asked = ctx.event.data
    await ctx.step.run("pack", pack, asked.customer, asked.project)


@app.function(on="page/viewed", batch=Batch(100, "10s", key="event.data.site"))
async def write_views(ctx: Context[View]) -> int:
    """Write up to a hundred views of a site at once, at the latest ten seconds after the first."""
    return await ctx.step.run("write", write, ctx.event.data.site, [event.data.page for event in ctx.events])


@app.function(on="document/changed", debounce=Debounce("5s", key="event.data.document", timeout="1m"))
async def index(ctx: Context[Change]) -> int:
    """Index a document when it has not changed for five seconds, and once a minute while it does."""
    change = ctx.event.data
    return await ctx.step.run("index", put, change.document, change.version)


# --- what the steps do: each is safe to repeat, since its row has the step's key --------------------


def pack(customer: str, project: str) -> None:
    """Takes a while."""
    time.sleep(EXPORT_S)
    records.keep("packed", millstream.current().idempotency_key, customer, {"project": project})


def write(site: str, pages: list[str]) -> int:
    """One write for all of them; how many they are."""
    records.keep("views", millstream.current().idempotency_key, site, {"pages": pages})
    return len(pages)


def put(document: str, version: int) -> int:
    """What was indexed before is replaced; the version that is found from now on."""
    records.replace("indexed", document, document, {"version": version})
    return version
