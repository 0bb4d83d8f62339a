"""What SDKs send for a view that is not here: taken, so that no app fails over it, and not kept.

    POST /v1/runs/{id}/metadata     what a step says of itself (``step.metadata``)
    POST /v1/traces/userland        spans of the app's own code, OTLP

The status is 202, and the answer says that nothing was kept. The body is read and dropped within the door's budget.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from millstream.api.answers import answer
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR
from millstream.api.runs import run_id_of

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
ACCEPTED: Final = 202


async def post_metadata(request: web.Request) -> web.Response:
    """``POST /v1/runs/{id}/metadata``: 202; 400 for what is no run's id."""
    run_id_of(request)
    return await _passed_over(request, "metadata of runs")


async def post_spans(request: web.Request) -> web.Response:
    """``POST /v1/traces/userland``: 202."""
    return await _passed_over(request, "spans of an app's own code")


async def _passed_over(request: web.Request, what: str) -> web.Response:
    door = request.app[DOOR]
    body = await read_body(request, door.budget, BODY_BYTES_MAX)
    door.budget.give_back(len(body))
    return answer(
        {"data": None, "message": f"taken and not kept: {what} are not stored here", "status": ACCEPTED}, ACCEPTED
    )
