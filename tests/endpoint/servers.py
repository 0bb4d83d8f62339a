"""Servers that are no apps, or no good ones, on real sockets: what a call may meet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

SDK = {"content-type": "application/json", "x-inngest-sdk": "test:v1", "x-inngest-req-version": "2"}


class Request:
    """What was asked: its line, headers and body."""

    def __init__(self, line: str, headers: dict[str, str], body: bytes) -> None:
        self.line, self.headers, self.body = line, headers, body

    @property
    def resolved(self) -> int:
        """How many steps the call says are resolved."""
        return len(json.loads(self.body)["ctx"]["stack"]["stack"])


Answering = Callable[[Request], Awaitable[bytes | None]]
"""The bytes of the answer; None: the connection is cut."""


def response(status: int, body: object = b"", headers: dict[str, str] | None = None) -> bytes:
    """An HTTP answer as bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} x"] + [f"{k}: {v}" for k, v in (SDK if headers is None else headers).items()]
    return "\r\n".join([*lines, f"content-length: {len(data)}", "", ""]).encode() + data


AS_AN_SDK = response(200, {"mode": "dev", "function_count": 1, "schema_version": "2024-05-24"})
"""What an SDK in dev mode answers to a look."""


def three_steps(request: Request) -> bytes:
    """What an app with three steps answers."""
    if request.line.startswith("GET"):
        return AS_AN_SDK
    n = request.resolved
    if n == 3:
        return response(200, "done")
    return response(206, [{"op": "StepRun", "id": f"step{n}", "displayName": f"step{n}", "data": n}])


class Listener:
    """A listening socket with what it was asked."""

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where an app would serve."""
        return f"http://127.0.0.1:{self.port}/api/inngest"

    async def open(self, port: int = 0) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more, and cut every connection."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *lines = head.rstrip().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (one.partition(":") for one in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                request = Request(line, headers, body)
                self.requests.append(request)
                answer = await self.answer(request)
                if answer is None:
                    writer.transport.abort()
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def listening(answer: Callable[[Request], bytes | None] | Answering) -> AsyncIterator[Listener]:
    """A server that answers so."""

    async def answering(request: Request) -> bytes | None:
        made = answer(request)
        return await made if isinstance(made, Awaitable) else made

    listener = Listener(answering)
    await listener.open()
    try:
        yield listener
    finally:
        await listener.close()
