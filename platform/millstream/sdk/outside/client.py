"""``Client`` and ``SyncClient``: events and signals sent, functions invoked, runs looked at, awaited and cancelled,
from outside over HTTP.

    SyncClient   for Flask, Django, Celery, scripts: calls that return when they are done
    Client       the same for ``await``; each call waits in a thread, so that one client serves any number of loops

Kafka producers need neither. A send is tried again after network errors and 5xx answers with the same seed header
(sdk-protocol.md P1): the events of all tries get the same ids, so that a repeated send starts nothing twice.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, cast, overload
from urllib.parse import quote

import msgspec

from millstream.errors import Busy, NotFound
from millstream.model.event import Event
from millstream.model.text.durations import Duration
from millstream.sdk.declared import declared_slug
from millstream.sdk.outgoing import checked, several
from millstream.sdk.outside import results
from millstream.sdk.outside.transport import NO_KEY, SEED_HEADER, Transport
from millstream.sdk.payloads import Reader, encode, result_reader

DEFAULT_URL: Final = "http://127.0.0.1:8288"
CALLS_AT_ONCE_MAX: Final = 16
"""How many calls of one ``Client`` are under way; more wait for a thread."""
WAITS_AT_ONCE_MAX: Final = 64
"""How many waits for ends of runs a ``Client`` has under way. More take turns, in shorter requests."""
TURN_S: Final = 0.25

T = TypeVar("T")
R = TypeVar("R")
Function = str | Callable[..., Awaitable[R]] | Callable[..., R]


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
        headers = {SEED_HEADER: results.seed()}
        answer = self._transport.call("POST", f"/e/{quote(self._key, safe='')}", body, headers)
        return cast("list[str]", answer["ids"])

    def run(self, id: str) -> Mapping[str, object]:
        """A run as the server shows it. Raises NotFound."""
        answer = self._transport.call("GET", f"/v1/runs/{quote(id, safe='')}")
        return cast("Mapping[str, object]", answer.get("data", answer))

    def cancel(self, id: str) -> None:
        """End a run. Raises NotFound when there is none that is open."""
        headers = {"Authorization": f"Bearer {self._key}"}
        self._transport.call("DELETE", f"/v1/runs/{quote(id, safe='')}", headers=headers)

    def send_signal(self, name: str, data: object = None) -> str:
        """Send a signal to the run that waits for it with ``step.wait_for_signal``; the run's id.

        Raises NotFound where none waits: nothing is kept for one that comes later.
        """
        body = encode({"signal": name, "data": data}, "the data of signal", name)
        headers = {"Authorization": f"Bearer {self._key}", SEED_HEADER: results.seed()}
        answer = self._transport.call("POST", "/v1/signals", body, headers)
        return str(cast("Mapping[str, object]", answer["data"])["run_id"])

    def result(self, id: str, *, timeout: Duration | None = None) -> Any:
        """The result of a run, once it is over, also long after, while the history keeps it.

        Raises RunError where it failed or was cancelled; RunNotOver when it is not over in time (it goes on), NotFound
        for a run that is not there.
        """
        return self._led(results.result(id, results.Wait.of(timeout)))

    @overload
    def invoke(
        self,
        function: Callable[..., Awaitable[R]],
        data: Mapping[str, object] | None = None,
        *,
        timeout: Duration | None = None,
    ) -> R: ...
    @overload
    def invoke(
        self, function: Callable[..., R], data: Mapping[str, object] | None = None, *, timeout: Duration | None = None
    ) -> R: ...
    @overload
    def invoke(
        self, function: str, data: Mapping[str, object] | None = None, *, timeout: Duration | None = None
    ) -> Any: ...
    def invoke(
        self, function: Function[Any], data: Mapping[str, object] | None = None, *, timeout: Duration | None = None
    ) -> Any:
        """Start a function with this data, whatever it subscribes to, and wait for its result.

        ``function``  a declared handler, whose annotated result this is, or the id of one, ``<app>-<function>``.

        Raises NotFound for a function that is not there, NotStarted where its flow control starts no run now, else what
        ``result`` raises.
        """
        slug, reader = _invoked(function)
        return self._led(results.invoke(slug, data, results.Wait.of(timeout), self._key, reader=reader))

    def _ask(self, question: results.Question) -> dict[str, object]:
        return self._transport.call(question.method, question.path, question.body, question.headers)

    def _led(self, asking: results.Asking) -> Any:
        """What comes out of asking the server all that this asks."""
        try:
            question = next(asking)
            while True:
                try:
                    answer = self._ask(question)
                except (NotFound, Busy) as error:
                    question = asking.throw(error)
                else:
                    question = asking.send(answer)
        except StopIteration as end:
            return end.value


class Client:
    """Talks to a millstream server. ``async with Client(url, key) as client: ids = await client.send(Event(…))``.

    What is not given comes from MILLSTREAM_URL and MILLSTREAM_EVENT_KEY. Any number of tasks and event loops may use
    one client. ``send_sync`` is for code without an event loop; ``SyncClient`` has all of it in that form.
    """

    def __init__(self, url: str | None = None, event_key: str | None = None) -> None:
        self._sync = SyncClient(url, event_key)
        self._threads: ThreadPoolExecutor | None = None
        self._waiting_threads: ThreadPoolExecutor | None = None
        self._waits = 0
        self._pid = 0

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The client may be used again."""
        pools, self._threads, self._waiting_threads = (self._threads, self._waiting_threads), None, None
        for threads in pools:
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

    async def send_signal(self, name: str, data: object = None) -> str:
        """Send a signal to the run that waits for it; the run's id. Raises NotFound where none waits."""
        return await self._apart(lambda: self._sync.send_signal(name, data))

    async def result(self, id: str, *, timeout: Duration | None = None) -> Any:
        """The result of a run, once it is over. Raises what ``SyncClient.result`` raises.

        Any number of tasks may wait. Beyond WAITS_AT_ONCE_MAX they take turns, and learn of ends a little later.
        """
        return await self._led(results.result(id, results.Wait.of(timeout, self._asked_s)))

    @overload
    async def invoke(
        self,
        function: Callable[..., Awaitable[R]],
        data: Mapping[str, object] | None = None,
        *,
        timeout: Duration | None = None,
    ) -> R: ...
    @overload
    async def invoke(
        self, function: Callable[..., R], data: Mapping[str, object] | None = None, *, timeout: Duration | None = None
    ) -> R: ...
    @overload
    async def invoke(
        self, function: str, data: Mapping[str, object] | None = None, *, timeout: Duration | None = None
    ) -> Any: ...
    async def invoke(
        self, function: Function[Any], data: Mapping[str, object] | None = None, *, timeout: Duration | None = None
    ) -> Any:
        """Start a function and wait for its result. As ``SyncClient.invoke``."""
        slug, reader = _invoked(function)
        wait = results.Wait.of(timeout, self._asked_s)
        return await self._led(results.invoke(slug, data, wait, self._sync._key, reader=reader))

    async def _led(self, asking: results.Asking) -> Any:
        """As ``SyncClient._led``, each request in a thread: in those that wait, so that sends need not."""
        self._waits += 1
        try:
            question = next(asking)
            while True:
                try:
                    answer = await self._waiting(question)
                except (NotFound, Busy) as error:
                    question = asking.throw(error)
                else:
                    question = asking.send(answer)
        except StopIteration as end:
            return end.value
        finally:
            self._waits -= 1

    def _asked_s(self) -> float:
        return results.ASKED_S if self._waits <= WAITS_AT_ONCE_MAX else TURN_S

    async def _waiting(self, question: results.Question) -> dict[str, object]:
        self._after_fork()
        if self._waiting_threads is None:
            self._waiting_threads = ThreadPoolExecutor(WAITS_AT_ONCE_MAX, thread_name_prefix="millstream-waits")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._waiting_threads, self._sync._ask, question)

    async def _apart(self, call: Callable[[], T]) -> T:
        """Wait for a call in a thread."""
        self._after_fork()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(CALLS_AT_ONCE_MAX, thread_name_prefix="millstream-client")
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _after_fork(self) -> None:
        if self._pid != os.getpid():  # A fork leaves the threads behind.
            self._pid, self._threads, self._waiting_threads = os.getpid(), None, None


def _invoked(function: Function[Any]) -> tuple[str, Reader | None]:
    """The id of a function, and what reads its result."""
    if isinstance(function, str):
        return function, None
    return declared_slug("invoke", function), result_reader(function)


def _wire(event: Event) -> dict[str, object]:
    checked(event)
    return {k: v for k, v in msgspec.structs.asdict(event).items() if v is not None}
