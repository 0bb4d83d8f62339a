"""What is asked of an app beside calls of its functions (what it is, to register), and what came back: a value.

    Asked ──Caller.call──> Outcome ──explain (``explain.py``)──> one sentence, or nothing

Redirects are never followed. In signed mode a request carries a signature over its body, also where that is empty, and
is made again with the fallback key where the first is refused: an app may have the older key yet.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from millstream.execute.endpoint.calls import USER_AGENT
from millstream.execute.endpoint.guard import AddressRefused
from millstream.execute.endpoint.http import Http, NotSent, TooSlow
from millstream.execute.endpoint.response import Answer, HttpFailed, NotHttp, TooLarge
from millstream.wire.json_limits import read_json
from millstream.wire.signing import KIND_HEADER, SIGNATURE_HEADER, SigningKey, SigningKeys

SYNC_KIND_HEADER: Final = "X-Inngest-Sync-Kind"
EXPECTED_KIND_HEADER: Final = "X-Inngest-Expected-Server-Kind"
IN_BAND: Final = "in_band"
SDK_HEADER: Final = "x-inngest-sdk"
HANDLED_HEADER: Final = "x-inngest-sdk-handled"
CONNECT_S: Final = 3.0
ANSWER_S: Final = 10.0
"""An app registers before it answers, and may have to start up first."""
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
UNAUTHORIZED: Final = 401

REFUSED: Final = "nothing listens"
NO_SUCH_NAME: Final = "no such name"
FORBIDDEN: Final = "an address that may not be called"
NO_URL: Final = "no URL that can be called"
SLOW: Final = "no answer in time"
UNREACHED: Final = "no route, or no connection in time"
TLS_PLAIN: Final = "TLS was asked, plain HTTP answered"
TLS_UNTRUSTED: Final = "certificate not trusted"
TLS_BROKEN: Final = "TLS failed"
NO_HTTP: Final = "no HTTP"
DROPPED: Final = "connection closed"
TOO_LARGE: Final = "answer too large"
FAILURES: Final = (
    REFUSED, NO_SUCH_NAME, FORBIDDEN, NO_URL, SLOW, UNREACHED, TLS_PLAIN, TLS_UNTRUSTED, TLS_BROKEN, NO_HTTP, DROPPED,
    TOO_LARGE,
)  # fmt: skip
_WORDS_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: what was asked for, by a server of which kind, at which address of its own; the function of a call."""

    method: str
    url: str
    kind: str = "dev"
    own_url: str = ""
    function: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back; ``failure`` where no answer did, one of ``FAILURES``, with ``words`` of the system's.

    ``is_forged``: no key of ours has signed the answer, and one should have.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str = ""
    words: str = ""
    is_forged: bool = False

    @property
    def is_sdk(self) -> bool:
        """Whether an SDK answered that has let us in."""
        return SDK_HEADER in self.headers

    @property
    def json(self) -> dict[str, Any]:
        """The body where it is a JSON object; else an empty one."""
        read, problem = read_json(self.body)
        return read if not problem and isinstance(read, dict) else {}


class CallState(NamedTuple):
    """What calls of functions meet at an app.

    ``answers``  whether it does; None: it was not called yet.
    ``why``      what is wrong with it, in one sentence; "": nothing that is known.
    """

    answers: bool | None
    why: str


class Caller:
    """Requests of apps over the connections of ``http``."""

    def __init__(self, signing: SigningKeys, http: Http, own_url: str = "") -> None:
        self.signing = signing
        self.own_url = own_url
        self._http = http

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def get(self, url: str) -> Outcome:
        """What an app says of itself."""
        return await self.call(self.asked("GET", url), b"", {})

    async def put(self, url: str, *, in_band: bool = False) -> Outcome:
        """Ask an app to register, or ``in_band`` to answer with its registration."""
        headers = {SYNC_KIND_HEADER: IN_BAND} if in_band else {}
        return await self.call(self.asked("PUT", url), msgspec.json.encode({"url": url}), headers)

    def asked(self, method: str, url: str) -> Asked:
        """A request of this server."""
        return Asked(method, url, self.signing.kind, self.own_url)

    async def call(self, asked: Asked, body: bytes, headers: dict[str, str]) -> Outcome:
        """Make the request; never raises for what the other side does."""
        headers = {KIND_HEADER: self.signing.kind, "User-Agent": USER_AGENT, **headers}
        if body:
            headers["Content-Type"] = "application/json"
        try:
            answer = await self._answer(asked, body, headers)
        except HttpFailed as error:
            return Outcome(failure=failure_of(error), words=words_of(error))
        return Outcome(answer.status, answer.headers, answer.body, is_forged=self._is_forged(answer))

    def _is_forged(self, answer: Answer) -> bool:
        """What registers an app must be signed; what an app says of itself, not every SDK signs."""
        header = answer.headers.get(SIGNATURE_HEADER.lower(), "")
        if not self.signing or SDK_HEADER not in answer.headers:
            return False
        must = bool(header) or answer.headers.get(SYNC_KIND_HEADER.lower()) == IN_BAND
        return must and not self.signing.verify(header, answer.body, int(time.time()))

    async def _answer(self, asked: Asked, body: bytes, headers: dict[str, str]) -> Answer:
        for key in self.signing.all:
            answer = await self._request(asked, body, headers | _signature(key, body))
            if answer.status != UNAUTHORIZED:
                break
        else:
            return answer if self.signing else await self._request(asked, body, headers)
        return answer

    async def _request(self, asked: Asked, body: bytes, headers: dict[str, str]) -> Answer:
        return await self._http.request(
            asked.method, asked.url, headers, body or None, total_s=ANSWER_S, bytes_max=BODY_BYTES_MAX
        )


def _signature(key: SigningKey, body: bytes) -> dict[str, str]:
    return {SIGNATURE_HEADER: SigningKeys(key).sign(body, int(time.time()))}


def failure_of(error: HttpFailed) -> str:
    """Which of ``FAILURES`` an exception stands for."""
    match error:
        case NotSent():
            return _no_connection(error.__cause__)
        case TooSlow():
            return SLOW
        case NotHttp():
            return NO_HTTP
        case TooLarge():
            return TOO_LARGE
    return DROPPED


def _no_connection(cause: BaseException | None) -> str:
    match cause:
        case AddressRefused():
            return FORBIDDEN
        case ConnectionRefusedError():
            return REFUSED
        case socket.gaierror() | UnicodeError():
            return NO_SUCH_NAME
        case ssl.SSLCertVerificationError():
            return TLS_UNTRUSTED
        case ssl.SSLError():
            return TLS_PLAIN if "WRONG_VERSION_NUMBER" in str(cause) or "RECORD_LAYER" in str(cause) else TLS_BROKEN
        case ValueError():
            return NO_URL
    return UNREACHED


def words_of(error: HttpFailed) -> str:
    """What the system says of a failure."""
    cause = error.__cause__ if isinstance(error, NotSent) else None
    return (str(cause or "") or str(error))[:_WORDS_CHARS_MAX]
