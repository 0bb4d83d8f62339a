"""The connections of a port, and what they may hold together: descriptors, unfinished headers, untaken answers.

Anybody may connect and then say nothing, half a header, or take nothing of an answer. So each of these has an end, and
all of them together have a limit:

    connects, says nothing         closed after ``IDLE_MS_MAX``; at once where its place is wanted
    begins a header                431 beyond ``HEADER_BYTES_MAX``, 408 after ``HEADER_MS_MAX``
    all unfinished headers         beyond ``HEADERS_BYTES_MAX`` the oldest goes
    one connection too many        takes the place of the one that has been idle longest; 503 where each has a request
    takes nothing of its answer    cut off after ``ANSWER_MS_MAX``; beyond ``ANSWERS_BYTES_MAX`` the slowest goes

Requests under way are never ended for others. Bodies have limits of their own (``door/budget.py``).

How many connections there may be follows ``ulimit -n``: half of the descriptors that are free at the start are left to
the store and the log, which must be able to open files at any time.

The HTTP library has the idle timeout and limits single lines; the rest is a subclass of its protocol, which counts.
"""

from __future__ import annotations

import asyncio
import os
import resource
from typing import Any, Final, cast

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import StreamReader

from millstream.api.sockets.malformed import AnswersJson
from millstream.model import limits
from millstream.telemetry import Telemetry

SWEEP_S: Final = 1.0
GREETED_S: Final = 0.2
GREETED_LOOKS: Final = 20
PIECE_BYTES: Final = 16 * 1024
"""Unfinished headers are parsed in pieces of this size, so that what comes after a limit is never parsed."""
CONNECTIONS_MIN: Final = 8
NO_UTF8: Final = "a header is no UTF-8"
_OPEN_HANDLES: Final = "/dev/fd"


def connections_max() -> int:
    """How many connections may be open, by the descriptors that are free now."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return limits.CONNECTIONS_MAX
    try:
        used = len(os.listdir(_OPEN_HANDLES))
    except OSError:
        used = 0
    return max(CONNECTIONS_MIN, min(limits.CONNECTIONS_MAX, (allowed - used) // 2))


class Connections:
    """All connections of a port. ``maximum`` may be open; used on one loop."""

    def __init__(self, maximum: int, telemetry: Telemetry | None = None) -> None:
        self.maximum = maximum
        self.header_bytes = 0
        self._telemetry = telemetry
        self._open: dict[Connection, None] = {}
        """In the order of their last requests."""
        self._unfinished: dict[Connection, float] = {}
        """Those with half a header, and since when (loop time); the oldest first."""
        self._untaken: dict[Connection, _Untaken] = {}
        """Those that do not take their answer as fast as it comes; the oldest first."""
        self._loop = asyncio.get_running_loop()
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def start(self) -> None:
        """Look every second for what has taken too long."""
        self._sweep()

    def close(self) -> None:
        """Look no more."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def greeted(self) -> None:
        """Wait a moment for the first requests of those who have just come: they were let in, so they get an answer."""
        for _ in range(GREETED_LOOKS):
            await asyncio.sleep(GREETED_S / GREETED_LOOKS)  # First: what the kernel has let in is opened in this turn.
            if not any(one.is_new for one in self._open):
                return

    # --- what connections say -----------------------------------------------------------------------

    def opened(self, connection: Connection) -> bool:
        """Count one in; False where there is no place for it."""
        if len(self._open) >= self.maximum:
            idle = next((one for one in self._open if one.is_idle), None)
            if idle is None:
                self._count("no_place")
                return False
            self._count("place_wanted")
            idle.drop()
            self.closed(idle)  # Its descriptor is free by the next turn of the loop.
        self._open[connection] = None
        self._show_count()
        return True

    def closed(self, connection: Connection) -> None:
        """Count one out, with what it held."""
        self._open.pop(connection, None)
        self._untaken.pop(connection, None)
        self.finished(connection)
        self._show_count()

    def finished(self, connection: Connection) -> None:
        """No half a header is held for it any more."""
        if self._unfinished.pop(connection, None) is not None:
            self.header_bytes -= connection.header_bytes
        connection.header_bytes = 0

    def requested(self, connection: Connection) -> None:
        """A request has come in whole: it is the last to be taken for idle."""
        self.finished(connection)
        if self._open.pop(connection, self) is None:
            self._open[connection] = None

    def unfinished(self, connection: Connection, more: int) -> None:
        """So many more bytes of a header that has not ended."""
        self._unfinished.setdefault(connection, self._loop.time())
        connection.header_bytes += more
        self.header_bytes += more
        if connection.header_bytes > limits.HEADER_BYTES_MAX:
            self._refuse(connection, "header_size")
        while self.header_bytes > limits.HEADERS_BYTES_MAX:
            self._refuse(next(iter(self._unfinished)), "headers_size")

    def answering(self, connection: Connection) -> None:
        """It does not take its answer as fast as it comes."""
        self._untaken[connection] = _Untaken(connection.bytes_untaken, self._loop.time())
        self._bound_answers()

    def answered(self, connection: Connection) -> None:
        """It has taken nearly all of it."""
        self._untaken.pop(connection, None)

    # --- what has taken too long --------------------------------------------------------------------

    def _sweep(self) -> None:
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        now = self._loop.time()
        began_before = now - limits.HEADER_MS_MAX / 1000
        for connection in [one for one, since in self._unfinished.items() if since < began_before]:
            self._refuse(connection, "header_time")
        for connection, untaken in list(self._untaken.items()):
            size = connection.bytes_untaken
            if size < untaken.size:
                untaken.size, untaken.since_s = size, now
            elif untaken.since_s < now - limits.ANSWER_MS_MAX / 1000:
                self._cut_off(connection, "answer_time")
        self._bound_answers()

    def _bound_answers(self) -> None:
        waiting = {connection: connection.bytes_untaken for connection in self._untaken}
        total = sum(waiting.values())
        for connection, size in waiting.items():
            if total <= limits.ANSWERS_BYTES_MAX:
                break
            self._cut_off(connection, "answers_size")
            total -= size

    def _refuse(self, connection: Connection, why: str) -> None:
        self._count(why)
        self.finished(connection)
        connection.refuse(*_REFUSALS[why])

    def _cut_off(self, connection: Connection, why: str) -> None:
        self._count(why)
        self._untaken.pop(connection, None)
        connection.drop()

    def _show_count(self) -> None:
        if self._telemetry is not None:
            self._telemetry.set("millstream_connections", len(self._open))

    def _count(self, why: str) -> None:
        if self._telemetry is not None:
            self._telemetry.count("millstream_connections_ended_total", 1, why)


class _Untaken:
    """What waits for a client, and since when not a byte of it was taken."""

    __slots__ = ("since_s", "size")

    def __init__(self, size: int, since_s: float) -> None:
        self.size = size
        self.since_s = since_s


class Connection(AnswersJson):
    """One connection: the library's protocol, which tells ``Connections`` what it holds."""

    __slots__ = ("_all", "_body", "header_bytes")

    def __init__(self, all: Connections, server: web.Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._all = all
        self._body: StreamReader | None = None
        self.header_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether it has no request under way."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def is_new(self) -> bool:
        """Whether nothing has come on it yet."""
        return not self._request_count

    @property
    def bytes_untaken(self) -> int:
        """How much of its answer waits to be taken."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._all.opened(self):
            super().connection_made(transport)
        else:
            self.transport = cast(asyncio.Transport, transport)  # Uvloop's are none by inheritance.
            self.refuse(*_REFUSALS["no_place"])

    def connection_lost(self, error: BaseException | None) -> None:
        self._all.closed(self)
        self._body = None
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if len(data) <= PIECE_BYTES or not self._is_in_header():
            self._parse(data)
            return
        for at in range(0, len(data), PIECE_BYTES):
            if not self._is_in_header():
                self._parse(data[at:])
                return
            self._parse(data[at : at + PIECE_BYTES])

    def _is_in_header(self) -> bool:
        """Whether what comes next is not of a body."""
        return self._body is None or self._body.is_eof()

    def _parse(self, data: bytes) -> None:
        if self._force_close or self._close:
            return
        of_header, count = self._is_in_header(), self._request_count
        super().data_received(data)
        if self._request_count != count:
            self._body = self._messages[-1][1]
            self._all.requested(self)
        elif of_header and data:
            self._all.unfinished(self, len(data))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._all.answering(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._all.answered(self)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The library's answer to what it could not handle: where it quotes a header that is no UTF-8, a 400."""
        if isinstance(exc, UnicodeEncodeError):  # Not of a handler of ours: those have been answered.
            return super().handle_error(request, 400, BadHttpMessage(NO_UTF8), NO_UTF8)
        return super().handle_error(request, status, exc, message)

    def refuse(self, status: str, why: str) -> None:
        """Say why, and end it: once its requests under way are answered, where it has some."""
        if self.transport is None:
            return
        if self._request_count and not self.is_idle:
            self.close()
            return
        body = msgspec.json.encode({"error": why, "data": None, "status": int(status[:3])})
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head += "Retry-After: 1\r\n" if status.startswith("503") else ""
        self.transport.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        self.force_close()

    def drop(self) -> None:
        """End it now, whatever waits to be written."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()


_REFUSALS: Final = {
    "header_size": (
        "431 Request Header Fields Too Large",
        f"the request's line and headers are larger than {limits.HEADER_BYTES_MAX} bytes. Send less in them.",
    ),
    "headers_size": (
        "503 Service Unavailable",
        "the headers of too many requests are on their way at once. Send it again, all of it at once.",
    ),
    "header_time": (
        "408 Request Timeout",
        f"the request's headers did not arrive within {limits.HEADER_MS_MAX // 1000} s. Send it again.",
    ),
    "no_place": (
        "503 Service Unavailable",
        "too many connections are open, and each has a request under way. Try again, or let the server have more "
        "descriptors (ulimit -n).",
    ),
}
