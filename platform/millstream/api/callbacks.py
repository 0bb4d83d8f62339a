"""Callbacks: what is posted to a URL that a run has given away.

The token in the path is all the right there is, and is needed from anywhere: no event key is asked, no header, no name
of the server. A page of another site can post here as it can read the mail that the URL was in: not without the token.
A GET resolves nothing, since mail scanners and chats open every link that they pass on.

    no token of ours               404     by the signature alone: no lane is asked, and nobody keeps a row for it
    used, expired, the run is over 410     says the run's lane (core/steps/callback.py)

The body is JSON, or text. A request that is sent again with the same seed gets the same answer.
"""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from millstream.api.answers import TEXT, found
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR, Door
from millstream.api.door.seeds import seeded_id
from millstream.errors import BadRequest, Gone, LimitExceeded, NotFound
from millstream.model import limits
from millstream.model.commands import ResolveCallback
from millstream.model.ids import lane_of
from millstream.model.waits.callback_token import opened
from millstream.wire.json_limits import read_json

POST_IT: Final = (
    "This is a callback of a function run. Opening it does nothing: POST your answer to this address, as JSON or as "
    "text. It takes one answer.\n"
)
WHY_GONE: Final = {
    "used": "somebody has posted to it before, and a callback takes one post",
    "expired": "its time is over, and the run has gone on without it",
    "over": "the run that waited for it is over",
}
_encode: Final = msgspec.json.encode


async def post_callback(request: web.Request) -> web.Response:
    """``POST /v1/callbacks/{token}``: 200 for the post that the run takes."""
    door = request.app[DOOR]
    run, mark = _opened(door, request)
    body = await read_body(request, door.budget, limits.EVENT_BYTES_MAX)
    try:
        data = _data(body, request.headers.get("Content-Type", ""))
    finally:
        door.budget.give_back(len(body))
    request_id = seeded_id(request, mark, door.config.now_ms()) or door.requests.new_id()
    message = ResolveCallback(run, mark, data, request_id, door.config.reply_partition)
    answered = await door.requests.ask(lane_of(run, door.config.lanes), request_id, message)
    if answered.status == "taken":
        return found({"run_id": run})
    if answered.status == "no_room":
        raise LimitExceeded(
            f"callback refused: the results of a run's steps may have {limits.RUN_STATE_BYTES_MAX} bytes together, and "
            f"{len(data)} more are too many. The callback is still open: post a reference instead of the payload."
        )
    why = WHY_GONE.get(answered.status, answered.status)
    raise Gone(f"callback refused: {why}. Nothing was changed. Ask whoever sent you the address for a new one.")


async def get_callback(request: web.Request) -> web.Response:
    """``GET /v1/callbacks/{token}``: what it is for. It resolves nothing, and asks no lane."""
    _opened(request.app[DOOR], request)
    return web.Response(text=POST_IT, headers={"Content-Type": TEXT, "Cache-Control": "no-store"})


def _opened(door: Door, request: web.Request) -> tuple[str, str]:
    """The run and the mark of the step of a token. Raises NotFound for any other text."""
    known = opened(door.catalogue.callback_key, request.match_info["token"])
    if known is None:
        raise NotFound(
            "no such callback: expected an address as ctx.step.callback has made it, got another one. Copy it whole, "
            "up to the last character."
        )
    return known


def _data(body: bytes, content_type: str) -> bytes:
    """The body as JSON: as it is, or text as a string. Raises BadRequest, or LimitExceeded."""
    kind = content_type.partition(";")[0].strip().lower()
    is_json = kind == "application/json" or kind.endswith("+json")
    if not kind.startswith("text/") and body.strip():
        problem = read_json(body)[1]
        if not problem:
            return body
        if is_json:
            raise BadRequest(f"callback refused: the request body {problem}. Send JSON, or text as text/plain.")
    try:
        data = _encode(body.decode())
    except UnicodeDecodeError as wrong:
        raise BadRequest(
            f"callback refused: expected JSON, or text in UTF-8, got other bytes at {wrong.start}. Send it as base64."
        ) from wrong
    if len(data) > limits.EVENT_BYTES_MAX:
        raise LimitExceeded(
            f"callback refused: at most {limits.EVENT_BYTES_MAX} bytes as JSON, got {len(data)}. Post a reference."
        )
    return data
