"""One HTTP/1.1 response, read as its bytes come. Pure: bytes in, an ``Answer`` out.

    HEAD ── status line and headers ──> no body │ so many bytes │ chunks │ all until the connection ends

Our own since nothing else is this small: 10 µs of CPU a call, where a client library for everything takes 200, and an
app that answers at once is called some thousand times a second. It reads what servers write; what is no HTTP, or more
than allowed, it refuses.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

HEAD_BYTES_MAX: Final = 64 * 1024
CHUNK_LINE_BYTES_MAX: Final = 4 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: .*)?")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DIGITS: Final = re.compile(r"\d{1,15}")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;.*)?")
_WITHOUT_BODY: Final = (204, 304)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What came back. ``headers`` by lower-case names; several of one name are joined with commas."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpFailed(Exception):
    """No answer; the text says why."""


class NotHttp(HttpFailed):
    """What came back is no HTTP."""


class NoHttpServer(NotHttp):
    """It does not even begin as HTTP does: what listens there is no web server."""


class TooLarge(HttpFailed):
    """An answer of more bytes than are taken."""


class Response:
    """Reads one response of at most ``bytes_max`` bytes of body."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._buffer = bytearray()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._left = -1  # Bytes of the body, or of this chunk with its end, that have not come; −1: not known.
        self._is_chunked = False
        self._until_end = False
        self._in_trailers = False
        self._parts: list[bytes] = []
        self._size = 0
        self.keeps_alive = True
        """Whether the connection may be used again."""

    @property
    def begun(self) -> bool:
        """Whether anything of it has come."""
        return bool(self._status or self._buffer)

    def feed(self, data: bytes) -> Answer | None:
        """Take more bytes; the answer, once it is whole. Raises NotHttp, TooLarge."""
        self._buffer += data
        while not self._status:
            if not self._head():
                return None
        if self._is_chunked:
            return self._chunks()
        if self._until_end:
            self._room_for(len(self._buffer))
            return None
        if len(self._buffer) < self._left:
            return None
        if len(self._buffer) > self._left:
            self.keeps_alive = False  # Of what was not asked for.
        return Answer(self._status, self._headers, bytes(self._buffer[: self._left]))

    def end(self) -> Answer | None:
        """The connection has ended; the answer where that is its end."""
        if self._status and self._until_end:
            return Answer(self._status, self._headers, bytes(self._buffer))
        return None

    def _head(self) -> bool:
        """Read a head; whether there was a whole one. One that is only for information is passed over."""
        buffer = self._buffer
        at = buffer.find(b"\r\n\r\n")
        if at < 0:
            if len(buffer) > HEAD_BYTES_MAX:
                raise NotHttp(f"headers of more than {HEAD_BYTES_MAX} bytes")
            if len(buffer) >= 5 and not buffer.startswith(b"HTTP/"):
                raise NoHttpServer(f"it begins with {bytes(buffer[:40])!r}")
            return False
        line, *lines = bytes(buffer[:at]).split(b"\r\n")
        del buffer[: at + 4]
        found = _STATUS.fullmatch(line)
        if found is None:
            raise NotHttp(f"it begins with {line[:40]!r}")
        status = int(found[2])
        if status < 200:
            if status == 101:
                raise NotHttp("it changes to another protocol")
            return bool(buffer) and self._head()
        self._headers = _headers(lines)
        self._status = status
        self._frame(is_old=found[1] == b"0")
        return True

    def _frame(self, *, is_old: bool) -> None:
        """How the body is delimited."""
        headers = self._headers
        connection = headers.get("connection", "").lower()
        self.keeps_alive = "close" not in connection and (not is_old or "keep-alive" in connection)
        length = headers.get("content-length")
        if self._status in _WITHOUT_BODY:
            self._left = 0
        elif "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise NotHttp(f"transfer-encoding {headers['transfer-encoding'][:40]!r}")
            self._is_chunked = True
        elif length is not None:
            if _DIGITS.fullmatch(length) is None:
                raise NotHttp(f"content-length {length[:40]!r}")
            self._left = int(length)
            self._room_for(self._left)
        else:
            self._until_end = True
            self.keeps_alive = False

    def _chunks(self) -> Answer | None:
        """Take whole chunks off the buffer."""
        buffer = self._buffer
        while True:
            if self._in_trailers:
                return self._trailers()
            if self._left < 0:
                at = buffer.find(b"\r\n")
                if at < 0:
                    if len(buffer) > CHUNK_LINE_BYTES_MAX:
                        raise NotHttp("a chunk without a size")
                    return None
                found = _SIZE.fullmatch(bytes(buffer[:at]))
                if found is None:
                    raise NotHttp(f"a chunk of size {bytes(buffer[:40])!r}")
                size = int(found[1], 16)
                del buffer[: at + 2]
                if not size:
                    self._in_trailers = True
                    continue
                self._size += size
                self._room_for(self._size)
                self._left = size + 2
            if len(buffer) < self._left:
                return None
            if buffer[self._left - 2 : self._left] != b"\r\n":
                raise NotHttp("a chunk that is longer than its size")
            self._parts.append(bytes(buffer[: self._left - 2]))
            del buffer[: self._left]
            self._left = -1

    def _trailers(self) -> Answer | None:
        """Pass over what stands behind the last chunk, up to an empty line."""
        buffer = self._buffer
        while (at := buffer.find(b"\r\n")) > 0:
            del buffer[: at + 2]
        if at < 0:
            if len(buffer) > HEAD_BYTES_MAX:
                raise NotHttp("trailers without an end")
            return None
        del buffer[:2]
        if buffer:
            self.keeps_alive = False
        parts = self._parts
        return Answer(self._status, self._headers, parts[0] if len(parts) == 1 else b"".join(parts))

    def _room_for(self, size: int) -> None:
        if size > self._bytes_max:
            raise TooLarge(f"more than {self._bytes_max} bytes")


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        raw, colon, value = line.partition(b":")
        if not colon or _NAME.fullmatch(raw) is None:
            raise NotHttp(f"a header {line[:40]!r}")
        name, text = raw.decode().lower(), value.strip().decode("latin-1")
        if name in headers:
            if name == "content-length" and headers[name] != text:
                raise NotHttp("two lengths of one body")
            text = text if name == "content-length" else f"{headers[name]}, {text}"
        headers[name] = text
    return headers
