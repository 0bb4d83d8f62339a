"""From the text of a query to its answer: parsed, bounded, validated, executed. In the thread that reads the history.

    200  {"data": …}                               also where a field has an error: {"errors": […], "data": {…: null}}
    422  {"errors": [{"message", "locations", "extensions": {"code"}}], "data": null}      the query is none of ours

Errors of the index are raised as they are: they are no answer to a query.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from graphql import ExecutionResult, GraphQLError, GraphQLSchema, build_schema, execute_sync, parse, validate

from millstream.api.gql.bounds import TOKENS_MAX, check
from millstream.api.gql.query import Query
from millstream.api.gql.resolving import FIELDS, Asked
from millstream.api.gql.schema import SDL
from millstream.errors import BadRequest, NotFound
from millstream.history.queries import Queries
from millstream.model.function import AppSpec

ERRORS_MAX: Final = 10
UNPROCESSABLE: Final = 422
PARSE_FAILED: Final = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED: Final = "GRAPHQL_VALIDATION_FAILED"
TOO_LARGE: Final = "QUERY_TOO_LARGE"


@functools.cache
def _schema() -> GraphQLSchema:
    schema = build_schema(SDL)
    assert schema.query_type is not None, "the schema has a type Query"
    for name, field in schema.query_type.fields.items():
        field.resolve = FIELDS[name]
    return schema


def answer_of(queries: Queries, apps: Sequence[AppSpec], asked: Query) -> tuple[int, bytes]:
    """Status and body. Raises what the index raises."""
    try:
        status, result = _execute(queries, apps, asked)
    except RecursionError:
        status, result = _refused([GraphQLError("query refused: it nests too deeply")], TOO_LARGE)
    try:
        return status, msgspec.json.encode(result)
    except (msgspec.MsgspecError, UnicodeEncodeError):  # The query's own words: half a surrogate pair.
        return status, json.dumps(result).encode()


def _execute(queries: Queries, apps: Sequence[AppSpec], asked: Query) -> tuple[int, dict[str, Any]]:
    try:
        document = parse(asked.query, max_tokens=TOKENS_MAX)
    except GraphQLError as broken:
        return _refused([broken], PARSE_FAILED)
    try:
        measuring = check(document)
    except BadRequest as large:
        return _refused([GraphQLError(str(large))], TOO_LARGE)
    schema = _schema()
    if wrong := validate(schema, document, max_errors=ERRORS_MAX):
        return _refused(wrong, VALIDATION_FAILED)
    result = execute_sync(
        schema,
        document,
        context_value=Asked(queries, apps, measuring),
        variable_values=asked.variables or {},
        operation_name=asked.operation,
        max_coercion_errors=ERRORS_MAX,
    )
    assert isinstance(result, ExecutionResult), "no field waits"
    for error in result.errors or ():
        if error.original_error is not None and not isinstance(
            error.original_error, GraphQLError | BadRequest | NotFound
        ):
            raise error.original_error
    if result.data is None and not any(error.path for error in result.errors or ()):
        return _refused(result.errors or [], VALIDATION_FAILED)  # Its variables do not fit.
    shown: dict[str, Any] = {"errors": [error.formatted for error in result.errors]} if result.errors else {}
    return 200, shown | {"data": result.data}


def _refused(errors: Sequence[GraphQLError], code: str) -> tuple[int, dict[str, Any]]:
    shown = [{**error.formatted, "extensions": {"code": code}} for error in errors]
    return UNPROCESSABLE, {"errors": shown, "data": None}
