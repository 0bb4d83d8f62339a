"""``GET /``: the last runs on one plain page, written by the server; no build, nothing loaded from elsewhere.

A few lines of script fetch the page again every two seconds and put its ``<main>`` in place of the old one, keeping
what is open open. Without script the page still works and is refreshed by hand. Whatever comes from users is escaped;
the policy header allows no script but ours, known by its nonce.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from html import escape
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from millstream.api.door import DOOR, Door
from millstream.history.queries import Queries, RunInFull, RunSeen
from millstream.history.trail import COUNTED, AttemptSeen, Error, StepSeen

RUNS_SHOWN: Final = 100
STEPS_SHOWN_MAX: Final = 60
TEXT_CHARS_MAX: Final = 1_500

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
.version{color:var(--dim);font-size:.85rem}dl.counts{display:flex;flex-wrap:wrap;gap:.75rem;margin:1rem 0}
dl.counts div{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.5rem 1rem;
min-width:7.5rem}
dt{color:var(--dim);font-size:.8rem}dd{margin:0;font-size:1.3rem;font-variant-numeric:tabular-nums}
ol{list-style:none;margin:0;padding:0}
details{background:var(--card);border:1px solid var(--line);border-radius:.6rem;margin:.4rem 0}
summary{display:grid;grid-template-columns:7.5rem 1fr auto auto;gap:.75rem;padding:.5rem .9rem;cursor:pointer;
align-items:baseline}
summary:focus-visible{outline:2px solid var(--run);outline-offset:2px}.fn{font-weight:600;overflow-wrap:anywhere}
.dim{color:var(--dim);font-size:.85rem;font-variant-numeric:tabular-nums}.Completed,.completed{color:var(--ok)}
.Failed,.failed,.lost{color:var(--bad)}.Running,.planned,.retrying{color:var(--run)}
.Queued,.Cancelled,.sleeping,.parked{color:var(--wait)}.body{padding:.2rem .9rem .9rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem .3rem 0;border-top:1px solid var(--line);vertical-align:top}
th{font-size:.8rem;color:var(--dim);font-weight:600}
pre{margin:.2rem 0;padding:.5rem .7rem;background:var(--bg);border:1px solid var(--line);border-radius:.4rem;
max-width:100%;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;font:12.5px/1.45 ui-monospace,monospace}
.empty{background:var(--card);border:1px dashed var(--line);border-radius:.6rem;padding:1.2rem}
@media(max-width:40rem){summary{grid-template-columns:1fr auto}}
"""
_SCRIPT: Final = """
async function again(){try{
 const text=await (await fetch('/',{headers:{'X-Refresh':'1'}})).text();
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
    runs, tally = await door.reads.ask(_read)
    nonce = secrets.token_urlsafe(12)
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'"
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
    }
    return web.Response(text=_document(door, _Found(runs, tally, request.host), nonce), headers=headers)


def _read(queries: Queries) -> tuple[list[RunInFull], dict[str, int]]:
    return queries.latest(RUNS_SHOWN), queries.tally()


class _Found(NamedTuple):
    """What one reading of the page shows; ``host`` is where it was asked for."""

    runs: list[RunInFull]
    tally: dict[str, int]
    host: str


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
        f"<main>{_counts(found.tally, functions)}<h2>Last runs</h2>{_runs(found)}</main>"
        f'<script nonce="{nonce}">{_SCRIPT}</script></body></html>'
    )


def _counts(tally: dict[str, int], functions: int) -> str:
    ended = tally["completed"] + tally["failed"] + tally["cancelled"]
    counts = {
        "Functions": functions,
        "Events": tally["events"],
        "Open runs": max(tally["started"] - ended, 0),
        "Completed": tally["completed"],
        "Failed": tally["failed"],
        "Cancelled": tally["cancelled"],
    }
    shown = "".join(f"<div><dt>{name}</dt><dd>{count:,}</dd></div>" for name, count in counts.items())
    return f'<dl class="counts">{shown}</dl>'


def _runs(found: _Found) -> str:
    if not found.runs:
        return (
            '<div class="empty"><p>No runs yet. Send the first event that one of your functions starts on:</p><pre>'
            f"curl -X POST http://{escape(found.host)}/e/dev -d '"
            + escape('{"name": "shop/order.placed", "data": {"order": 1}}')
            + "'</pre><p>It appears here within a second or two.</p></div>"
        )
    return f"<ol>{''.join(f'<li>{_run(full)}</li>' for full in found.runs)}</ol>"


def _run(full: RunInFull) -> str:
    run = full.run
    return (
        f'<details id="r{escape(run.run)}"><summary><span class="{run.status}">{_mark(run.status)} {run.status}</span>'
        f'<span class="fn">{escape(run.function)}</span><span class="dim">{_length(run)}</span>'
        f'<time class="dim">{_clock(run.queued_ms)}</time></summary><div class="body">'
        f'<p class="dim">run {escape(run.run)} · event {escape(run.event_name or "–")} {escape(run.event)}</p>'
        f"{_steps(full)}{_end(run)}</div></details>"
    )


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
    wake = f'<span class="dim">until {_clock(step.wake_at_ms)}</span>' if step.status == "sleeping" else ""
    count = f'<span class="dim">{number} attempts</span>' if number > 1 else ""
    return (
        f"<tr><td>{escape(step.name)}</td><td>{escape(step.kind)}</td>"
        f'<td class="{step.status}">{step.status}</td><td>{count}{wake}{tries}{output}</td></tr>'
    )


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
    if run.error:
        return f'<p class="{run.status}">{run.status}</p><pre>{_short(_error_text(run.error))}</pre>'
    if run.result:
        return f"<p>Result</p><pre>{_short(run.result.decode(errors='replace'))}</pre>"
    return ""


def _error_text(error: bytes) -> str:
    read = msgspec.json.decode(error, type=Error)
    return f"{read.name}: {read.message}" + (f"\n{read.stack}" if read.stack else "")


def _short(text: str) -> str:
    if len(text) > TEXT_CHARS_MAX:
        return escape(text[:TEXT_CHARS_MAX]) + f" … ({len(text):,} characters)"
    return escape(text)


def _mark(status: str) -> str:
    return {"Completed": "✓", "Failed": "✗", "Cancelled": "⊘", "Running": "▶", "Queued": "…"}[status]


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S") + "Z" if at_ms else "–"


def _length(run: RunSeen) -> str:
    if not run.ended_ms:
        return ""
    took_ms = run.ended_ms - (run.started_ms or run.queued_ms)
    return f"{took_ms} ms" if took_ms < 10_000 else f"{took_ms / 1000:.1f} s"
