"""``GET /v1/runs/{id}/jobs``: what of an open run is still to be done, and when; nothing once the run is over.

One entry for each step that has not ended, and one for the function's body where no step is open or the body itself
waits for its next attempt. ``JobID`` is what a call of an app carries as ``X-Inngest-Job-Id``.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from millstream.api.answers import found, iso
from millstream.api.door.door import DOOR
from millstream.api.runs import OVER, run_id_of
from millstream.errors import NotFound
from millstream.history.seen import RunInFull, RunSeen
from millstream.history.trail import BODY, ENDED, StepSeen, attempts_counted, wakes_at_ms
from millstream.model.ids import hash16


async def get_jobs(request: web.Request) -> web.Response:
    """What is still to be done. Raises NotFound for no run."""
    run = run_id_of(request)
    full = await request.app[DOOR].reads.ask(lambda queries: queries.run(run))
    if full is None:
        raise NotFound(f"Run not found: {run}")
    return found(_jobs(full))


def _jobs(full: RunInFull) -> list[dict[str, Any]]:
    run = full.run
    if run.status in OVER:
        return []
    resolved = sum(step.status in ENDED for step in full.steps if step.step)
    jobs = [_job(run.run, step, step.step or str(resolved)) for step in full.steps if _is_open(step)]
    return jobs or [_job(run.run, _body(run), str(resolved))]


def _is_open(step: StepSeen) -> bool:
    """The body's own entry stays as it was when the body goes on: only one that waits says something."""
    return step.status not in ENDED and (bool(step.step) or bool(wakes_at_ms(step)) or step.status == "held")


def _body(run: RunSeen) -> StepSeen:
    return StepSeen("", "", BODY, "planned", run.started_ms or run.queued_ms)


def _job(run: str, step: StepSeen, of: str) -> dict[str, Any]:
    return {
        "JobID": hash16(run, of).hex(),
        "at": iso(wakes_at_ms(step) or step.started_at_ms),
        "position": 0,
        "kind": step.kind,
        "attempt": attempts_counted(step),
        "step": step.step or None,
        "status": step.status,
    }
