"""What is asked of functions: run one directly, list them.

``POST /invoke/{slug}`` answers once the run exists. An unknown function is a 404: the reference server answers 200
with an id that nothing will ever have, which helps nobody.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from millstream.api.answers import TEXT, answer
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR, Door
from millstream.api.door.keys import may_act
from millstream.api.door.seeds import seeded_id
from millstream.api.limits import limits_shown
from millstream.api.reading.positions import named, shown
from millstream.api.results import NOT_OVER_STATUS, once_over, result_shown, wait_of
from millstream.errors import BadRequest, NotFound, NotStarted
from millstream.model import limits
from millstream.model.commands import InvokeFunction
from millstream.model.event import FUNCTION_INVOKED, Envelope
from millstream.model.function import AppSpec, CronTrigger, FunctionSpec, TopicTrigger, Trigger
from millstream.model.gates.declared import FlowSpec
from millstream.model.ids import home_of
from millstream.model.invocation import MEMBER, of_request
from millstream.model.text.durations import duration_text
from millstream.wire.app_urls import call_url
from millstream.wire.json_limits import read_json


class Invoke(msgspec.Struct):
    """The body of an invocation. Unknown fields are passed over."""

    data: dict[str, msgspec.Raw] | None = None
    user: dict[str, msgspec.Raw] | None = None


_invoke: Final = msgspec.json.Decoder(Invoke)


async def post_invoke(request: web.Request) -> web.Response:
    """Start a function: ``{"id": event id, "run_id", "status": 200}``. With ``wait=10s`` how it ended, or 202.

    Where a gate keeps the start for later it is 202 at once, with ``"kept": true`` and the id of the run that may come.
    Raises NotStarted where one has skipped it.
    """
    door = request.app[DOOR]
    wait_s = wait_of(request)
    slug = request.match_info["slug"]
    may_act(request)
    body = await read_body(request, door.budget, limits.EVENT_BYTES_MAX)
    try:
        wanted = _read(body)
    finally:
        door.budget.give_back(len(body))
    request_id = seeded_id(request, slug, door.config.now_ms()) or door.requests.new_id()
    event = _event(door, slug, wanted, request_id)
    lane = home_of(request_id, door.config.lanes)  # Any lane may start it: spread them.
    message = InvokeFunction(slug, event, request_id, door.config.reply_partition)
    answered = await door.requests.ask(lane, request_id, message)
    if answered.status == "skipped":
        raise NotStarted(f"function {slug[:255]!r} was not started: {answered.outcome['reason']}.")
    if answered.status == "kept":
        later = {"id": event.internal_id, "run_id": answered.outcome["run"], "kept": True, "status": NOT_OVER_STATUS}
        return named(answer(later, NOT_OVER_STATUS, content_type=TEXT), answered.reply)
    if answered.status != "started":
        known = ", ".join(sorted(fn.slug for app in door.catalogue.apps.values() for fn in app.functions)[:20])
        raise NotFound(f"function {slug[:255]!r} not found. Known functions: {known or 'none'}.")
    run, status = answered.outcome["run"], 200
    started: dict[str, object] = {"id": event.internal_id, "run_id": run}
    if wait_s:
        seen = await once_over(door, run, wait_s)
        status = NOT_OVER_STATUS if seen is None else 200
        started |= {} if seen is None else {"data": result_shown(seen)}
    else:
        await shown(door, answered.reply)
    return named(answer(started | {"status": status}, status, content_type=TEXT), answered.reply)


async def get_dev(request: web.Request) -> web.Response:
    """The readiness probe of SDKs and tools, with all functions."""
    door = request.app[DOOR]
    functions = [
        registered(app, spec) | _overridden(door, spec)
        for _, app in sorted(door.catalogue.apps.items())
        for spec in app.functions
    ]
    sync = door.config.sync
    return answer(
        {
            "version": door.config.version,
            "authed": bool(door.config.signing),
            "startOpts": {"urls": sync.urls, "autodiscover": sync.discover, "poll": sync.poll, "poll_interval": 5},
            "functions": functions,
            "handlers": None,
            "isSingleNodeService": False,
            "isMissingSigningKey": False,
            "isMissingEventKeys": False,
            "features": {},
        }
    )


def _read(body: bytes) -> Invoke:
    if not body.strip():
        return Invoke()
    if problem := read_json(body)[1]:
        raise BadRequest(f"invocation refused: the request body {problem}.")
    try:
        return _invoke.decode(body)
    except msgspec.MsgspecError as wrong:
        raise BadRequest(
            f'invocation refused: expected {{"data": an object, "user": an object}}, got {wrong}'
        ) from wrong


def registered(app: AppSpec, spec: FunctionSpec) -> dict[str, Any]:
    """A function as it is registered."""
    return _function(app.id, spec) | _steps(app, spec)


def _event(door: Door, slug: str, wanted: Invoke, internal: str) -> Envelope:
    """The event that triggers an invoked run; ``_inngest`` says what was invoked.

    Its id is that of the request: where that is sent again, the answer names the event that the run was started on.
    """
    now_ms = door.config.now_ms()
    return Envelope(
        internal_id=internal,
        id=internal,
        id_is_clients=False,
        name=FUNCTION_INVOKED,
        data=msgspec.json.encode({**(wanted.data or {}), MEMBER: of_request(slug)}),
        ts_ms=now_ms,
        received_at_ms=now_ms,
        user=msgspec.json.encode(wanted.user) if wanted.user else b"",
        catalogue=door.catalogue.end,
    )


def _function(app_id: str, spec: FunctionSpec) -> dict[str, Any]:
    return {
        "id": spec.slug,
        "slug": spec.slug,
        "name": spec.name,
        "app": app_id,
        "triggers": [_trigger(trigger) for trigger in spec.triggers],
        "retries": spec.retries,
        "flow": flow_shown(spec.flow),
    }


def _steps(app: AppSpec, spec: FunctionSpec) -> dict[str, Any]:
    """Where a function of an app over HTTP is called, in the form that tools of the SDKs read."""
    if not app.endpoint:
        return {}
    step = {"id": "step", "name": "step", "uri": call_url(app.endpoint, spec.slug), "retries": spec.retries}
    return {"fv": 1, "steps": [step]}


def flow_shown(flow: FlowSpec | None) -> dict[str, Any]:
    """What is declared, as it was declared: an option that was left out is left out; lengths read ``1m30s``."""
    declared = msgspec.to_builtins(flow) if flow is not None else {}
    return {name: _rule(value) for name, value in declared.items() if value}


def _overridden(door: Door, spec: FunctionSpec) -> dict[str, Any]:
    """What an operator has set instead of what is declared; nothing where nobody has."""
    held = door.catalogue.limits.get(spec.slug)
    if held is None or not held.overrides:
        return {}
    shown = limits_shown(spec.slug, spec, held)
    return {"overrides": [*(one for one in shown["limits"] if one["override"]), *shown["moot"]]}


def _rule(rule: Any) -> Any:
    if isinstance(rule, list | tuple):
        return [_rule(one) for one in rule]
    if not isinstance(rule, dict):
        return rule
    shown = {
        name.removesuffix("_ms"): duration_text(value) if name.endswith("_ms") else value
        for name, value in rule.items()
        if value not in ("", 0)
    }
    return {"if" if name == "expression" else name: value for name, value in shown.items()}


def _trigger(trigger: Trigger) -> dict[str, str]:
    if isinstance(trigger, CronTrigger):
        jitter = {"jitter": duration_text(trigger.jitter_ms)} if trigger.jitter_ms else {}
        return {"cron": trigger.cron, **jitter}
    name = {"topic": trigger.topic} if isinstance(trigger, TopicTrigger) else {"event": trigger.event}
    return {**name, "expression": trigger.expression} if trigger.expression else name
