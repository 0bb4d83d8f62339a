"""``Client`` and ``SyncClient``: events sent, runs looked at and cancelled, from outside over HTTP.

    SyncClient   for Flask, Django, Celery, scripts: calls that return when they are done
    Client       the same for ``await``; each call waits in a thread, so that one client serves any number of loops

Kafka producers need neither. A send is tried again after network errors and 5xx answers with the same seed header
(sdk-protocol.md P1): the events of all tries get the same ids, so that a repeated send starts nothing twice.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, cast
from urllib.parse import quote

import msgspec

from millstream.model.event import Event
from millstream.sdk.outgoing import checked, several
from millstream.sdk.payloads import encode
from millstream.sdk.transport import NO_KEY, Transport

DEFAULT_URL: Final = "http://127.0.0.1:8288"
SEED_HEADER: Final = "x-inngest-event-id-seed"
CALLS_AT_ONCE_MAX: Final = 16
"""How many calls of one ``Client`` are under way; more wait for a thread."""

T = TypeVar("T")


class SyncClient:
    """Talks to a millstream server. ``with SyncClient(url, key) as client: ids = client.send(Event(…))``.

    What is not given comes from MILLSTREAM_URL and MILLSTREAM_EVENT_KEY. Threads may share one client, and one that was
    made before a fork may be used after it. ``close`` frees connections; a client that lives as long as its process
    needs none. A call blocks: in a coroutine take ``Client``.
    """

    def __init__(self, url: str | None = None, event_key: str | None = None) -> None:
        self._key = event_key or os.environ.get("MILLSTREAM_EVENT_KEY") or NO_KEY
        self._transport = Transport((url or os.environ.get("MILLSTREAM_URL") or DEFAULT_URL).rstrip("/"), self._key)

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client may be used again."""
        self._transport.close()

    def send(self, events: Event | Sequence[Event]) -> list[str]:
        """Send one event or many; their internal ids in order. Durable when it returns.

        Raises BadRequest naming the event that was refused (those before it were taken), NotAllowed for a wrong key,
        Busy or LogUnavailable when the server cannot take events now, or is not there.
        """
        many = several(events)
        if not many:
            return []
        body = encode([_wire(event) for event in many], "what is sent")
        seed = f"{time.time_ns() // 1_000_000},{base64.b64encode(os.urandom(10)).decode()}"
        answer = self._transport.call("POST", f"/e/{quote(self._key, safe='')}", body, {SEED_HEADER: seed})
        return cast("list[str]", answer["ids"])

    def run(self, id: str) -> Mapping[str, object]:
        """A run as the server shows it. Raises NotFound."""
        answer = self._transport.call("GET", f"/v1/runs/{quote(id, safe='')}")
        return cast("Mapping[str, object]", answer.get("data", answer))

    def cancel(self, id: str) -> None:
        """End a run. Raises NotFound when there is none that is open."""
        headers = {"Authorization": f"Bearer {self._key}"}
        self._transport.call("DELETE", f"/v1/runs/{quote(id, safe='')}", headers=headers)


class Client:
    """Talks to a millstream server. ``async with Client(url, key) as client: ids = await client.send(Event(…))``.

    What is not given comes from MILLSTREAM_URL and MILLSTREAM_EVENT_KEY. Any number of tasks and event loops may use
    one client. ``send_sync`` is for code without an event loop; ``SyncClient`` has all of it in that form.
    """

    def __init__(self, url: str | None = None, event_key: str | None = None) -> None:
        self._sync = SyncClient(url, event_key)
        self._threads: ThreadPoolExecutor | None = None
        self._pid = 0

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The client may be used again."""
        threads, self._threads = self._threads, None
        if threads is not None and self._pid == os.getpid():
            threads.shutdown(wait=False)
        self._sync.close()

    async def send(self, events: Event | Sequence[Event]) -> list[str]:
        """Send one event or many; their internal ids in order. Durable when it returns.

        Raises what ``SyncClient.send`` raises.
        """
        return await self._apart(lambda: self._sync.send(events))

    def send_sync(self, events: Event | Sequence[Event]) -> list[str]:
        """``send`` for code without an event loop: it blocks until the events are durable."""
        return self._sync.send(events)

    async def run(self, id: str) -> Mapping[str, object]:
        """A run as the server shows it. Raises NotFound."""
        return await self._apart(lambda: self._sync.run(id))

    async def cancel(self, id: str) -> None:
        """End a run. Raises NotFound when there is none that is open."""
        await self._apart(lambda: self._sync.cancel(id))

    async def _apart(self, call: Callable[[], T]) -> T:
        """Wait for a call in a thread."""
        if self._threads is None or self._pid != os.getpid():  # A fork leaves the threads behind.
            self._threads = ThreadPoolExecutor(CALLS_AT_ONCE_MAX, thread_name_prefix="millstream-client")
            self._pid = os.getpid()
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _wire(event: Event) -> dict[str, object]:
    checked(event)
    return {k: v for k, v in msgspec.structs.asdict(event).items() if v is not None}
