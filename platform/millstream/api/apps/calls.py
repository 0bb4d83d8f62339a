"""A call to an app, and what came back: a value, whatever happened. Redirects are never followed.

    Asked ──Caller.call──> Reply ──explain (``explain.py``)──> one sentence, or nothing

In signed mode a call carries a signature over its body, also where that is empty.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import client_exceptions

from millstream.api.answers import KIND_HEADER
from millstream.wire.json_limits import read_json
from millstream.wire.signing import SIGNATURE_HEADER, SigningKeys

SYNC_KIND_HEADER: Final = "X-Inngest-Sync-Kind"
EXPECTED_KIND_HEADER: Final = "X-Inngest-Expected-Server-Kind"
IN_BAND: Final = "in_band"
SDK_HEADER: Final = "x-inngest-sdk"
HANDLED_HEADER: Final = "x-inngest-sdk-handled"
CONNECT_S: Final = 3.0
ANSWER_S: Final = 10.0
"""An app registers before it answers, and may have to start up first."""
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
CALLS_MAX: Final = 32

REFUSED: Final = "nothing listens"
NO_SUCH_NAME: Final = "no such name"
SLOW: Final = "no answer in time"
UNREACHED: Final = "no route, or no connection in time"
TLS_PLAIN: Final = "TLS was asked, plain HTTP answered"
TLS_UNTRUSTED: Final = "certificate not trusted"
TLS_BROKEN: Final = "TLS failed"
NO_HTTP: Final = "no HTTP"
DROPPED: Final = "connection closed"
TOO_LARGE: Final = "answer too large"
FAILURES: Final = (
    REFUSED, NO_SUCH_NAME, SLOW, UNREACHED, TLS_PLAIN, TLS_UNTRUSTED, TLS_BROKEN, NO_HTTP, DROPPED, TOO_LARGE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A call: what was asked for, by a server of which kind, at which address of its own."""

    method: str
    url: str
    kind: str = "dev"
    own_url: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; ``failure`` where no answer did, one of ``FAILURES``, with ``words`` of the system's."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str = ""
    words: str = ""

    @property
    def is_sdk(self) -> bool:
        """Whether an SDK answered that has let us in."""
        return SDK_HEADER in self.headers

    @property
    def json(self) -> dict[str, Any]:
        """The body where it is a JSON object; else an empty one."""
        read, problem = read_json(self.body)
        return read if not problem and isinstance(read, dict) else {}


class Caller:
    """Calls to apps over one pool of connections. Made while a loop runs."""

    def __init__(self, signing: SigningKeys, own_url: str = "") -> None:
        self.signing = signing
        self.own_url = own_url
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str) -> Reply:
        """What an app says of itself."""
        return await self.call(self.asked("GET", url), b"", {})

    async def put(self, url: str, *, in_band: bool = False) -> Reply:
        """Ask an app to register, or ``in_band`` to answer with its registration."""
        headers = {SYNC_KIND_HEADER: IN_BAND} if in_band else {}
        return await self.call(self.asked("PUT", url), msgspec.json.encode({"url": url}), headers)

    def asked(self, method: str, url: str) -> Asked:
        """A call of this server."""
        return Asked(method, url, self.signing.kind, self.own_url)

    async def call(self, asked: Asked, body: bytes, headers: dict[str, str]) -> Reply:
        """Make the call; never raises for what the other side does."""
        headers = {KIND_HEADER: self.signing.kind, "User-Agent": "millstream", **headers}
        if body:
            headers["Content-Type"] = "application/json"
        if self.signing:
            headers[SIGNATURE_HEADER] = self.signing.sign(body, int(time.time()))
        try:
            async with self._open().request(
                asked.method, asked.url, data=body or None, headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.content.read(BODY_BYTES_MAX + 1)
                while len(content) <= BODY_BYTES_MAX and (more := await answer.content.readany()):
                    content += more
                said = {name.lower(): value for name, value in answer.headers.items()}
                if len(content) > BODY_BYTES_MAX:
                    return Reply(answer.status, said, failure=TOO_LARGE)
                return Reply(answer.status, said, content)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            return Reply(failure=_failure(error), words=str(error)[:200])

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CALLS_MAX, limit_per_host=0, force_close=True)
            timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        return self._session


def _failure(error: BaseException) -> str:
    """Which failure an exception of the HTTP library stands for."""
    match error:
        case client_exceptions.ClientConnectorCertificateError():
            return TLS_UNTRUSTED
        case client_exceptions.ClientConnectorDNSError():
            return NO_SUCH_NAME
        case client_exceptions.ClientConnectorSSLError() | ssl.SSLError():
            return TLS_PLAIN if "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER" in str(error) else TLS_BROKEN
        case client_exceptions.ConnectionTimeoutError():
            return UNREACHED
        case TimeoutError():
            return SLOW
        case client_exceptions.ClientConnectorError():
            inner = error.os_error
            if isinstance(inner, ConnectionRefusedError):
                return REFUSED
            return NO_SUCH_NAME if isinstance(inner, socket.gaierror) else UNREACHED
        case client_exceptions.ClientResponseError():
            return NO_HTTP
    return DROPPED
