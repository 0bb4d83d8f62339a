"""HTTP requests with bounds: connections kept alive, and an outcome that says whether anything was executed.

    sent and answered ──> Answer
    cannot be written ──> Unsendable   certainly nothing was executed
    no connection     ──> NotSent      certainly nothing was executed
    broken after that ──> Broken       it may have been
    too slow          ──> TooSlow      it may have been, and may still be
    no HTTP, too much ──> NotHttp, TooLarge

A request is never repeated here, and a redirect never followed: what that would mean, who asks must know. HTTP/1.1
alone: requests of one app share connections one after another, and with 50 µs a request there is nothing to win by
sharing them at the same time (docs/performance.md has the measurement).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit

import msgspec

from millstream.execute.endpoint.guard import AddressRefused, Guard
from millstream.execute.endpoint.response import Answer, HttpFailed, Response
from millstream.model.text.storable import shown

CONNECT_S_MAX: Final = 10.0
IDLE_S_MAX: Final = 3.0
"""A connection idle for longer is closed by us, before the servers of apps do (5 s is usual): a request that meets a
connection's end cannot be told from one that was executed."""
ADDRESSES_TRIED_MAX: Final = 4
LOOKUPS_MAX: Final = 8
"""Names that are looked up at the same time."""
_HAS_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_IN_TARGET: Final = "!#$%&'()*+,/:;=?@[]~-._"
_PORTS: Final = {"http": 80, "https": 443}


class NotSent(HttpFailed):
    """No connection could be made: nothing was executed."""


class Unsendable(HttpFailed):
    """A request that HTTP cannot hold: no connection was asked for."""


class Broken(HttpFailed):
    """The connection broke after the request was sent."""


class TooSlow(HttpFailed):
    """No answer within the time."""


class Place(msgspec.Struct, frozen=True):
    """Where a URL leads. ``authority`` is the Host header, ``login`` the Authorization one or empty."""

    is_tls: bool
    host: str
    port: int
    authority: str
    login: str


class Connection(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self, pool: list[Connection]) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether it takes another request."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, bytes_max: int, *, is_head: bool) -> asyncio.Future[Answer]:
        """Send a request; its answer, or Broken, NotHttp, TooLarge."""
        assert self._transport is not None and self._answer is None, "one request at a time"
        self._response = Response(bytes_max, is_of_head=is_head)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def hang_up(self) -> None:
        """End it at once; the request under way is broken."""
        self._fail(Broken("it was closed here"))

    def abort(self) -> None:
        """End it at once; nobody waits for an answer."""
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._response is None or self._answer is None:
            self.abort()  # Of what was not asked for.
            return
        try:
            answer = self._response.feed(data)
        except HttpFailed as error:
            self._fail(error)
            return
        if answer is not None:
            self._done(answer, keeps_alive=self._response.keeps_alive)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._pool:
            self._pool.remove(self)
        if self._answer is not None and self._response is not None:
            answer = self._response.end() if error is None else None  # Reset, it is no end: what came may be half.
            if answer is not None:
                self._done(answer, keeps_alive=False)
            else:
                self._fail(Broken(str(error) if error is not None else "it was closed before the answer came"))

    def _done(self, answer: Answer, *, keeps_alive: bool) -> None:
        future, self._answer, self._response = self._answer, None, None
        if not keeps_alive and self._transport is not None:
            self._transport.close()
        if future is not None and not future.done():
            future.set_result(answer)

    def _fail(self, error: HttpFailed) -> None:
        future, self._answer, self._response = self._answer, None, None
        if self._transport is not None:
            self._transport.abort()
        if future is not None and not future.done():
            future.set_exception(error)


class Http:
    """Connections to where requests lead. Made and used on one event loop; ``close`` ends them."""

    def __init__(self, guard: Guard, connect_s: float = CONNECT_S_MAX) -> None:
        self._guard = guard
        self._connect_s = connect_s
        self._idle: dict[tuple[bool, str, int], list[Connection]] = {}
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self._lookups: ThreadPoolExecutor | None = None

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, total_s: float, bytes_max: int
    ) -> Answer:
        """One request. Raises HttpFailed, and nothing else."""
        place, target = place_of(url), target_of(url)
        request = _written(method, target, place, headers, body)
        connection = await self._connection(place)
        loop = asyncio.get_running_loop()
        self._open.add(connection)
        try:
            answering = connection.send(request, bytes_max, is_head=method == "HEAD")
            late = loop.call_later(total_s, _too_slow, answering, total_s)
            try:
                answer = await answering
            finally:
                late.cancel()
        except BaseException:
            connection.abort()
            raise
        finally:
            self._open.discard(connection)
        if connection.usable:
            self._keep(connection, place, loop)
        return answer

    async def close(self) -> None:
        """Close all connections; requests under way are broken."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in [*self._open, *(one for pool in self._idle.values() for one in pool)]:
            connection.hang_up()
        self._idle.clear()
        if self._lookups is not None:
            self._lookups.shutdown(wait=False, cancel_futures=True)

    async def _connection(self, place: Place) -> Connection:
        pool = self._idle.setdefault((place.is_tls, place.host, place.port), [])
        oldest = asyncio.get_running_loop().time() - IDLE_S_MAX
        while pool:
            connection = pool.pop()
            if connection.usable and connection.idle_since >= oldest:
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._connect(place, pool)
        except TimeoutError as error:
            raise NotSent(f"no connection to {place.authority} within {self._connect_s:g} s") from error
        except (OSError, UnicodeError) as error:  # ssl.SSLError is one; a name that IDNA cannot write is the other.
            raise NotSent(f"no connection to {place.authority}: {error}") from error

    async def _connect(self, place: Place, pool: list[Connection]) -> Connection:
        """Try the addresses of a host one after another, those that may be called."""
        loop = asyncio.get_running_loop()
        addresses = await self._addresses(place)
        refused = [why for address in addresses if (why := self._guard.refuses(address))]
        allowed = [address for address in addresses if not self._guard.refuses(address)]
        if not allowed:
            raise AddressRefused(refused[0]) if refused else OSError("the name has no address")
        failure: OSError | None = None
        for address in allowed[:ADDRESSES_TRIED_MAX]:
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(pool),
                    address,
                    place.port,
                    ssl=self._context() if place.is_tls else None,
                    server_hostname=place.host if place.is_tls else None,
                )
                return connection
            except OSError as error:
                failure = error
        assert failure is not None
        raise failure

    async def _addresses(self, place: Place) -> list[str]:
        """The addresses of a host. Names are looked up in threads of our own: where a name's servers do not answer, a
        look-up holds its thread for long, and nobody else shall wait for it."""
        if _is_address(place.host):
            return [place.host]
        if self._lookups is None:
            self._lookups = ThreadPoolExecutor(LOOKUPS_MAX, thread_name_prefix="lookup")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._lookups, socket.getaddrinfo, place.host, place.port, socket.AF_UNSPEC, socket.SOCK_STREAM
        )
        return list(dict.fromkeys(str(one[4][0]) for one in found))

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _keep(self, connection: Connection, place: Place, loop: asyncio.AbstractEventLoop) -> None:
        connection.idle_since = loop.time()
        self._idle.setdefault((place.is_tls, place.host, place.port), []).append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_S_MAX, self._end_idle)

    def _end_idle(self) -> None:
        """Close what was idle for too long; the oldest stand first."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_S_MAX
        for key, pool in tuple(self._idle.items()):
            for connection in [one for one in pool if one.idle_since <= oldest]:
                pool.remove(connection)
                connection.abort()
            if not pool:
                del self._idle[key]
        self._sweep = loop.call_later(IDLE_S_MAX, self._end_idle) if self._idle else None


def _too_slow(answering: asyncio.Future[Answer], total_s: float) -> None:
    if not answering.done():
        answering.set_exception(TooSlow(f"no answer within {total_s:g} s"))


@lru_cache(maxsize=1_024)
def _place(scheme: str, netloc: str) -> Place:
    parts = urlsplit(f"{scheme}://{netloc}")
    if scheme not in _PORTS or not parts.hostname:
        raise ValueError("expected http:// or https:// and a host")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    port = parts.port or _PORTS[scheme]
    shown_host = f"[{host}]" if ":" in host else host
    authority = shown_host if port == _PORTS[scheme] else f"{shown_host}:{port}"
    login = ""
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Basic {b64encode(user.encode()).decode()}"
    return Place(scheme == "https", host, port, authority, login)


@lru_cache(maxsize=1_024)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return "%" not in host  # A zone is for the system to read.


def place_of(url: str) -> Place:
    """Where a URL leads. Raises NotSent."""
    try:
        parts = urlsplit(url)
        return _place(parts.scheme, parts.netloc)
    except ValueError as error:
        raise NotSent(f"{shown(url)} is no URL that can be called: {error}") from error


def joined(url: str, location: str) -> str:
    """Where a ``Location`` in an answer of ``url`` leads; "": nowhere that a URL could say."""
    try:
        target = urljoin(url, location)
        urlsplit(target)
    except ValueError:
        return ""
    return target


def target_of(url: str) -> str:
    """The path and query of a URL as a request has them: whatever HTTP cannot hold there is written in percents."""
    parts = urlsplit(url)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return quote(target, safe=_IN_TARGET)


def _written(method: str, target: str, place: Place, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """A request as bytes. Raises Unsendable for a header that HTTP cannot hold."""
    given = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not given.count("\n") == given.count("\r") == len(headers):
        raise Unsendable("a header has the end of a line in it")
    login = f"Authorization: {place.login}\r\n" if place.login and "Authorization" not in headers else ""
    length = f"Content-Length: {len(body or b'')}\r\n" if body is not None or method in _HAS_BODY else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: {place.authority}\r\n{login}{given}{length}\r\n"
    try:
        return head.encode("latin-1") + (body or b"")
    except UnicodeEncodeError as error:
        raise Unsendable(f"a header has a character that HTTP cannot hold: {shown(head[error.start])}") from error
