"""How a run ended, for those who wait for it: by its id, or of a function that was just invoked.

A wait is one request that is answered when the run ends, or after the time that it names: then it is asked again. No
steps are read, and waiting costs little (``reading/results.py``): ask for this rather than for the whole run.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from millstream.api.answers import answer, raw_json
from millstream.api.door.door import DOOR, Door
from millstream.api.runs import run_id_of
from millstream.errors import BadRequest, Busy, FunctionError, LogUnavailable, NotFound
from millstream.history.results import ResultSeen
from millstream.model import limits
from millstream.model.text.durations import to_ms

NOT_OVER_STATUS: Final = 202


async def get_result(request: web.Request) -> web.Response:
    """``GET /v1/runs/{id}/result?wait=10s``: 200 once the run is over, 202 while it is not, 404 for none."""
    run = run_id_of(request)
    seen = await request.app[DOOR].results.result(run, wait_of(request))
    if seen is None:
        raise NotFound(f"Run not found: {run}. Runs that have ended are forgotten after a day, or as --history says.")
    status = 200 if seen.is_over else NOT_OVER_STATUS
    return answer({"data": result_shown(seen), "status": status}, status)


def wait_of(request: web.Request) -> float:
    """The seconds that a request wants to wait, RESULT_WAIT_MS_MAX at most; 0: not at all. Raises BadRequest."""
    text = request.query.get("wait", "")
    if not text:
        return 0.0
    try:
        return min(to_ms(text, "the query parameter wait"), limits.RESULT_WAIT_MS_MAX) / 1000
    except FunctionError as wrong:
        raise BadRequest(str(wrong)[:400]) from wrong


async def once_over(door: Door, run: str, wait_s: float) -> ResultSeen | None:
    """How a run that exists has ended; None where it has not in that time, or where nobody can say."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + wait_s
    while (left_s := ends - loop.time()) > 0:
        try:
            seen = await door.results.result(run, left_s)
        except (Busy, LogUnavailable):
            return None  # The run goes on all the same: that must not look as if it had not been started.
        if seen is not None:
            return seen if seen.is_over else None
    return None


def result_shown(seen: ResultSeen) -> dict[str, Any]:
    """What the API says of a run's end."""
    shown: dict[str, Any] = {"run_id": seen.run, "function_id": seen.function, "status": seen.status}
    if seen.error:
        return shown | {"error": raw_json(seen.error)}
    return shown | {"output": raw_json(seen.result)} if seen.is_over else shown
