"""How much the door holds at once: bytes of bodies received and not yet answered.

Beyond the maximum a request is refused with ``Busy`` (503 and Retry-After) before its body is read, so that memory
stays bounded however many clients post however much.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from millstream.errors import BadRequest, Busy, LimitExceeded
from millstream.model import limits
from millstream.wire.content_coding import decoder_of

BODY_READ_S_MAX: Final = limits.BODY_MS_MAX / 1000


class Budget:
    """Bytes that may be under way together."""

    __slots__ = ("maximum", "used")

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.used = 0

    def take(self, size: int) -> None:
        """Count bytes in. Raises Busy when there is no room for them."""
        if self.used + size > self.maximum:
            raise Busy(
                f"the door already holds {self.used} bytes of requests not yet stored (at most {self.maximum}); "
                f"{size} more were refused. Nothing of this request was stored: send it again.",
                retry_after_s=1,
            )
        self.used += size

    def give_back(self, size: int) -> None:
        """Count bytes out."""
        self.used -= size
        assert self.used >= 0, f"more bytes left the door than came in: {self.used}"


async def read_body(request: web.Request, budget: Budget, bytes_max: int) -> bytes:
    """The body, counted into the budget: the caller gives ``len(body)`` back.

    Raises Busy, LimitExceeded for a body of more than ``bytes_max``, BadRequest for one that does not come in time or
    is not encoded as its headers say.
    """
    try:
        return await _read(request, budget, bytes_max)
    except (web.RequestPayloadError, HttpProcessingError) as wrong:
        raise BadRequest(
            "the request body could not be read: expected it as its headers say (Transfer-Encoding "
            f"{request.headers.get('Transfer-Encoding', '')[:64]!r}), got {_first_line(wrong)!r}. "
            "Nothing was stored: send it so."
        ) from wrong


async def _read(request: web.Request, budget: Budget, bytes_max: int) -> bytes:
    announced = request.content_length
    if announced is not None and announced > bytes_max:
        raise _too_large(announced, bytes_max)
    if announced is not None and request.content.is_eof() and "Content-Encoding" not in request.headers:
        budget.take(announced)  # All of it is here: the common case needs no timeout.
        return await _read_all(request, announced, budget)
    try:
        async with asyncio.timeout(BODY_READ_S_MAX):
            return await _read_pieces(request, budget, bytes_max)
    except TimeoutError:
        raise BadRequest(
            f"the request body did not arrive within {BODY_READ_S_MAX:.0f} s. Nothing was stored: send it again."
        ) from None


async def _read_all(request: web.Request, announced: int, budget: Budget) -> bytes:
    try:
        body = await request.content.read()
    except BaseException:
        budget.give_back(announced)
        raise
    budget.give_back(announced - len(body))
    return body


async def _read_pieces(request: web.Request, budget: Budget, bytes_max: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in _decoded(request):
            budget.take(len(piece))
            size += len(piece)
            pieces.append(piece)
            if size > bytes_max:
                raise _too_large(size, bytes_max)
    except BaseException:
        budget.give_back(size)
        raise
    return b"".join(pieces)


async def _decoded(request: web.Request) -> AsyncIterator[bytes]:
    """The body without its content coding, as it arrives."""
    decoder = decoder_of(",".join(request.headers.getall("Content-Encoding", ())))
    while piece := await request.content.readany():
        if decoder is None:
            yield piece
            continue
        for part in decoder.feed(piece):
            yield part
            await asyncio.sleep(0)  # A small piece may hold many parts.
    for part in decoder.end() if decoder is not None else ():
        yield part


def _first_line(error: Exception) -> str:
    """An error of the HTTP library in a few words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]


def _too_large(size: int, bytes_max: int) -> LimitExceeded:
    return LimitExceeded(
        f"Request is over the max size: Max {bytes_max} bytes / Size {size} bytes or more. Nothing was stored: "
        "send fewer events at a time."
    )
