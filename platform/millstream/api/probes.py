"""What every server process answers about itself: it lives, it is ready, its metrics.

    GET /livez    200: never about brokers, lag or restores, or a slow broker would restart all
    GET /readyz   200 once it can do its work, else 503 with what it waits for
    GET /metrics  Prometheus' text format

A door and a history have them beside their own routes. A worker, which runs user code that may block its loop, serves
only these, in a thread of their own (``sockets/probes_thread.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web

from millstream.api.answers import answer
from millstream.telemetry import Telemetry

WaitsFor = Callable[[], str]
"""What a process waits for before it can do its work; "" once it can."""
WAITS_FOR: Final[web.AppKey[WaitsFor]] = web.AppKey("waits_for")
MEASURED: Final = web.AppKey("measured", Telemetry)


async def get_livez(request: web.Request) -> web.Response:
    """The loop turns."""
    return answer({"status": "ok"})


async def get_readyz(request: web.Request) -> web.Response:
    """Whether it can do its work."""
    waits_for = request.app[WAITS_FOR]()
    if waits_for:
        return answer({"status": "not ready", "waits_for": waits_for}, 503)
    return answer({"status": "ok"})


async def get_metrics(request: web.Request) -> web.Response:
    """Prometheus' text format."""
    request.app[MEASURED].set("millstream_ready", not request.app[WAITS_FOR]())
    return exposed(request.app[MEASURED])


def exposed(telemetry: Telemetry) -> web.Response:
    """All metrics as they are."""
    body, content_type = telemetry.exposition()
    return web.Response(body=body, headers={"Content-Type": content_type})
