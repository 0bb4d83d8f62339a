"""Reading runs and events back, and cancelling a run.

``/v1/*`` has the shapes users of the Inngest SDKs know, with more in them and with real status codes: the reference
server answers 200 to a read of something that does not exist, and caches it. Ours reads the history index, which
shows a fact within 200 ms; nothing is cached. Add a read: a question in ``history/queries.py``, a handler here, a
route in ``server.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from millstream.api.answers import JSON, answer, found, iso, key_shown, parse_number, raw_json
from millstream.api.door.door import DOOR, Door
from millstream.api.door.keys import may_act
from millstream.api.reading import positions
from millstream.api.times import parse_time
from millstream.errors import BadRequest, Busy, NotFound
from millstream.history.fold import STATUSES, parent_of
from millstream.history.queries import PAGE_ROWS_MAX, RUNS_OF_EVENT_MAX
from millstream.history.seen import EventSeen, NoticeSeen, Page, RunFilter, RunInFull, RunSeen
from millstream.history.trail import STATES, AttemptSeen, Error, GateSeen, StepSeen
from millstream.model.error_object import members
from millstream.model.ids import is_ulid, lane_of
from millstream.model.messages import group_topic
from millstream.model.run_requests import CancelRun

RUNS_PER_PAGE: Final = 50
EVENTS_PER_PAGE: Final = 20
ID_CHARS_MAX: Final = 1_024
NO_ENVIRONMENT: Final = "00000000-0000-0000-0000-000000000000"
OVER: Final = ("Completed", "Failed", "Cancelled")


async def list_events(request: web.Request) -> web.Response:
    """``GET /v1/events?name=&received_after=&limit=&cursor=``: newest first."""
    ask = request.query
    name, after, page = ask.get("name", ""), ask.get("received_after", ""), page_of(request, EVENTS_PER_PAGE)
    after_ms = parse_time(after, "received_after") if after else 0
    events, cursor = await request.app[DOOR].reads.ask(
        lambda queries: queries.events(name=name, received_after_ms=after_ms, page=page)
    )
    return found([_event(event) for event in events], cursor=str(cursor) if cursor else None)


async def get_event(request: web.Request) -> web.Response:
    """``GET /v1/events/{id}``: by internal id, or by the sender's."""
    event_id = _id(request)
    reads = request.app[DOOR].reads
    event = await reads.ask(lambda queries: queries.event(event_id))
    if event is None:
        raise NotFound("Event not found")
    place = f"{event.topic}/{event.partition}@{event.offset}"  # What a lane refuses, it names by its record.
    notices = await reads.ask(lambda queries: queries.notices(event.internal_id, place))
    return found(_event(event) | {"notices": _notices(notices)})


def _notices(notices: Iterable[NoticeSeen]) -> list[dict[str, Any]]:
    return [
        {"kind": n.kind, "function_id": n.function or None, "reason": n.reason, "at": iso(n.at_ms)} for n in notices
    ]


async def get_event_runs(request: web.Request) -> web.Response:
    """``GET /v1/events/{id}/runs``: none yet is an empty list; what cannot be an event is a 404.

    An event that was deduplicated has no runs of its own: asked for it, we show those of its sender's id.
    """
    event_id = _id(request)
    reads = request.app[DOOR].reads
    page = page_of(request, RUNS_OF_EVENT_MAX)
    runs, cursor = await reads.ask(lambda queries: queries.runs_of_event(event_id, page))
    if not runs:
        event = await reads.ask(lambda queries: queries.event(event_id))
        if event is None and not is_ulid(event_id):
            raise NotFound(f"Event not found: {event_id[:64]}")
        if event is not None and event.id != event.internal_id:
            sent_id = event.id
            runs, cursor = await reads.ask(lambda queries: queries.runs_of_sent_id(sent_id, page))
    return found([_run(run) for run in runs], cursor=str(cursor) if cursor else None)


async def get_run(request: web.Request) -> web.Response:
    """``GET /v1/runs/{id}``: with its steps and their attempts."""
    run, reads = run_id_of(request), request.app[DOOR].reads
    full = await reads.ask(lambda queries: queries.run(run))
    if full is None:
        raise NotFound(f"Run not found: {run}")
    notices = await reads.ask(lambda queries: queries.notices(run))
    return found(run_in_full(full) | {"notices": _notices(notices)})


async def get_output(request: web.Request) -> web.Response:
    """``GET /v1/runs/{id}/output?step=``: the whole output of a run, or of one of its steps, and nothing else."""
    run, step = run_id_of(request), request.query.get("step", "")
    output = await request.app[DOOR].reads.ask(lambda queries: queries.output(run, step))
    if not output:
        which = f"step {step[:64]!r} of run" if step else "run"
        raise NotFound(f"No output of {which} {run}: it is not there, or has not ended.")
    return web.Response(body=output, headers={"Content-Type": JSON})


async def list_runs(request: web.Request) -> web.Response:
    """``GET /api/runs?status=&function=&app=&event=&event_name=&from=&to=&limit=&cursor=``: newest first.

    ``status`` may name several, with commas or repeated. ``cursor`` of the answer's metadata asks for the next page.
    """
    wanted, page = filter_of(request), page_of(request, RUNS_PER_PAGE)
    runs, cursor = await request.app[DOOR].reads.ask(lambda queries: queries.runs(wanted, page))
    return found([_run(run) for run in runs], cursor=str(cursor) if cursor else None)


async def cancel_run(request: web.Request) -> web.Response:
    """``DELETE /v1/runs/{id}``: 200 once it is cancelled, and for a run that was over already; 404 for none."""
    door = request.app[DOOR]
    may_act(request)
    run = run_id_of(request)
    request_id = door.requests.new_id()
    message = CancelRun(run, "cancelled over the API", request_id, door.config.reply_partition)
    answered = await door.requests.ask(lane_of(run, door.config.lanes), request_id, message)
    reply = answered.reply
    is_shown = await positions.shown(door, reply)
    if answered.status == "cancelled":
        return positions.named(answer({"data": {"run_id": run, "status": "Cancelled"}, "status": 200}), reply)
    return positions.named(await _was_over(door, run, is_shown), reply)


async def _was_over(door: Door, run: str, is_shown: bool) -> web.Response:
    status = await door.shown.status_of(run)
    if status not in OVER and not is_shown:
        raise Busy(
            f"run {run} is not open, but the history has not come to its end yet, or to nothing of that name. "
            "Nothing is left to cancel: ask again for its status."
        )
    if status is None:
        raise NotFound(f"Run not found: {run}")
    return answer({"data": {"run_id": run, "status": status}, "status": 200})


async def get_folded(request: web.Request) -> web.Response:
    """``GET /api/folded?lane=&offset=``: wait a moment until reads show this record of a lane; whether they do."""
    door, ask = request.app[DOOR], request.query
    lane, offset = ask.get("lane", ""), ask.get("offset", "")
    number, at = positions.position_in(f"{lane}:{offset}", door.config.lanes)
    journal = group_topic(door.config.group, "journal")
    return found({"folded": await door.reads.wait_folded(journal, number, at)})


def run_in_full(full: RunInFull) -> dict[str, Any]:
    """A run with everything below it, as the API shows it."""
    left_out = {"errors_cut": full.errors_cut} if full.errors_cut else {}
    steps = [_step(step, full.run.run) for step in full.steps]
    gates = {"gates": [_gate(gate) for gate in full.gates]} if full.gates else {}
    return _run(full.run) | {"event_ids": list(full.events), "steps": steps} | gates | left_out


def _gate(gate: GateSeen) -> dict[str, Any]:
    return {
        "gate": gate.gate,
        "key": key_shown(gate.key),
        "step": gate.step or None,
        "asked_at": iso(gate.asked_at_ms),
        "passed_at": iso(gate.passed_at_ms),
    }


def _run(run: RunSeen) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "run_id": run.run,
        "run_started_at": iso(run.started_ms or run.queued_ms),
        "function_id": run.function,
        "function_name": run.function_name or run.function,
        "function_version": 0,
        "app_id": run.app or None,
        "environment_id": NO_ENVIRONMENT,
        "event_id": run.event,
        "event_name": run.event_name or None,
        "status": run.status,
        "state": run.state,
        "reason": run.reason or None,
        "queued_at": iso(run.queued_ms),
        "ended_at": iso(run.ended_ms),
    }
    if (parent := parent_of(run.cause)) is not None:
        shown["parent"] = {"run_id": parent[0], "step": parent[1]}
    if run.status in OVER:
        shown |= _value("output", run.error or run.result, run.result_bytes, f"/v1/runs/{run.run}/output")
    if run.error:
        shown["error"] = raw_json(run.error)
    return shown


def _value(name: str, value: bytes, size: int, whole: str) -> dict[str, Any]:
    """A value as JSON; of one that is cut its size, its beginning as text, and where the whole is."""
    if not size:
        return {name: raw_json(value)}
    return {name: None, f"{name}_cut": {"bytes": size, "begins": value.decode(errors="ignore"), "whole": whole}}


def _step(step: StepSeen, run: str) -> dict[str, Any]:
    where = f"/v1/runs/{run}/output?{urlencode({'step': step.step})}"
    return {
        "id": step.step,
        "name": step.name,
        "kind": step.kind,
        "status": step.status,
        "started_at": iso(step.started_at_ms),
        "ended_at": iso(step.ended_at_ms),
        "wake_at": iso(step.wake_at_ms),
        "waits_for": step.waits_for,
        "timed_out": step.timed_out,
        **_value("output", step.output, step.output_bytes, where),
        "attempts": [_attempt(attempt) for attempt in step.attempts],
    }


def _attempt(attempt: AttemptSeen) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "status": attempt.status,
        "started_at": iso(attempt.started_at_ms),
        "ended_at": iso(attempt.ended_at_ms),
        "retry_at": iso(attempt.retry_at_ms),
        "error": _error(attempt.error),
    }


def _error(error: Error | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"name": error.name, "message": error.message, "stack": error.stack} | members(error.more)


def _event(event: EventSeen) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "internal_id": event.internal_id,
        "account_id": NO_ENVIRONMENT,
        "environment_id": NO_ENVIRONMENT,
        "source": "",
        "source_id": None,
        "received_at": iso(event.received_ms),
        "id": event.id,
        "name": event.name,
        **_value("data", event.data, event.cut_bytes, f"/v1/events/{event.internal_id}"),
        "ts": event.ts_ms,
    }
    optional = {"user": raw_json(event.user), "v": event.v, "meta": raw_json(event.meta), "key": event.key}
    shown |= {name: value for name, value in optional.items() if value}
    if event.topic:
        shown |= {"topic": event.topic, "partition": event.partition, "offset": event.offset}
    return shown


def _id(request: web.Request) -> str:
    text = request.match_info["id"]
    if len(text) > ID_CHARS_MAX:
        raise BadRequest(f"Invalid event ID: expected at most {ID_CHARS_MAX} characters, got {len(text)}")
    return text


def run_id_of(request: web.Request) -> str:
    """The run that the path names. Raises BadRequest for what is no id."""
    text = request.match_info["id"]
    if not is_ulid(text):
        raise BadRequest(f"Invalid run ID: {text[:64]}")
    return text


def page_of(request: web.Request, default: int) -> Page:
    """``limit`` and ``cursor`` of a listing. Raises BadRequest."""
    ask = request.query
    limit = parse_number(ask["limit"], "limit", PAGE_ROWS_MAX) if ask.get("limit") else default
    cursor = parse_number(ask["cursor"], "cursor", (1 << 63) - 1) if ask.get("cursor") else 0
    return Page(limit, cursor)


def filter_of(request: web.Request) -> RunFilter:
    """Which runs are asked for. Raises BadRequest."""
    ask = request.query
    statuses = [
        text.strip().capitalize() for part in ask.getall("status", []) for text in part.split(",") if text.strip()
    ]
    words = tuple(dict.fromkeys((*STATUSES, *STATES)))
    unknown = sorted(set(statuses) - set(words))
    if unknown:
        raise BadRequest(f"Invalid status query parameter: expected {', '.join(words)}, got {unknown[0][:64]!r}")
    asked = tuple(dict.fromkeys(statuses))
    return RunFilter(
        statuses=tuple(word for word in asked if word in STATUSES),
        states=tuple(word for word in asked if word not in STATUSES),
        function=ask.get("function", ""),
        app=ask.get("app", ""),
        event=ask.get("event", ""),
        event_name=ask.get("event_name", ""),
        from_ms=parse_time(ask["from"], "from") if ask.get("from") else 0,
        to_ms=parse_time(ask["to"], "to") if ask.get("to") else 0,
    )
