"""Cancellations: all open runs of a function that were queued in some time and fit an expression, ended at once.

The cancellation's home lane records it and tells the others (``core/runs/cancellations.py``), so an answer means that
every lane will look for such runs, whatever happens to it meanwhile. Its id is that of the request: one that is sent
again with the same seed is the same cancellation.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec
from aiohttp import web

from millstream.api.answers import answer, found, iso, parse_number
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR, Door
from millstream.api.door.keys import may_act
from millstream.api.door.seeds import seeded_id
from millstream.api.reading import positions
from millstream.api.times import parse_time
from millstream.errors import BadRequest, NotFound
from millstream.history.cancellations import NEWEST, CancellationSeen
from millstream.history.queries import PAGE_ROWS_MAX
from millstream.model import limits
from millstream.model.ids import home_of, is_ulid
from millstream.model.run_requests import CancelRuns, StopCancelling
from millstream.model.text.storable import is_storable
from millstream.wire.json_limits import read_json

BODY_BYTES_MAX: Final = 64 * 1024
NOW: Final = "now"
SHAPE: Final = (
    'Send {"app_id": …, "function_id": …, "started_before": a time or "now"}, and "started_after", "if" or "reason" '
    "where they are meant."
)

_log = logging.getLogger(__name__)


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body. A field that is misspelt would cancel more than was meant: unknown ones are refused."""

    function_id: str
    started_before: str | int = ""
    started_after: str | int = ""
    app_id: str = ""
    expression: str = msgspec.field(name="if", default="")
    reason: str = ""


_wanted: Final = msgspec.json.Decoder(Wanted)


async def post_cancellation(request: web.Request) -> web.Response:
    """``POST /v1/cancellations``: its id, once its home lane has recorded it and owes it to the others."""
    door = request.app[DOOR]
    may_act(request)
    body = await read_body(request, door.budget, BODY_BYTES_MAX)
    try:
        wanted = _read(body)
    finally:
        door.budget.give_back(len(body))
    slug = _slug(door, wanted)
    from_ms, before_ms = _range(wanted, door.config.now_ms())
    what = body.decode("utf-8", "surrogateescape")
    id = seeded_id(request, what, door.config.now_ms()) or door.requests.new_id()
    message = CancelRuns(
        id, slug, from_ms, before_ms, wanted.expression, wanted.reason, id, door.config.reply_partition
    )  # fmt: skip
    answered = await door.requests.ask(home_of(id, door.config.lanes), id, message)
    _log.info("cancellation recorded id=%s function=%s from=%s", id, slug, request.remote)
    await positions.shown(door, answered.reply)
    shown = {
        "id": id,
        "function_id": slug,
        "started_after": iso(from_ms),
        "started_before": iso(int(answered.outcome["before_ms"])),
        "if": wanted.expression or None,
        "reason": wanted.reason or None,
    }
    return positions.named(answer({"data": shown, "status": 200}), answered.reply)


async def delete_cancellation(request: web.Request) -> web.Response:
    """``DELETE /v1/cancellations/{id}``: 200 once every lane is sure to stop; 404 for one that never was."""
    door = request.app[DOOR]
    may_act(request)
    id = request.match_info["id"]
    if not is_ulid(id):
        raise BadRequest(f"Invalid cancellation ID: {id[:64]}")
    request_id = door.requests.new_id()
    message = StopCancelling(id, request_id, door.config.reply_partition)
    answered = await door.requests.ask(home_of(id, door.config.lanes), request_id, message)
    if answered.status != "stopping":
        raise NotFound(f"no cancellation {id} is under way, or was asked for within a day. See GET /v1/cancellations.")
    await positions.shown(door, answered.reply)
    return positions.named(answer({"data": {"id": id, "state": "stopping"}, "status": 200}), answered.reply)


async def list_cancellations(request: web.Request) -> web.Response:
    """``GET /v1/cancellations?limit=&cursor=``: the newest first, each with how far its lanes have come."""
    door, ask = request.app[DOOR], request.query
    limit = parse_number(ask["limit"], "limit", PAGE_ROWS_MAX) if ask.get("limit") else PAGE_ROWS_MAX
    below = ask.get("cursor") or NEWEST
    if below != NEWEST and not is_ulid(below):
        raise BadRequest(f"Invalid cursor query parameter: expected that of an answer, got {below[:64]!r}")
    page = await door.reads.ask(lambda queries: queries.cancellations(below, limit + 1))
    cursor = page[limit - 1].cancellation if len(page) > limit else None
    return found([_shown(one, door.config.lanes) for one in page[:limit]], cursor=cursor)


def _shown(seen: CancellationSeen, lanes: int) -> dict[str, Any]:
    is_over = seen.lanes >= lanes and not seen.running
    return {
        "id": seen.cancellation,
        "function_id": seen.function,
        "started_after": iso(seen.from_ms),
        "started_before": iso(seen.before_ms),
        "if": seen.expression or None,
        "reason": seen.reason or None,
        "state": ("stopped" if seen.stopped else "done") if is_over else "running",
        "looked_at": seen.looked,
        "cancelled": seen.cancelled,
        "lanes": {"all": lanes, "over": seen.lanes - seen.running, "stopped": seen.stopped},
        "began_at": iso(seen.began_ms),
        "ended_at": iso(seen.ended_ms) if is_over else None,
    }


def _read(body: bytes) -> Wanted:
    if problem := read_json(body)[1]:
        raise BadRequest(f"cancellation refused: the request body {problem}. {SHAPE}")
    try:
        wanted = _wanted.decode(body)
    except msgspec.MsgspecError as wrong:
        raise BadRequest(f"cancellation refused: {wrong}. {SHAPE}") from wrong
    reason = wanted.reason
    if len(reason) > limits.CANCELLATION_REASON_CHARS_MAX or not is_storable(reason):
        raise BadRequest(
            f"cancellation refused: a reason must be text of {limits.CANCELLATION_REASON_CHARS_MAX} characters at "
            f"most, got {reason[:64]!r} ({len(reason)})"
        )
    return wanted


def _slug(door: Door, wanted: Wanted) -> str:
    """The function that is meant: by its slug, or by its own id beside its app's. Raises NotFound."""
    apps = {spec.slug: app_id for app_id, app in door.catalogue.apps.items() for spec in app.functions}
    for slug in (wanted.function_id, f"{wanted.app_id}-{wanted.function_id}"):
        if slug in apps and wanted.app_id in ("", apps[slug]):
            return slug
    known = ", ".join(sorted(apps)[:20])
    of = f" of app {wanted.app_id[:255]!r}" if wanted.app_id else ""
    raise NotFound(f"function {wanted.function_id[:255]!r}{of} not found. Known functions: {known or 'none'}.")


def _range(wanted: Wanted, now_ms: int) -> tuple[int, int]:
    """From and before. Raises BadRequest."""
    if wanted.started_before == "":
        raise BadRequest(f'started_before is required: "{NOW}" means all that were started until now. {SHAPE}')
    before_ms = now_ms if wanted.started_before == NOW else parse_time(str(wanted.started_before), "started_before")
    if before_ms > now_ms:
        raise BadRequest(
            f"started_before must be in the past, got {iso(before_ms)}, and it is {iso(now_ms)}: runs that have not "
            f'begun yet cannot be cancelled by a range of time. Write "{NOW}" for all that were started until now.'
        )
    from_ms = parse_time(str(wanted.started_after), "started_after") if wanted.started_after != "" else 0
    if from_ms >= before_ms:
        raise BadRequest(f"started_after must be before started_before, got {iso(from_ms)} and {iso(before_ms)}")
    return from_ms, before_ms
