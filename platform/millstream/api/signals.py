"""Signals: what is sent by its name to the one run that waits for it.

The signal's home lane decides (core/waits/signals.py): it knows whether a step waits, and for whom. A request that is
sent again with the same seed gets the same answer, so a signal whose answer was lost is not "not awaited".
"""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from millstream.api.answers import found
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR
from millstream.api.door.keys import may_act
from millstream.api.door.seeds import seeded_id
from millstream.errors import BadRequest, NotFound
from millstream.model import limits
from millstream.model.commands import SendSignal
from millstream.model.ids import home_of
from millstream.model.text.storable import is_storable
from millstream.wire.json_limits import read_json

SHAPE: Final = 'Send {"signal": "its name", "data": any JSON}.'


class Signal(msgspec.Struct):
    """The body of a signal. Unknown fields are passed over."""

    signal: str
    data: msgspec.Raw = msgspec.Raw(b"null")


_signal: Final = msgspec.json.Decoder(Signal)


async def post_signal(request: web.Request) -> web.Response:
    """``POST /v1/signals``: 200 with the run that waited for it, 404 where none does."""
    door = request.app[DOOR]
    may_act(request)
    body = await read_body(request, door.budget, limits.EVENT_BYTES_MAX)
    try:
        sent = _read(body)
    finally:
        door.budget.give_back(len(body))
    request_id = seeded_id(request, sent.signal, door.config.now_ms()) or door.requests.new_id()
    message = SendSignal(sent.signal, bytes(sent.data), request_id, door.config.reply_partition)
    answered = await door.requests.ask(home_of(sent.signal, door.config.lanes), request_id, message)
    if answered.status != "sent":
        raise NotFound(
            f"no run waits for the signal {sent.signal[:255]!r}: none has come to step.wait_for_signal with this name, "
            "its time is over, or it was sent before. Nothing was kept: send it again once a run waits."
        )
    return found({"run_id": answered.outcome["run"]})


def _read(body: bytes) -> Signal:
    if problem := read_json(body)[1]:
        raise BadRequest(f"signal refused: the request body {problem}. {SHAPE}")
    try:
        sent = _signal.decode(body)
    except msgspec.MsgspecError as wrong:
        raise BadRequest(f"signal refused: {wrong}. {SHAPE}") from wrong
    if not 0 < len(sent.signal) <= limits.SIGNAL_NAME_CHARS_MAX or not is_storable(sent.signal):
        raise BadRequest(
            f"signal refused: a name must be text of 1 to {limits.SIGNAL_NAME_CHARS_MAX} characters, "
            f"got {sent.signal[:64]!r} ({len(sent.signal)})"
        )
    return sent
