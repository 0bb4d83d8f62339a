"""The body of a GraphQL request, read without the library that answers it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from millstream.errors import BadRequest
from millstream.wire.json_limits import read_json

SHAPE: Final = 'Send {"query": a GraphQL query, "variables": an object, "operationName": its name}.'


class Query(msgspec.Struct):
    """What is asked. Unknown fields are passed over."""

    query: str
    variables: dict[str, Any] | None = None
    operation: str | None = msgspec.field(name="operationName", default=None)


_query: Final = msgspec.json.Decoder(Query)


def read(body: bytes) -> Query:
    """The query in a body. Raises BadRequest."""
    if problem := read_json(body)[1]:
        raise BadRequest(f"query refused: the request body {problem}. {SHAPE}")
    try:
        return _query.decode(body)
    except msgspec.MsgspecError as wrong:
        raise BadRequest(f"query refused: {wrong}. {SHAPE}") from wrong
