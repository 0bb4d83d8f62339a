"""One HTTP/1.1 response, read as its bytes come. No I/O: bytes in, an ``Answer`` out.

    head ──> no body │ so many bytes │ chunks │ all until the connection ends

``httptools`` reads it, which is llhttp, the parser of Node. Here is what it leaves to who uses it: limits, what is
between responses, and what is refused beside what is no HTTP: another protocol, a coding that was not asked for.
"""

from __future__ import annotations

from typing import Final

import httptools
import msgspec

HEAD_BYTES_MAX: Final = 64 * 1024
"""Of a head; and of what may come between two parts of a body: sizes of chunks, trailers."""
_SHOWN_BYTES: Final = 40
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
    """Reads one response of at most ``bytes_max`` bytes of body. The methods with ``on_`` are the parser's.

    ``is_of_head``  it answers a HEAD: there is no body, whatever its headers say of one.
    """

    def __init__(self, bytes_max: int, *, is_of_head: bool = False) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._bytes_max = bytes_max
        self._is_of_head = is_of_head
        self._beginning = b""
        self._status = 0  # Of a head that is whole.
        self._headers: dict[str, str] = {}
        self._until_end = False
        self._parts: list[bytes] = []
        self._size = 0
        self._between = 0  # Bytes since the last part of the body.
        self._failure: HttpFailed | None = None
        self._answer: Answer | None = None
        self.keeps_alive = True
        """Whether the connection may be used again."""

    def feed(self, data: bytes) -> Answer | None:
        """Take more bytes; the answer, once it is whole. Raises NotHttp, TooLarge."""
        assert self._parser is not None, "it is over"
        size = self._size
        if not self._status:
            self._beginning = self._beginning or data[:_SHOWN_BYTES]
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise NotHttp("it changes to another protocol") from error
        except httptools.HttpParserError as error:
            if self._answer is None:
                raise (self._failure or self._no_http(str(error))) from error
            self.keeps_alive = False  # Behind the answer came what was not asked for.
        if self._answer is not None:
            self._parser = None  # It knows us as we know it: nobody else would let go of the two.
            return self._answer
        self._between = 0 if self._size > size else self._between + len(data)
        if self._between > HEAD_BYTES_MAX:
            raise NotHttp(f"more than {HEAD_BYTES_MAX} bytes that are no body")
        return None

    def end(self) -> Answer | None:
        """The connection has ended; the answer where that is its end."""
        if self._answer is None and self._until_end:
            return self._whole()
        return self._answer

    def _no_http(self, why: str) -> NotHttp:
        shown = f"it begins with {self._beginning!r}"
        if not self._beginning.startswith(b"HTTP/"[: len(self._beginning)]):
            return NoHttpServer(shown)
        return NotHttp(f"{why}; {shown}")

    def _whole(self) -> Answer:
        parts = self._parts
        return Answer(self._status, self._headers, parts[0] if len(parts) == 1 else b"".join(parts))

    def _refuse(self, failure: HttpFailed) -> None:
        self._failure = failure
        raise failure

    def _room_for(self, size: int) -> None:
        if size > self._bytes_max:
            self._refuse(TooLarge(f"more than {self._bytes_max} bytes"))

    # --- httptools

    def on_message_begin(self) -> None:
        """Of the answer, of one that is only for information, or of what nobody asked for."""
        if self._answer is not None:
            self.keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one behind the body, which is passed over."""
        if self._status:
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        headers = self._headers
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        """The head is whole."""
        assert self._parser is not None, "it is reading"
        status = self._parser.get_status_code()
        if self._answer is not None or status < 200:
            return
        self._status, headers = status, self._headers
        coding, length = headers.get("transfer-encoding", ""), headers.get("content-length", "")
        if coding and coding.lower() != "chunked":
            self._refuse(NotHttp(f"transfer-encoding {coding[:_SHOWN_BYTES]!r}"))
        if self._is_of_head:
            self.keeps_alive = False  # The parser waits for a body now.
            self._answer = self._whole()
            return
        if status in _WITHOUT_BODY:
            return
        if length:
            self._room_for(int(length))
        self._until_end = not coding and not length
        self.keeps_alive = not self._until_end

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        if self._answer is None:
            self._size += len(body)
            self._room_for(self._size)
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole, or one that is only for information."""
        if self._answer is not None:
            return
        if not self._status:
            self._headers = {}
            return
        assert self._parser is not None, "it is reading"
        self.keeps_alive = self._parser.should_keep_alive()
        self._answer = self._whole()
