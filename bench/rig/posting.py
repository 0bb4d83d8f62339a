"""Posting events with raw sockets: the generator must cost less than the door.

HTTP/1.1 with keep-alive, one post under way a connection, of the answer only status and length are read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit


class Connection(asyncio.Protocol):
    """A kept-alive connection: ``send`` a request; its answer calls ``answered(connection, status, body, seconds)``."""

    def __init__(self, answered: Callable[[Connection, int, bytes, float], None]) -> None:
        self._answered = answered
        self._buffer = b""
        self._begun = 0.0
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The protocol's."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only.

    def send(self, request: bytes) -> None:
        """Send a whole request; not before the one before was answered."""
        assert self._transport is not None
        self._begun = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """The protocol's."""
        self._buffer += data
        head, gap, body = self._buffer.partition(b"\r\n\r\n")
        if not gap:
            return
        at = head.lower().index(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._buffer = body[length:]
        self._answered(self, int(head[9:12]), body[:length], time.perf_counter() - self._begun)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The protocol's."""
        if not self.closed.done():
            self.closed.set_result(None)


async def connect(url: str, answered: Callable[[Connection, int, bytes, float], None]) -> Connection:
    """A connection to the server at ``url``."""
    host, _, port = urlsplit(url).netloc.partition(":")
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(lambda: Connection(answered), host, int(port))
    return made


def post(url: str, path: str, body: bytes) -> bytes:
    """The bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(url: str, path: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n".encode()


class Caller:
    """One connection used like a function: ``await caller.ask(request)`` gives the body of a 200."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._connection: Connection | None = None

    @classmethod
    async def open(cls, url: str) -> Caller:
        """A caller connected to the server at ``url``."""
        made = cls()
        made._connection = await connect(url, made._answered)
        return made

    def _answered(self, connection: Connection, status: int, body: bytes, took_s: float) -> None:
        if self._answer is not None:
            self._answer.set_result((status, body))

    async def ask(self, request: bytes) -> bytes:
        """Send, wait, give the body. Raises RuntimeError for any other status than 200."""
        assert self._connection is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._connection.send(request)
        status, body = await self._answer
        if status != 200:
            raise RuntimeError(f"expected status 200, got {status}: {body[:300]!r}")
        return body

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
