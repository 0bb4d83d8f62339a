"""How the door answers: JSON bodies, and which status an error is.

    BadRequest, SchemaViolation  400     NotAllowed  401     Forbidden  403     NotFound  404
    Conflict, NotStarted  409     Gone  410     LimitExceeded  413     Misdirected  421
    TooMany  429, Busy, DiskFull, LogUnavailable, StoreUnavailable  503, both with Retry-After: nothing was
    acknowledged, the same request may be sent again

Add a class of errors: its line in ``_STATUS``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from millstream.errors import (
    BadRequest,
    Busy,
    Conflict,
    Forbidden,
    Gone,
    LimitExceeded,
    LogUnavailable,
    MillstreamError,
    Misdirected,
    NotAllowed,
    NotFound,
    SchemaViolation,
    StoreUnavailable,
    TooMany,
)
from millstream.model.text.redaction import redacted_by_form

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
_LAST_MS: Final = 253_402_300_799_999
_STATUS: Final = (
    (BadRequest, 400),
    (SchemaViolation, 400),
    (NotAllowed, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Gone, 410),
    (LimitExceeded, 413),
    (Misdirected, 421),
    (TooMany, 429),
    (Busy, 503),
    (LogUnavailable, 503),
    (StoreUnavailable, 503),
)
_encoder: Final = msgspec.json.Encoder()


def answer(content: object, status: int = 200, *, content_type: str = JSON) -> web.Response:
    """A JSON answer."""
    return web.Response(body=_encoder.encode(content), status=status, headers={"Content-Type": content_type})


def found(data: object, **metadata: object) -> web.Response:
    """What a read answers: ``data`` and when it was read."""
    return answer({"data": data, "metadata": {"fetched_at": iso(_now_ms()), **metadata}})


def failed(error: MillstreamError) -> web.Response:
    """The answer to a request that failed for a reason we know."""
    status = status_of(error)
    text = words_of(error).encode(errors="replace").decode()  # It may quote a header that is no UTF-8.
    response = answer({"error": text, "data": None, "status": status}, status)
    with_retry_after(response, error)
    return response


def words_of(error: MillstreamError) -> str:
    """What an error says to whoever asked: nothing of the passwords that a setting of ours may hold."""
    return redacted_by_form(str(error))


def status_of(error: MillstreamError) -> int:
    """The HTTP status of an error; 500 for those that no request can cause."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def with_retry_after(response: web.Response, error: MillstreamError) -> None:
    """Say when to come again, where that helps."""
    if response.status in (429, 503):
        response.headers["Retry-After"] = str(error.retry_after_s if isinstance(error, Busy) else 1)


def key_shown(key: str) -> Any:
    """The value of a gate's key (``places.gate_and_key``) as JSON; null where there is none."""
    return raw_json(key.encode()) if key and not key.startswith("#") else key or None


def iso(at_ms: int) -> str | None:
    """A time as RFC 3339 with milliseconds; None for 0."""
    if not at_ms:
        return None
    at_ms = min(max(at_ms, 1), _LAST_MS)  # What a foreign record says of its time is in range; this is to be sure.
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_number(text: str, parameter: str, maximum: int) -> int:
    """A whole number from 1 to ``maximum`` (larger ones are cut to it). Raises BadRequest."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) < 1:
        raise BadRequest(f"Invalid {parameter} query parameter: expected a number from 1, got {text[:64]!r}")
    return min(int(text), maximum)


def raw_json(content: bytes) -> Any:
    """JSON bytes to be put into an answer as they are; None for none."""
    return msgspec.Raw(content) if content else None


def _now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)
