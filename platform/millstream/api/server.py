"""The door as an application: its routes in one table, and what holds for all of them.

Every answer is JSON with a real status; an error we did not foresee is a 500 that names only a number to look for in
the log. Browsers on other origins may post events (that is what front ends do) and read nothing.

Add an endpoint: a handler in ``api/<noun>.py``, a line in the table that it belongs to.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import web

from millstream.api import (
    callbacks,
    cancellations,
    dead_letters,
    events,
    functions,
    held,
    limits,
    page,
    probes,
    results,
    runs,
    scans,
    signals,
)
from millstream.api.answers import answer, failed
from millstream.api.apps import endpoints as apps
from millstream.api.door.browsers import refuse_strange_host
from millstream.api.door.door import DOOR, Door, DoorConfig
from millstream.api.door.keys import has_key, refuse_other_environment, refuse_unsigned
from millstream.api.door.leaving import end_connections
from millstream.api.gql import serving as gql
from millstream.api.probes import MEASURED, WAITS_FOR, get_livez, get_readyz
from millstream.api.protocol import app_functions, ignored, jobs, run_state
from millstream.api.reading import positions, queues
from millstream.errors import MillstreamError
from millstream.model.messages import group_topic
from millstream.model.text.redaction import redacted_by_form
from millstream.model.waits.callback_token import PATH
from millstream.wire.signing import KIND_HEADER

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PREFLIGHT_KEPT_S: Final = 3600

_log = logging.getLogger(__name__)


async def get_health(request: web.Request) -> web.Response:
    """The loop turns."""
    return answer({"status": 200, "message": "OK"})


async def get_metrics(request: web.Request) -> web.Response:
    """Prometheus' text format."""
    door = request.app[DOOR]
    door.config.telemetry.set("millstream_ingest_bytes_under_way", door.budget.used)
    if door.has_history:
        await _measure_history(door)
    return await probes.get_metrics(request)


async def _measure_history(door: Door) -> None:
    """How far the history is behind each lane's journal."""
    config = door.config
    journal = group_topic(config.group, "journal")
    lanes = range(config.lanes)
    folded = await door.reads.ask(lambda queries: [queries.position(journal, lane) for lane in lanes])
    for lane in lanes:
        end = await config.log.end_offset(journal, lane)
        config.telemetry.set("millstream_history_lag", max(end - folded[lane], 0), str(lane))


async def preflight(request: web.Request) -> web.Response:
    """A browser asks whether it may post events."""
    headers = {"Access-Control-Allow-Methods": "POST", "Access-Control-Max-Age": str(PREFLIGHT_KEPT_S)}
    wanted = request.headers.get("Access-Control-Request-Headers")
    if wanted:
        headers["Access-Control-Allow-Headers"] = wanted[:1024]
    return web.Response(headers=headers)


async def hand_on(request: web.Request) -> web.StreamResponse:
    """A read, where the history is another process."""
    return await request.app[DOOR].forward.hand_on(request)


def as_asked(handler: Handler) -> Handler:
    """The read, as of the position that it asks for."""

    async def read(request: web.Request) -> web.StreamResponse:
        await positions.as_asked(request)
        return await handler(request)

    return read


Routes = tuple[tuple[str, str, Handler], ...]
ABOUT: Final[Routes] = (
    ("GET", "/livez", get_livez),
    ("GET", "/readyz", get_readyz),
    ("GET", "/health", get_health),
    ("GET", "/metrics", get_metrics),
)
WRITES: Final[Routes] = (
    ("POST", "/e/{key}", events.post_events),
    ("OPTIONS", "/e/{key}", preflight),
    ("POST", "/invoke/{slug}", functions.post_invoke),
    ("DELETE", "/v1/runs/{id}", runs.cancel_run),
    ("POST", "/api/runs/{id}/resume", held.post_resume),
    ("POST", "/api/runs/{id}/fail", held.post_fail),
    ("DELETE", "/v0/runs/{id}", runs.cancel_run),
    ("POST", "/v1/runs/{id}/metadata", ignored.post_metadata),
    ("POST", "/v1/traces/userland", ignored.post_spans),
    ("GET", "/v1/apps/{app}/functions", app_functions.list_functions),
    ("GET", "/v1/runs/{id}/result", results.get_result),
    ("POST", "/v1/signals", signals.post_signal),
    ("POST", PATH + "{token}", callbacks.post_callback),
    ("GET", PATH + "{token}", callbacks.get_callback),
    ("POST", "/v1/cancellations", cancellations.post_cancellation),
    ("DELETE", "/v1/cancellations/{id}", cancellations.delete_cancellation),
    ("POST", "/api/functions/{slug}/backfill", scans.post_backfill),
    ("GET", "/api/functions/{slug}/limits", limits.get_limits),
    ("PUT", "/api/functions/{slug}/limits", limits.put_limits),
    ("DELETE", "/api/functions/{slug}/limits", limits.delete_limits),
    ("DELETE", "/api/scans/{id}", scans.delete_scan),
    ("GET", "/api/dead-letters", dead_letters.list_letters),
    ("GET", "/api/dead-letters/{id}", dead_letters.get_letter),
    ("POST", "/api/dead-letters/{id}/redrive", dead_letters.post_redrive),
    ("GET", "/dev", functions.get_dev),
    ("POST", "/fn/register", apps.post_register),
    ("DELETE", "/fn/remove", apps.delete_remove),
    ("GET", "/api/apps", apps.get_apps),
    ("POST", "/api/apps/sync", apps.post_sync),
    ("DELETE", "/api/apps/{id}", apps.delete_app),
)
READS: Final[Routes] = (
    ("GET", "/v1/events", as_asked(runs.list_events)),
    ("GET", "/v1/events/{id}", as_asked(runs.get_event)),
    ("GET", "/v1/events/{id}/runs", as_asked(runs.get_event_runs)),
    ("GET", "/v1/runs/{id}", as_asked(runs.get_run)),
    ("GET", "/v1/runs/{id}/output", as_asked(runs.get_output)),
    ("GET", "/v1/runs/{id}/jobs", as_asked(jobs.get_jobs)),
    ("GET", "/v0/runs/{id}/actions", run_state.get_actions),
    ("GET", "/v0/runs/{id}/batch", run_state.get_batch),
    ("POST", gql.PATH, gql.post_query),
    ("GET", "/api/runs", as_asked(runs.list_runs)),
    ("GET", "/v1/cancellations", as_asked(cancellations.list_cancellations)),
    ("GET", "/api/folded", runs.get_folded),
    ("GET", "/api/scans", as_asked(scans.list_scans)),
    ("GET", "/api/functions/{slug}/queues", as_asked(queues.get_queues)),
    ("GET", "/", page.get_page),
)

ROUTES: Final[Routes] = ABOUT + WRITES + READS


def build_app(config: DoorConfig) -> web.Application:
    """The application. It must be made while a loop runs; the door starts and ends with it.

    Where the history is another process, reads and whatever else it may know are handed on to it.
    """
    app = web.Application(middlewares=[_guard])
    door = app[DOOR] = Door(config)
    app[WAITS_FOR], app[MEASURED] = door.waits_for, config.telemetry
    app.cleanup_ctx.append(_running_door)
    app.on_shutdown.append(_end_waits)
    app.on_response_prepare.append(end_connections)
    for method, path, handler in ABOUT + WRITES + (READS if door.has_history else ()):
        app.router.add_route(method, path, handler)
        if method == "GET":
            app.router.add_route("HEAD", path, handler)  # The same answer; what sends it leaves the body out.
    if not door.has_history:
        app.router.add_route("POST", gql.PATH, gql.hand_on)
        app.router.add_route("GET", "/{anything:.*}", hand_on)
    return app


async def _running_door(app: web.Application) -> AsyncIterator[None]:
    door = app[DOOR]
    await door.start()
    yield
    await door.close()


async def _end_waits(app: web.Application) -> None:
    """Requests that wait for ends of runs are answered now: the server waits for every request before it stops."""
    await app[DOOR].results.end()


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors become JSON; what holds for every answer is added."""
    try:
        if not has_key(request):
            refuse_strange_host(request, request.app[DOOR].config.allowed_hosts)
        refuse_unsigned(request)
        refuse_other_environment(request)
        response = await handler(request)
    except MillstreamError as error:
        response = failed(error)
        if response.status == 500:
            _log.error("request failed path=%s error=%s", request.path, error)
    except web.HTTPException as error:
        response = _http_error(request, error)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        number = secrets.token_hex(4)
        _log.exception("request failed unexpectedly path=%s number=%s", request.path, number)
        text = f"internal error {number}: please report it with the lines of the log that name this number"
        response = answer({"error": text, "data": None, "status": 500}, 500)
    if request.content.exception() is not None:
        response.force_close()  # What follows a body that cannot be read is no request: clients must not send another.
    headers = response.headers
    headers[KIND_HEADER] = request.app[DOOR].config.signing.kind
    origin = request.headers.get("Origin")
    if origin and request.path.startswith("/e/"):
        headers["Access-Control-Allow-Origin"] = origin
        headers["Vary"] = "Origin"
    return response


def _http_error(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    path = redacted_by_form(request.path[:200])
    words = {
        404: f"no such path: {request.method} {path}. Events go to POST /e/<event key>.",
        405: f"{request.method} is not allowed here, only {error.headers.get('Allow', '')}",
        413: "the request body is too large",
    }
    text = words.get(error.status, error.reason)
    response = answer({"error": text, "data": None, "status": error.status}, error.status)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
