"""Calls and replies of the unmodified SDKs with another server, recorded on the wire: a reduced form of them.

``recorded/py.json`` and ``js.json`` are objects by scenario, each a list of ``{"call": {url, body}, "reply": {status,
headers, body}}``. Ids stand as ``<ulid1>``, ``<sha1_1:fe05bcdc>``: the same text for the same id.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from millstream.execute.port import RunView
from millstream.model.effects import Execute
from millstream.model.event import Envelope
from millstream.model.operations import failure_json
from millstream.model.rows import Hand, RunRow, StepRow

SERVE = "http://localhost:3000/api/inngest"
Exchange = dict[str, Any]
RECORDED: dict[str, list[Exchange]] = {
    scenario: exchanges
    for language in ("py", "js")
    for scenario, exchanges in json.loads((Path(__file__).parent / "recorded" / f"{language}.json").read_text()).items()
}


def dispatch_of(exchange: Exchange) -> tuple[RunView, Execute]:
    """The run as recorded, and the dispatch, that a recorded call carries out."""
    query = parse_qs(urlsplit(exchange["call"]["url"]).query)
    (function,), (step,) = query["fnId"], query["stepId"]
    body = exchange["call"]["body"]
    context = body["ctx"]
    events = tuple(envelope(event) for event in body["events"])
    order = context["stack"]["stack"]
    rows = [
        row(context["run_id"], id, memo, order.index(id) + 1 if id in order else 0)
        for id, memo in body["steps"].items()
    ]
    target = "" if step == "step" else step
    if target:
        rows.append(StepRow(context["run_id"], target, target, "run", Hand.OUT, context["attempt"], 1))
    run = RunRow(
        context["run_id"], function, tuple(event.internal_id for event in events), "", 0,
        pending=int(bool(target)), resolved=len(order),
    )  # fmt: skip
    return RunView(run, events, tuple(rows)), Execute(run.run, function, target, context["attempt"], 1)


def envelope(event: dict[str, Any]) -> Envelope:
    """An event as it rests in a topic."""
    user = json.dumps(event["user"]).encode() if event.get("user") else b""
    data = msgspec.json.encode(event["data"])
    return Envelope(event["id"], event["id"], False, event["name"], data, event["ts"], event["ts"], user=user)


def row(run: str, step: str, memo: Any, order: int) -> StepRow:
    """The row of a resolved step that an SDK is told of in this way."""
    if isinstance(memo, dict) and set(memo) == {"error"}:
        error = dict(memo["error"])
        known = [error.pop(key, "") for key in ("name", "message", "stack")]
        more = msgspec.json.encode(error) if error else b""
        return StepRow(run, step, step, "run", Hand.FAILED, order=order, data=failure_json(*known, more))
    if isinstance(memo, dict) and set(memo) == {"data"}:
        return StepRow(run, step, step, "run", Hand.DONE, order=order, data=msgspec.json.encode(memo["data"]))
    kind = "wait_for_event" if memo else "sleep"
    return StepRow(run, step, step, kind, Hand.DONE, order=order, data=msgspec.json.encode(memo))
