"""``POST /v0/gql``: a query and its answer, executed in the thread that reads the history, so that it stops no event.

A body that is no request is 400, with ``errors`` as every answer here; what the index or the door refuses is answered
as everywhere else.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from millstream.api.answers import JSON, answer
from millstream.api.door.budget import read_body
from millstream.api.door.door import DOOR
from millstream.api.gql.query import Query, read
from millstream.errors import BadRequest
from millstream.history.queries import Queries
from millstream.model.function import AppSpec

PATH: Final = "/v0/gql"
BODY_BYTES_MAX: Final = 64 * 1024


async def post_query(request: web.Request) -> web.Response:
    """The answer to one query."""
    door = request.app[DOOR]
    body = await read_body(request, door.budget, BODY_BYTES_MAX)
    door.budget.give_back(len(body))
    try:
        asked = read(body)
    except BadRequest as malformed:
        return answer({"errors": [{"message": str(malformed)}], "data": None}, 400)
    apps = tuple(app for _, app in sorted(door.catalogue.apps.items()))
    status, content = await door.reads.ask(lambda queries: _answer(queries, apps, asked))
    return web.Response(body=content, status=status, headers={"Content-Type": JSON})


async def hand_on(request: web.Request) -> web.StreamResponse:
    """The answer of the history, where that is another process."""
    door = request.app[DOOR]
    body = await read_body(request, door.budget, BODY_BYTES_MAX)
    try:
        return await door.forward.hand_on(request, body)
    finally:
        door.budget.give_back(len(body))


def _answer(queries: Queries, apps: tuple[AppSpec, ...], asked: Query) -> tuple[int, bytes]:
    """In the thread: status and body."""
    # Here: importing it takes a third of a second, and most doors are never asked.
    from millstream.api.gql.answering import answer_of

    return answer_of(queries, apps, asked)
