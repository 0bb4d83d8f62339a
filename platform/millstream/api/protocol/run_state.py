"""The state of a run for the app that executes it, where a call would be too large to carry it.

    the lane ──> a call with use_api ──> the app ──┬── GET /v0/runs/{id}/actions ──> {step id: what it remembers}
                                                   └── GET /v0/runs/{id}/batch   ──> [events]

The executor has made the call of rows that were durable before, so an answer must hold at least these: a step that is
left out would be run again. The answer is read as of the end of the lane's journal when it is asked for, or is a 503.
Both answers are bare, without ``data`` around them. What is said of a step is what a call says (``step_memos.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from aiohttp import web

from millstream.api.answers import JSON
from millstream.api.door.door import DOOR
from millstream.api.reading import positions
from millstream.api.runs import OVER, run_id_of
from millstream.errors import Gone, LogUnavailable, NotFound
from millstream.history.queries import Queries
from millstream.history.seen import RunInFull
from millstream.history.trail import Error, StepSeen
from millstream.model.operations import failure_json
from millstream.model.rows import Hand, StepRow
from millstream.model.waits.awaited import AwaitedSignal
from millstream.wire.step_memos import event_objects, memos

T = TypeVar("T")
PIECE_BYTES: Final = 256 * 1024
UNKNOWN: Final = Error("Error", "the error of this step is not in the history")
_HANDS: Final = {"completed": Hand.DONE, "failed": Hand.FAILED}


async def get_actions(request: web.Request) -> web.Response:
    """``GET /v0/runs/{id}/actions``: an object of the steps that are resolved; 410 once the run is over."""
    run = run_id_of(request)
    await positions.at_end_of(request.app[DOOR], run)
    return _bare(await _of_open_run(request, run, lambda queries, full: _actions(full)))


async def get_batch(request: web.Request) -> web.Response:
    """``GET /v0/runs/{id}/batch``: the events that have started the run, in order; 410 once the run is over."""
    run, door = run_id_of(request), request.app[DOOR]
    await positions.at_end_of(door, run)
    events = await _of_open_run(request, run, _batch)
    if events is None:
        await positions.events_at_end(door)
        events = await _of_open_run(request, run, _batch)
    if events is None:
        raise LogUnavailable(
            f"the history does not have all events of run {run}: they came before it began, or it is behind. "
            "Ask again; if it stays so, millstream lanes verify says whether the log has them."
        )
    return _bare(events)


async def _of_open_run(request: web.Request, run: str, ask: Callable[[Queries, RunInFull], T]) -> T:
    """What is asked of a run, in the thread that reads. Raises NotFound, or Gone where the run is over."""

    def answer(queries: Queries) -> T:
        full = queries.whole(run)
        if full is None:
            raise NotFound(f"Run not found: {run}")
        if full.run.status in OVER:
            raise Gone(f"runtime state is no longer available for runID: {run}")
        return ask(queries, full)

    return await request.app[DOOR].reads.ask(answer)


def _actions(full: RunInFull) -> bytes:
    return memos(_row(full.run.run, step) for step in full.steps if step.step and step.status in _HANDS)


def _row(run: str, step: StepSeen) -> StepRow:
    """The resolved step as its lane keeps it."""
    data = step.output or b"null"
    if step.status == "failed":
        errors = [attempt.error for attempt in step.attempts if attempt.error is not None]
        error = errors[-1] if errors else UNKNOWN
        data = failure_json(error.name, error.message, error.stack, error.more)
    waits = step.waits_for
    signal = AwaitedSignal(waits.signal, came=True) if waits is not None and waits.signal and waits.came else None
    return StepRow(run, step.step, step.name, step.kind, _HANDS[step.status], data=data, awaits=signal)


def _batch(queries: Queries, full: RunInFull) -> bytes | None:
    """None where the history does not have them all."""
    events = queries.envelopes(full.events)
    return event_objects(events, user=False) if len(events) == len(full.events) else None


def _bare(body: bytes) -> web.Response:
    """The body as it is; a long one in pieces: the loop would stand still over one of 32 MiB."""
    headers = {"Content-Type": JSON}
    return web.Response(body=body if len(body) <= PIECE_BYTES else _pieces(body), headers=headers)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), PIECE_BYTES):
        yield body[at : at + PIECE_BYTES]
