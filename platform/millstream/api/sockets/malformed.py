"""Requests that are no HTTP: one line at debug level, and an answer in JSON like all others.

Anybody who reaches the port can send any number of them, so they get no traceback, and no line that an alert reads.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from millstream.api.answers import answer
from millstream.model.text.printable import one_line

WORDS_CHARS_MAX: Final = 300
_CLIENTS: Final = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


class AnswersJson(web.RequestHandler):
    """A connection whose malformed requests are answered in JSON."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that could not be read; the connection is closed behind it."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        self.log_exception("malformed request", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun: nothing more can be said")
        said = answer({"error": f"the request is no HTTP: {_words(exc)}", "data": None, "status": status}, status)
        said.force_close()
        return said


class OurFaults(logging.LoggerAdapter[logging.Logger]):
    """The HTTP library's log without what clients did wrong: it has been answered, and anybody can send any amount."""

    def exception(self, msg: object, *args: object, **more: Any) -> None:
        """An error with its traceback; one of the request's own bytes is a line for ``--log-level debug`` only."""
        error = more.get("exc_info")
        if isinstance(error, _CLIENTS):
            self.logger.debug("malformed request error=%s reason=%s", type(error).__name__, _words(error))
        else:
            super().exception(msg, *args, **more)


def _words(error: BaseException) -> str:
    """Why, in one line: the library draws the place with newlines and arrows."""
    text = getattr(error, "message", "") or str(error) or type(error).__name__
    return one_line(" ".join(str(text).split()))[:WORDS_CHARS_MAX]
