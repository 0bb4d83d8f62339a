"""``GET /``: the last runs on one plain page, written by the server; no build, nothing loaded from elsewhere.

    /                     the last runs                 /?status=Failed&function=shop-f   those of them
    /?status=…&cursor=…   older ones                    /?event=ID                        what an event started

The counters are links that filter, and so are the names of functions. The queries are those of ``GET /api/runs``.

A few lines of script fetch the page again every two seconds and put its ``<main>`` in place of the old one, keeping
what is open open. Without script the page still works and is refreshed by hand. Whatever comes from users is escaped;
the policy header allows no script but ours, known by its nonce.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from html import escape
from typing import Final, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from millstream.api.door.door import DOOR, Door
from millstream.api.runs import filter_of, page_of
from millstream.history.fold import parent_of
from millstream.history.queries import Queries
from millstream.history.seen import Page, RunFilter, RunInFull, RunSeen
from millstream.history.trail import COUNTED, PARKED, AttemptSeen, Error, GateSeen, StepSeen, error_of, wakes_at_ms
from millstream.model.text.durations import duration_text
from millstream.model.waits.shown import WaitsFor, in_words

RUNS_SHOWN: Final = 100
STEPS_SHOWN_MAX: Final = 60
GATES_SHOWN_MAX: Final = 20
QUEUED_WORTH_MS: Final = 100
"""Who passes a gate sooner has not queued there, as far as people see."""
TEXT_CHARS_MAX: Final = 1_500
OPEN: Final = ("Queued", "Running")

_STYLE: Final = """
:root{color-scheme:light dark;--bg:light-dark(#f6f7f9,#14161a);--card:light-dark(#fff,#1c1f25);
--ink:light-dark(#1b1f27,#e6e9ef);--dim:light-dark(#59616e,#9aa4b2);--line:light-dark(#dfe3e9,#2c313a);
--ok:light-dark(#10703a,#5fd38d);--bad:light-dark(#b3202a,#ff8f8f);--run:light-dark(#0b5cad,#7db8ff);
--wait:light-dark(#7a5200,#f0c060)}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
header,main{max-width:68rem;margin:0 auto;padding:0 1rem}
header{display:flex;gap:.75rem;align-items:baseline;padding-top:1.25rem}h1{font-size:1.25rem;margin:0}
.banner{font-size:.75rem;font-weight:700;letter-spacing:.06em;border:1px solid var(--wait);color:var(--wait);
border-radius:.4rem;padding:.1rem .5rem}
.version{color:var(--dim);font-size:.85rem}
.counts{display:flex;flex-wrap:wrap;gap:.75rem;margin:1rem 0;padding:0}
.counts a,.counts span{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.5rem 1rem;
min-width:7.5rem;color:var(--ink);text-decoration:none}
.counts a[aria-current]{border-color:var(--run);box-shadow:inset 0 0 0 1px var(--run)}
.counts small{display:block;color:var(--dim);font-size:.8rem}.counts a small{text-decoration:underline}
.counts b{font-size:1.3rem;font-weight:400;font-variant-numeric:tabular-nums}a{color:var(--run)}
ol{list-style:none;margin:0;padding:0}
details{background:var(--card);border:1px solid var(--line);border-radius:.6rem;margin:.4rem 0}
summary{display:grid;grid-template-columns:7.5rem 1fr auto auto;gap:.75rem;padding:.5rem .9rem;cursor:pointer;
align-items:baseline}
summary:focus-visible{outline:2px solid var(--run);outline-offset:2px}.fn{font-weight:600;overflow-wrap:anywhere}
.dim{color:var(--dim);font-size:.85rem;font-variant-numeric:tabular-nums}.Completed,.completed{color:var(--ok)}
.Failed,.failed,.lost,.stopped{color:var(--bad)}.Running,.planned,.retrying,.Retrying{color:var(--run)}
.Queued,.Cancelled,.cancelled,.sleeping,.waiting,.parked,.held,.Sleeping,.Waiting,.Parked,.Held{color:var(--wait)}
.body{padding:.2rem .9rem .9rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem .3rem 0;border-top:1px solid var(--line);vertical-align:top}
th{font-size:.8rem;color:var(--dim);font-weight:600}
pre{margin:.2rem 0;padding:.5rem .7rem;background:var(--bg);border:1px solid var(--line);border-radius:.4rem;
max-width:100%;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;font:12.5px/1.45 ui-monospace,monospace}
.empty{background:var(--card);border:1px dashed var(--line);border-radius:.6rem;padding:1.2rem}
@media(max-width:40rem){header{flex-wrap:wrap}summary{grid-template-columns:1fr auto;gap:.1rem .75rem}
.fn{grid-column:1/-1;grid-row:2}.counts{gap:.4rem}.counts a,.counts span{min-width:0;flex:1 0 30%;padding:.35rem .6rem}
thead{display:none}tr{display:block;border-top:1px solid var(--line);padding:.3rem 0}
td{display:inline-block;border:0;padding:0 .6rem 0 0}td:first-child{font-weight:600}td:last-child{display:block}}
"""
_SCRIPT: Final = """
async function again(){try{
 const text=await (await fetch(location.href,{headers:{'X-Refresh':'1'}})).text();
 const fresh=new DOMParser().parseFromString(text,'text/html').querySelector('main');
 const old=document.querySelector('main');const focus=document.activeElement?.closest('details')?.id;
 for(const d of old.querySelectorAll('details[open]')){const same=fresh.querySelector('#'+d.id);if(same)same.open=true}
 if(!fresh.isEqualNode(old)&&!getSelection().toString()){old.replaceWith(fresh);
  if(focus)document.getElementById(focus)?.querySelector('summary').focus()}
}catch(e){}setTimeout(again,document.hidden?10000:2000)}
setTimeout(again,2000)
"""


async def get_page(request: web.Request) -> web.Response:
    """The page."""
    door = request.app[DOOR]
    wanted, page = filter_of(request), page_of(request, RUNS_SHOWN)
    found = await door.reads.ask(lambda queries: _read(queries, wanted, page, request.host))
    nonce = secrets.token_urlsafe(12)
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'"
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
    }
    # Of a header that is no UTF-8, such as Host, only what can be written is.
    return web.Response(body=_document(door, found, nonce).encode(errors="replace"), headers=headers)


class _Found(NamedTuple):
    """What one reading of the page shows. ``cursor`` 0: nothing older; ``host`` is where it was asked for."""

    runs: list[RunInFull]
    cursor: int
    payloads: dict[str, bytes]
    tally: dict[str, int]
    wanted: RunFilter
    host: str


def _read(queries: Queries, wanted: RunFilter, page: Page, host: str) -> _Found:
    runs, cursor = queries.screen(wanted, page)
    payloads = queries.payloads((full.run.event for full in runs), TEXT_CHARS_MAX + 1)
    return _Found(runs, cursor, payloads, queries.tally(), wanted, host)


def _document(door: Door, found: _Found, nonce: str) -> str:
    config = door.config
    functions = sum(len(app.functions) for app in door.catalogue.apps.values())
    banner = f'<span class="banner">{escape(config.banner)}</span>' if config.banner else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>millstream runs</title>'
        f'<style nonce="{nonce}">{_STYLE}</style></head><body>'
        f"<header><h1>millstream</h1>{banner}"
        f'<span class="version">{escape(config.group)} · {escape(config.version)}</span></header>'
        f"<main>{_counts(found, functions)}{_heading(found.wanted)}{_runs(found)}{_older(found)}</main>"
        f'<script nonce="{nonce}">{_SCRIPT}</script></body></html>'
    )


def _counts(found: _Found, functions: int) -> str:
    tally, wanted = found.tally, found.wanted
    ended = tally["completed"] + tally["failed"] + tally["cancelled"]
    shown = f"<span><small>Functions</small><b>{functions:,}</b></span>"
    shown += f"<span><small>Events</small><b>{tally['events']:,}</b></span>"
    for name, statuses, count in (
        ("All runs", (), tally["started"]),
        ("Open runs", OPEN, max(tally["started"] - ended, 0)),
        (PARKED, (PARKED,), None),  # Nobody counts them: it would be read from each open run's trail.
        ("Completed", ("Completed",), tally["completed"]),
        ("Failed", ("Failed",), tally["failed"]),
        ("Cancelled", ("Cancelled",), tally["cancelled"]),
    ):
        here = ' aria-current="true"' if _words(wanted) == statuses else ""
        number = "list" if count is None else f"{count:,}"
        shown += f'<a href="{_link(wanted, statuses)}"{here}><small>{name}</small><b>{number}</b></a>'
    return f'<nav class="counts" aria-label="Filters">{shown}</nav>'


def _words(wanted: RunFilter) -> tuple[str, ...]:
    """The words of the filter that ``status`` asks for."""
    return (*wanted.statuses, *wanted.states)


def _link(wanted: RunFilter, statuses: tuple[str, ...], function: str | None = None, cursor: int = 0) -> str:
    """The page with this filter; ``function`` None: the one asked for already."""
    asked = {
        "status": ",".join(statuses),
        "function": wanted.function if function is None else function,
        "app": wanted.app,
        "event": wanted.event,
        "event_name": wanted.event_name,
        "cursor": str(cursor) if cursor else "",
    }
    query = urlencode({name: value for name, value in asked.items() if value})
    return escape(f"/?{query}" if query else "/")


def _heading(wanted: RunFilter) -> str:
    what = " or ".join(_words(wanted)).lower()
    named = ((wanted.function, "of "), (wanted.app, "of app "), (wanted.event, "of event "), (wanted.event_name, "on "))
    words = [what, "runs", *(before + name for name, before in named if name)]
    if words == ["", "runs"]:
        return "<h2>Last runs</h2>"
    return f'<h2>Last {escape(" ".join(word for word in words if word))}</h2><p><a href="/">Show all runs</a></p>'


def _older(found: _Found) -> str:
    if not found.cursor:
        return ""
    return f'<p><a href="{_link(found.wanted, _words(found.wanted), cursor=found.cursor)}">Older runs</a></p>'


def _runs(found: _Found) -> str:
    if not found.runs and found.wanted != RunFilter():
        return '<div class="empty"><p>None.</p></div>'
    if not found.runs:
        return (
            '<div class="empty"><p>No runs yet. Send the first event that one of your functions starts on:</p><pre>'
            f"curl -X POST http://{escape(found.host)}/e/dev -d '"
            + escape('{"name": "shop/order.placed", "data": {"order": 1}}')
            + "'</pre><p>It appears here within a second or two.</p></div>"
        )
    return f"<ol>{''.join(f'<li>{_run(full, found)}</li>' for full in found.runs)}</ol>"


def _run(full: RunInFull, found: _Found) -> str:
    run = full.run
    only = _link(found.wanted, _words(found.wanted), run.function)
    return (
        f'<details id="r{escape(run.run)}"><summary><span class="{run.state}">{_mark(run.status)} {run.state}</span>'
        f'<span class="fn">{escape(run.function)}</span><span class="dim">{_length(run)}</span>'
        f'{_time(run.queued_ms)}</summary><div class="body">'
        f'<p class="dim">run {escape(run.run)}{_parent(run)} · <a href="{only}">only {escape(run.function)}</a></p>'
        f"{_event(run, found.payloads.get(run.event))}{_gates(full)}{_steps(full)}{_end(run)}</div></details>"
    )


def _parent(run: RunSeen) -> str:
    if (parent := parent_of(run.cause)) is None:
        return ""
    id, step = map(escape, parent)
    return f' · invoked by step {step} of run <a href="#r{id}">{id}</a>'


def _event(run: RunSeen, payload: bytes | None) -> str:
    name = f'<p class="dim">event {escape(run.event_name or "–")} {escape(run.event)}</p>'
    return name if payload is None else f"{name}<pre>{_short(payload.decode(errors='replace'))}</pre>"


def _gates(full: RunInFull) -> str:
    """Where it queues, and where it has queued for long enough to be worth a line."""
    lines = [_gate(gate, full.run.ended_ms) for gate in full.gates]
    worth = [line for line in lines if line][:GATES_SHOWN_MAX]
    return f'<p class="dim">{"<br>".join(worth)}</p>' if worth else ""


def _gate(gate: GateSeen, ended_ms: int) -> str:
    where = f"queued at {escape(gate.gate)}{f' {_short(gate.key)}' if gate.key else ''}"
    where += f", step {escape(gate.step)}," if gate.step else ""
    until_ms = gate.passed_at_ms or ended_ms
    if not until_ms:
        return f"{where} since {_clock(gate.asked_at_ms)}"
    took_ms = until_ms - gate.asked_at_ms
    return f"{where} for {duration_text(took_ms)}" if took_ms >= QUEUED_WORTH_MS else ""


def _steps(full: RunInFull) -> str:
    if not full.complete:
        return f"<p>The steps are too large for this page: GET /v1/runs/{escape(full.run.run)} has them.</p>"
    if not full.steps:
        return "<p>No steps.</p>"
    rows = "".join(_step(step) for step in full.steps[:STEPS_SHOWN_MAX])
    more = len(full.steps) - STEPS_SHOWN_MAX
    rest = f"<p>… and {more} more steps: GET /v1/runs/{escape(full.run.run)}</p>" if more > 0 else ""
    head = "<thead><tr><th>Step</th><th>Kind</th><th>Status</th><th>Attempts and result</th></tr></thead>"
    return f"<table>{head}<tbody>{rows}</tbody></table>{rest}"


def _step(step: StepSeen) -> str:
    tries, number = "", 0
    for attempt in step.attempts:
        number += attempt.status in COUNTED
        tries += _attempt(attempt, number) if attempt.error is not None else ""
    output = f"<pre>{_short(step.output.decode(errors='replace'))}</pre>" if step.output else ""
    wake = f'<span class="dim">until {_clock(step.wake_at_ms)}</span>' if step.wake_at_ms and wakes_at_ms(step) else ""
    awaited = f'<span class="dim">{_awaited(step.waits_for)}</span> ' if step.waits_for is not None else ""
    count = f'<span class="dim">{number} attempts</span>' if number > 1 else ""
    return (
        f"<tr><td>{escape(step.name)}</td><td>{escape(step.kind)}</td>"
        f'<td class="{step.status}">{_word(step)}</td><td>{count}{awaited}{wake}{tries}{output}</td></tr>'
    )


def _word(step: StepSeen) -> str:
    return "timed out" if step.timed_out else step.status


def _awaited(shown: WaitsFor) -> str:
    """What a step waits for, or waited for."""
    text = _short(in_words(shown))
    return f'<a href="#r{escape(shown.run_id)}">{text}</a>' if shown.run_id else text


def _attempt(attempt: AttemptSeen, number: int) -> str:
    assert attempt.error is not None, "only attempts that went wrong are shown one by one"
    again = f", again {_clock(attempt.retry_at_ms)}" if attempt.retry_at_ms else ""
    name = f"attempt {number} " if attempt.status in COUNTED else ""
    head = f'<span class="{attempt.status}">{name}{attempt.status}</span>'
    return f'<div>{head} <span class="dim">{_clock(attempt.ended_at_ms)}{again}</span>{_error(attempt.error)}</div>'


def _error(error: Error) -> str:
    stack = f"\n{error.stack}" if error.stack else ""
    return f"<pre>{_short(f'{error.name}: {error.message}{stack}')}</pre>"


def _end(run: RunSeen) -> str:
    if run.reason:
        return f'<p class="{run.state}">{run.state}</p><pre>{_short(run.reason)}</pre>'
    if run.error:
        return f'<p class="{run.status}">{run.status}</p><pre>{_short(_error_text(run.error))}</pre>'
    if run.result:
        return f"<p>Result</p><pre>{_short(run.result.decode(errors='replace'))}</pre>{_whole(run)}"
    return ""


def _whole(run: RunSeen) -> str:
    size = run.result_bytes or len(run.result)
    if size <= TEXT_CHARS_MAX:
        return ""
    return f'<p><a href="/v1/runs/{escape(run.run)}/output">All of its {size:,} bytes</a></p>'


def _error_text(error: bytes) -> str:
    read = error_of(error)
    return f"{read.name}: {read.message}" + (f"\n{read.stack}" if read.stack else "")


def _short(text: str) -> str:
    return escape(text[:TEXT_CHARS_MAX]) + " …" if len(text) > TEXT_CHARS_MAX else escape(text)


def _mark(status: str) -> str:
    return {"Completed": "✓", "Failed": "✗", "Cancelled": "⊘", "Running": "▶", "Queued": "…"}[status]


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") + "Z" if at_ms else "–"


def _time(at_ms: int) -> str:
    at = _clock(at_ms)
    return f'<time class="dim" datetime="{at.replace(" ", "T")}">{at}</time>'


def _length(run: RunSeen) -> str:
    if not run.ended_ms:
        return ""
    took_ms = run.ended_ms - (run.started_ms or run.queued_ms)
    return f"{took_ms} ms" if took_ms < 10_000 else f"{took_ms / 1000:.1f} s"
