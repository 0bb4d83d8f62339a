"""``Client``: events sent, runs looked at and cancelled, from outside over HTTP. Kafka producers need none of it.

A send is tried again after network errors and 5xx answers with the same seed header (sdk-protocol.md P1): the events of
all tries get the same ids, so that a repeated send starts nothing twice.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote

import msgspec

from millstream.errors import BadRequest, Busy, LimitExceeded, LogUnavailable, MillstreamError, NotAllowed, NotFound
from millstream.model.event import Event
from millstream.sdk.outgoing import checked, several
from millstream.sdk.payloads import encode

if TYPE_CHECKING:
    import aiohttp

TRIES_MAX: Final = 5
FIRST_DELAY_S: Final = 0.1
TIMEOUT_S: Final = 30.0
DEFAULT_URL: Final = "http://127.0.0.1:8288"
NO_KEY: Final = "NO_EVENT_KEY_SET"  # What a development server takes for want of a key.
SEED_HEADER: Final = "x-inngest-event-id-seed"


class Client:
    """Talks to a millstream server. ``async with Client(url, key) as client: ids = await client.send(Event(…))``.

    What is not given comes from MILLSTREAM_URL and MILLSTREAM_EVENT_KEY. Many tasks of one loop may use one client.
    """

    def __init__(self, url: str | None = None, event_key: str | None = None) -> None:
        self._url = (url or os.environ.get("MILLSTREAM_URL") or DEFAULT_URL).rstrip("/")
        self._key = event_key or os.environ.get("MILLSTREAM_EVENT_KEY") or NO_KEY
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The client may be used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(self, events: Event | Sequence[Event]) -> list[str]:
        """Send one event or many; their internal ids in order. Durable when it returns.

        Raises BadRequest naming the event that was refused (those before it were taken), NotAllowed for a wrong key,
        Busy or LogUnavailable when the server cannot take events now.
        """
        many = several(events)
        if not many:
            return []
        body = encode([_wire(event) for event in many], "what is sent")
        seed = f"{time.time_ns() // 1_000_000},{base64.b64encode(os.urandom(10)).decode()}"
        answer = await self._call("POST", f"/e/{quote(self._key, safe='')}", body, {SEED_HEADER: seed})
        return cast("list[str]", answer["ids"])

    async def run(self, id: str) -> Mapping[str, object]:
        """A run as the server shows it. Raises NotFound."""
        answer = await self._call("GET", f"/v1/runs/{quote(id, safe='')}")
        return cast("Mapping[str, object]", answer.get("data", answer))

    async def cancel(self, id: str) -> None:
        """End a run. Raises NotFound when there is none that is open."""
        await self._call("DELETE", f"/v1/runs/{quote(id, safe='')}", headers={"Authorization": f"Bearer {self._key}"})

    async def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, object]:
        failure: MillstreamError | None = None
        for attempt in range(TRIES_MAX):
            if attempt:
                await asyncio.sleep(FIRST_DELAY_S * 2 ** (attempt - 1))
            try:
                status, answer = await self._once(method, path, body, dict(headers or {}))
            except (OSError, TimeoutError) as error:
                failure = LogUnavailable(f"{method} {self._url}{_shown(path)} got no answer: {error!r}.")
                continue
            if status < 400:
                return answer
            failure = _refusal(status, f"{method} {self._url}{_shown(path)}", answer)
            if status < 500:
                break
        assert failure is not None  # The loop ends by return, or with the last failure.
        raise failure

    async def _once(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, object]]:
        import aiohttp  # Here, so that declaring functions needs no HTTP library.

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        try:
            async with self._session.request(
                method, self._url + path, data=body, headers={"content-type": "application/json", **headers}
            ) as response:
                return response.status, _object(await response.read())
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error


def _wire(event: Event) -> dict[str, object]:
    checked(event)
    return {k: v for k, v in msgspec.structs.asdict(event).items() if v is not None}


def _object(body: bytes) -> dict[str, object]:
    try:
        answer = msgspec.json.decode(body) if body else {}
    except msgspec.DecodeError:
        answer = {"error": body[:200].decode(errors="replace")}
    return answer if isinstance(answer, dict) else {"data": answer}


def _shown(path: str) -> str:
    return "/e/…" if path.startswith("/e/") else path  # Keys don't belong in error messages.


def _refusal(status: int, call: str, answer: Mapping[str, object]) -> MillstreamError:
    text = f"{call} was answered {status}: {answer.get('error') or answer.get('message') or dict(answer)!r}"
    if status in (401, 403):
        return NotAllowed(f"{text}. Check MILLSTREAM_EVENT_KEY.")
    if status == 404:
        return NotFound(text)
    if status == 413:
        return LimitExceeded(text)
    if status in (429, 503):
        return Busy(text)
    return BadRequest(text) if status < 500 else LogUnavailable(text)
