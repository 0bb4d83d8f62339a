"""Calls to a server over HTTP, with the standard library: from any thread, any event loop, any process after a fork.

    SyncClient ─────────────────> Transport ──> a pool of connections ──> the server
    Client ──a thread of its own──┘

One blocking transport serves both faces. An asynchronous HTTP library is bound to one event loop, and importing one
took longer (180 ms) than the first event: a client lives in web workers and scripts that make many loops, or none.

A call is tried again where nothing, or only a passing trouble, was answered. Whatever is raised has no key in it.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlunsplit

import msgspec

from millstream.errors import (
    BadRequest,
    Busy,
    LimitExceeded,
    LogUnavailable,
    MillstreamError,
    NotAllowed,
    NotFound,
    NotStarted,
)
from millstream.model.address import http_url, sendable_key
from millstream.model.text.redaction import MASK, keep_secret, redacted

TRIES_MAX: Final = 5
FIRST_DELAY_S: Final = 0.1
TIMEOUT_S: Final = 30.0
NO_KEY: Final = "NO_EVENT_KEY_SET"
"""What a development server takes for want of a key: no secret."""
IDLE_CONNECTIONS_MAX: Final = 16
SEED_HEADER: Final = "x-inngest-event-id-seed"


class Transport:
    """Calls to the server at ``url``; ``key`` is hidden in every error. Raises ConfigError for what is neither."""

    def __init__(self, url: str, key: str) -> None:
        parts = http_url(url, "the URL of the server (MILLSTREAM_URL)")
        port, host = parts.port, parts.hostname or ""
        address = f"[{host}]" if ":" in host else host
        self.url = urlunsplit((parts.scheme, f"{address}:{port}" if port else address, parts.path, "", ""))
        """Where the server is, without what a URL may have of names and passwords."""
        self._host, self._port, self._path, self._scheme = host, port, parts.path, parts.scheme
        self._key = sendable_key(key, "the event key (MILLSTREAM_EVENT_KEY)")
        if key != NO_KEY:
            keep_secret(key)
        self._lock = threading.Lock()
        self._idle: list[HTTPConnection] = []
        self._pid = os.getpid()

    def close(self) -> None:
        """Close idle connections. Calls may follow."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, object]:
        """The answer's JSON. Raises the error that the answer, or the lack of one, stands for."""
        failure: MillstreamError | None = None
        call = f"{method} {self.url}{_shown(path)}"
        for attempt in range(TRIES_MAX):
            if attempt:
                time.sleep(FIRST_DELAY_S * 2 ** (attempt - 1))
            try:
                status, answer = self._once(method, path, body, self._with_key(headers or {}))
            except (OSError, HTTPException) as error:
                failure = self._unreachable(call, error)
                continue
            if status < 300:
                return answer
            failure = self._refusal(status, call, answer)
            if status < 500:
                break
        assert failure is not None  # The loop ends by return, or with the last failure.
        raise failure

    def _with_key(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers with the key, which a server with a signing key asks for, also of reads."""
        held = {} if self._key == NO_KEY else {"Authorization": f"Bearer {self._key}"}
        return held | dict(headers)

    def _once(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, object]]:
        connection = self._taken()
        if connection is not None:
            try:
                return self._asked(connection, method, path, body, headers)
            except (OSError, HTTPException) as error:
                if isinstance(error, TimeoutError):
                    raise
                # The server closed it while it was idle: that is no failure yet.
        return self._asked(self._made(), method, path, body, headers)

    def _asked(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, object]]:
        try:
            sent = {name: value.encode() for name, value in headers.items()}  # The library would take Latin-1 only.
            connection.request(method, self._path + path, body, {"content-type": "application/json", **sent})
            response = connection.getresponse()
            content = response.read()
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._give_back(connection)
        return response.status, _object(content)

    def _made(self) -> HTTPConnection:
        if self._scheme == "https":
            return HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        return HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)

    def _taken(self) -> HTTPConnection | None:
        with self._lock:
            if self._pid != os.getpid():  # A fork: two processes must not speak on one connection.
                self._pid, self._idle = os.getpid(), []
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < IDLE_CONNECTIONS_MAX:
                self._idle.append(connection)
                return
        connection.close()

    # --- errors -------------------------------------------------------------------------------

    def _unreachable(self, call: str, error: Exception) -> LogUnavailable:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return LogUnavailable(
            self._redacted(
                f"{call} got no answer: {reason}. Is it running? Start a server with: millstream dev module:app, "
                "or name the right one with MILLSTREAM_URL."
            )
        )

    def _refusal(self, status: int, call: str, answer: Mapping[str, object]) -> MillstreamError:
        reason = answer.get("error") or answer.get("message") or dict(answer)
        text = self._redacted(f"{call} was answered {status}: {reason}")
        if status < 400:
            return BadRequest(f"{text}. Another address is asked for: name it with MILLSTREAM_URL.")
        if status in (401, 403):
            return NotAllowed(f"{text}. Check MILLSTREAM_EVENT_KEY.")
        if status in (429, 503):
            return Busy(text)
        kinds: dict[int, type[MillstreamError]] = {404: NotFound, 409: NotStarted, 413: LimitExceeded}
        return kinds.get(status, BadRequest if status < 500 else LogUnavailable)(text)

    def _redacted(self, text: str) -> str:
        """A server may repeat the path that it was asked for."""
        return redacted(text, self._key)


def _object(body: bytes) -> dict[str, object]:
    try:
        answer = msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = {"error": body[:200].decode(errors="replace")}
    return answer if isinstance(answer, dict) else {"data": answer}


def _shown(path: str) -> str:
    return f"/e/{MASK}" if path.startswith("/e/") else path
