"""Held runs: an operator resumes one, or lets it fail (core/runs/holding.py).

The run's lane decides. A request that is sent again with the same seed gets the same answer, so one whose answer was
lost is not "not held". Which runs are held is a question to ``GET /api/runs?status=Held``.
"""

from __future__ import annotations

from aiohttp import web

from millstream.api.answers import answer
from millstream.api.door.door import DOOR, Door
from millstream.api.door.keys import may_act
from millstream.api.door.requests import Answer
from millstream.api.door.seeds import seeded_id
from millstream.api.reading import positions
from millstream.api.runs import OVER, run_id_of
from millstream.errors import Busy, Conflict, NotFound
from millstream.model.ids import lane_of
from millstream.model.run_requests import FailRun, ResumeRun


async def post_resume(request: web.Request) -> web.Response:
    """``POST /api/runs/{id}/resume``: what is held of it is tried again; 409 where nothing is held, 404 for none."""
    return await _decided(request, ResumeRun, "resumed")


async def post_fail(request: web.Request) -> web.Response:
    """``POST /api/runs/{id}/fail``: what is held of it fails; 409 where nothing is held, 404 for none."""
    return await _decided(request, FailRun, "failed")


async def _decided(request: web.Request, kind: type[ResumeRun] | type[FailRun], done: str) -> web.Response:
    door = request.app[DOOR]
    may_act(request)
    run = run_id_of(request)
    request_id = seeded_id(request, run, door.config.now_ms()) or door.requests.new_id()
    message = kind(run, request_id, door.config.reply_partition)
    answered = await door.requests.ask(lane_of(run, door.config.lanes), request_id, message)
    is_shown = await positions.shown(door, answered.reply)
    if answered.status != done:
        raise await _not_held(door, run, answered, is_shown)
    return positions.named(answer({"data": {"run_id": run, "outcome": done}, "status": 200}), answered.reply)


async def _not_held(door: Door, run: str, answered: Answer, is_shown: bool) -> Conflict | NotFound | Busy:
    status = await door.shown.status_of(run)
    if status is None and is_shown and answered.status == "not_open":
        return NotFound(f"Run not found: {run}")
    if status in OVER:
        return Conflict(f"run {run} is not held: it is over, {status}. Nothing was changed.")
    if answered.status == "not_open":
        return Busy(f"run {run} is not open, but the history has not come to its end yet. Ask again for its status.")
    return Conflict(
        f"run {run} is not held: it goes on by itself, or somebody has resumed it already. Nothing was changed. "
        "See which runs are held: millstream runs list --status held."
    )
