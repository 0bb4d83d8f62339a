"""Reads of a door that has no history of its own: they are asked of the history role and handed on.

    client ── GET /v1/runs/… ──> api ── the same ──> history (``--history-url``)

Nothing is cached. Where no history was named, or it does not answer, a read is a 503 that says so: events and
requests are not affected.
"""

from __future__ import annotations

import json
from typing import Final

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

from millstream.api.reading.results import check_waits
from millstream.errors import LogUnavailable
from millstream.history.results import ResultSeen
from millstream.model import limits

CONNECT_S: Final = 3.0
ANSWER_S: Final = 30.0
FOLDED_S: Final = 2.0
CHUNK_BYTES: Final = 64 * 1024
HANDED_ON: Final = ("Content-Type", "Cache-Control", "ETag", "Retry-After")
ASKED_WITH: Final = ("Accept", "Authorization", "Content-Type", "If-None-Match", "Last-Event-ID")


class _Result(msgspec.Struct):
    """What the history answers of a run's end."""

    run_id: str
    function_id: str
    status: str
    output: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class _Answer(msgspec.Struct):
    data: _Result


_answer: Final = msgspec.json.Decoder(_Answer)


class Forward:
    """The history role at a URL; "" says that there is none."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: ClientSession | None = None
        self._waiting: ClientSession | None = None
        self._waiters = 0

    async def hand_on(self, request: web.Request, body: bytes = b"") -> web.StreamResponse:
        """Ask the same of the history, and stream its answer."""
        headers = {name: request.headers[name] for name in ASKED_WITH if name in request.headers}
        try:
            where = self._url + request.path_qs
            async with self._opened().request(request.method, where, headers=headers, data=body or None) as answer:
                handed = {name: answer.headers[name] for name in HANDED_ON if name in answer.headers}
                response = web.StreamResponse(status=answer.status, headers=handed)
                await response.prepare(request)
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def wait_folded(self, journal: str, lane: int, offset: int) -> bool:
        """Wait until the history shows a lane's record, for a moment at most. Whether it does."""
        try:
            timeout = ClientTimeout(total=FOLDED_S)
            where = f"{self._url}/api/folded?lane={lane}&offset={offset}"
            async with self._opened().get(where, timeout=timeout) as answer:
                return answer.status == 200 and bool(json.loads(await answer.read())["data"]["folded"])
        except (LogUnavailable, ClientError, TimeoutError, ValueError, LookupError):
            return False  # A read now may show the state before; the request itself is done.

    async def status_of(self, run: str) -> str | None:
        """The status of a run; None where there is none. Raises LogUnavailable."""
        try:
            async with self._opened().get(f"{self._url}/v1/runs/{run}") as answer:
                if answer.status == 404:
                    return None
                return str(json.loads(await answer.read())["data"]["status"])
        except (ClientError, TimeoutError, ValueError, LookupError, TypeError) as error:
            raise self._unreachable(error) from error

    async def result(self, run: str, wait_s: float) -> ResultSeen | None:
        """As ``Results.result``, asked of the history role."""
        check_waits(self._waiters)
        self._waiters += 1
        try:
            where, timeout = f"{self._url}/v1/runs/{run}/result", ClientTimeout(total=wait_s + ANSWER_S)
            query = {"wait": f"{round(wait_s * 1000)}ms"}
            async with self._opened_to_wait().get(where, params=query, timeout=timeout) as answer:
                if answer.status == 404:
                    return None
                seen = _answer.decode(await answer.read()).data
                return ResultSeen(seen.run_id, seen.function_id, seen.status, bytes(seen.output), bytes(seen.error))
        except (ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise self._unreachable(error) from error
        finally:
            self._waiters -= 1

    async def end(self) -> None:
        """Nobody waits for a run's end any longer."""
        if self._waiting is not None:
            await self._waiting.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self.end()
        if self._session is not None:
            await self._session.close()

    def _opened_to_wait(self) -> ClientSession:
        """Connections of their own: who waits for an end must not keep a read waiting."""
        if self._waiting is None:
            self._refuse_without_history()
            self._waiting = ClientSession(connector=TCPConnector(limit=limits.RESULTS_AWAITED_MAX))
        return self._waiting

    def _refuse_without_history(self) -> None:
        if not self._url:
            raise LogUnavailable(
                "this api has no history to read from: expected --history-url, got none. Events, invoke and cancel "
                "work. Start millstream history and name its address, or ask it directly."
            )

    def _opened(self) -> ClientSession:
        self._refuse_without_history()
        if self._session is None:
            timeout = ClientTimeout(total=None, connect=CONNECT_S, sock_read=ANSWER_S)
            self._session = ClientSession(timeout=timeout, auto_decompress=True)
        return self._session

    def _unreachable(self, error: BaseException) -> LogUnavailable:
        return LogUnavailable(
            f"the history at {self._url} did not answer: {error!r}. Events, invoke and cancel "
            "work. See whether millstream history runs there, or correct --history-url."
        )
