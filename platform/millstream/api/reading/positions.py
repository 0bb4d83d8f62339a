"""Reads that see what an answer told of (lanes.md rule 29), whichever process answers them.

    DELETE /v1/runs/… ──> 200, X-Millstream-Position: 3:812      decided in record 812 of lane 3's journal
    GET /v1/runs/…?after=3:812 ──> as of that record or a later one; 503 and Retry-After while the history is behind

The answer itself waits a moment for the history, so that ordinarily a plain read will do. ``after`` makes sure.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from millstream.api.door.door import DOOR, Door
from millstream.errors import BadRequest, Busy
from millstream.model.ids import lane_of
from millstream.model.messages import Reply, group_topic

POSITION_HEADER: Final = "X-Millstream-Position"
AFTER: Final = "after"
DIGITS_MAX: Final = 19
OFFSET_MAX: Final = (1 << 63) - 1


async def shown(door: Door, reply: Reply) -> bool:
    """Wait (bounded) until reads show what the reply tells of, so that who asked may read at once. Whether they do."""
    return await door.shown.wait_folded(group_topic(door.config.group, "journal"), reply.lane, reply.offset)


def named(response: web.Response, reply: Reply) -> web.Response:
    """The response, with the position from which reads show what it tells of."""
    response.headers[POSITION_HEADER] = f"{reply.lane}:{reply.offset}"
    return response


async def up_to_now(door: Door, run: str) -> None:
    """Wait until the history shows all that the run's lane has recorded by now: a run it does not show is not there.

    Raises Busy when it is not in time.
    """
    journal, lane = group_topic(door.config.group, "journal"), lane_of(run, door.config.lanes)
    end = await door.config.log.end_offset(journal, lane)
    if end and not await door.reads.wait_folded(journal, lane, end - 1):
        raise Busy(
            f"the history does not show run {run} yet, if there is one. Ask again, or see how far it is behind: "
            "millstream_history_lag in /metrics.",
            retry_after_s=1,
        )


async def as_asked(request: web.Request) -> None:
    """Wait until the history is where a read wants it to be. Raises BadRequest, or Busy when it is not in time."""
    text = request.query.get(AFTER, "")
    if not text:
        return
    door = request.app[DOOR]
    lane, offset = position_in(text, door.config.lanes)
    if not await door.reads.wait_folded(group_topic(door.config.group, "journal"), lane, offset):
        raise Busy(
            f"the history has not come to record {offset} of lane {lane} yet, which this read asks for with "
            f"{AFTER}={text}. Ask again, or see how far it is behind: millstream_history_lag in /metrics.",
            retry_after_s=1,
        )


def position_in(text: str, lanes: int) -> tuple[int, int]:
    """Lane and offset of ``lane:offset``. Raises BadRequest."""
    lane, _, offset = text.partition(":")
    fine = all(part.isascii() and part.isdecimal() and len(part) <= DIGITS_MAX for part in (lane, offset))
    if not fine or int(lane) >= lanes or int(offset) > OFFSET_MAX:
        raise BadRequest(
            f"Invalid {AFTER} query parameter: expected <lane>:<offset> as {POSITION_HEADER} gave it, with one of "
            f"{lanes} lanes, got {text[:64]!r}"
        )
    return int(lane), int(offset)
