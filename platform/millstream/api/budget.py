"""How much the door holds at once: bytes of bodies received and not yet answered.

Beyond the maximum a request is refused with ``Busy`` (503 and Retry-After) before its body is read, so that memory
stays bounded however many clients post however much.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from millstream.errors import BadRequest, Busy, LimitExceeded

BODY_READ_S_MAX: Final = 30.0


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
    is not what its headers say.
    """
    try:
        return await _read(request, budget, bytes_max)
    except web.RequestPayloadError as error:
        request.content.feed_eof()  # Else the library reads on for what is left, and logs its failure as ours.
        request.protocol.close()
        encoding = request.headers.get("Content-Encoding", "")
        what = f"is no {encoding[:40]}, as its header Content-Encoding says" if encoding else "is broken"
        raise BadRequest(f"the request body {what}. Nothing was stored: send it as it is.") from error


async def _read(request: web.Request, budget: Budget, bytes_max: int) -> bytes:
    announced = request.content_length
    if announced is not None and announced > bytes_max:
        raise _too_large(announced, bytes_max)
    if announced is not None and request.content.is_eof():
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
        while piece := await request.content.readany():
            budget.take(len(piece))
            size += len(piece)
            pieces.append(piece)
            if size > bytes_max:
                raise _too_large(size, bytes_max)
    except BaseException:
        budget.give_back(size)
        raise
    return b"".join(pieces)


def _too_large(size: int, bytes_max: int) -> LimitExceeded:
    return LimitExceeded(
        f"Request is over the max size: Max {bytes_max} bytes / Size {size} bytes or more. Nothing was stored: "
        "send fewer events at a time."
    )
