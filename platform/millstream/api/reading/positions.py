"""Reads that see what an answer told of (lanes.md rule 29), whichever process answers them.

    DELETE /v1/runs/… ──> 200, X-Millstream-Position: 3:812      decided in record 812 of lane 3's journal
    GET /v1/runs/…?after=3:812 ──> as of that record or a later one; 503 and Retry-After while the history is behind

The answer itself waits a moment for the history, so that ordinarily a plain read will do. ``after`` makes sure. What
must be complete, the steps of a run for whoever executes it, is read as of the end of the run's lane (``at_end``).
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from millstream.api.door.door import DOOR, Door
from millstream.errors import BadRequest, Busy
from millstream.model.messages import Reply, group_topic

POSITION_HEADER: Final = "X-Millstream-Position"
AFTER: Final = "after"
AT_END_S: Final = 4.0
"""An SDK that asks for a run's steps gives up after five seconds."""
DIGITS_MAX: Final = 19
OFFSET_MAX: Final = (1 << 63) - 1


async def shown(door: Door, reply: Reply) -> bool:
    """Wait (bounded) until reads show what the reply tells of, so that who asked may read at once. Whether they do."""
    return await door.shown.wait_folded(group_topic(door.config.group, "journal"), reply.lane, reply.offset)


def named(response: web.Response, reply: Reply) -> web.Response:
    """The response, with the position from which reads show what it tells of."""
    response.headers[POSITION_HEADER] = f"{reply.lane}:{reply.offset}"
    return response


async def at_end(door: Door, lane: int) -> None:
    """Wait until reads show all that this lane had recorded when this was called.

    Raises Busy when they do not in AT_END_S: a read now could leave out what is durable.
    """
    journal = group_topic(door.config.group, "journal")
    if not await _shown_to_its_end(door, journal, lane, AT_END_S):
        raise Busy(
            f"the history has not come to the end of lane {lane} in {AT_END_S:.0f} s, and what is asked for must be "
            "complete. Ask again, or see how far it is behind: millstream_history_lag in /metrics.",
            retry_after_s=1,
        )


async def events_at_end(door: Door) -> None:
    """Wait a moment until reads show the events that had been sent when this was called."""
    config = door.config
    waits = [_shown_to_its_end(door, config.events_topic, number, 1.0) for number in range(config.event_partitions)]
    await asyncio.gather(*waits)


async def _shown_to_its_end(door: Door, topic: str, partition: int, wait_s: float) -> bool:
    end = await door.config.log.end_offset(topic, partition)
    return not end or await door.reads.wait_folded(topic, partition, end - 1, wait_s=wait_s)


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
