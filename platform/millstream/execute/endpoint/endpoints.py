"""``Endpoints``: the apps over HTTP that this process may call, and whether each answers. One for all lanes.

    AppSpec with an endpoint ──see──> Endpoint: connections, slots, the version that the app speaks
    no connection ──> DOWN: nothing is called; it is probed, at longer and longer intervals up to PROBE_S_MAX
    a probe is answered, the app registers anew ──> UP: who has parked dispatches for it hears of it

A probe is a GET of the app's URL, which an SDK answers with what it is, and anything else with anything: whoever
answers is asked again by calls, whose replies say what is wrong with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urljoin, urlsplit

from millstream.execute.endpoint.calls import USER_AGENT, Call
from millstream.execute.endpoint.explain import unreachable
from millstream.execute.endpoint.guard import Guard
from millstream.execute.endpoint.http import Http, NotSent
from millstream.execute.endpoint.replies import REPLY_BYTES_MAX
from millstream.execute.endpoint.response import Answer, HttpFailed
from millstream.execute.endpoint.slots import Slots
from millstream.model.backoff import doubling_s
from millstream.model.function import AppSpec, FunctionSpec
from millstream.telemetry import say
from millstream.wire.signing import SIGNATURE_HEADER, SigningKey, SigningKeys

LOG: Final = logging.getLogger("millstream.endpoints")
PROBE_FIRST_S: Final = 0.1
PROBE_S_MAX: Final = 5.0
PROBE_TIMEOUT_S: Final = 5.0
PROBE_BYTES_MAX: Final = 1024 * 1024
REDIRECTS_MAX: Final = 3
KEEPS_METHOD: Final = (307, 308)
UNAUTHORIZED: Final = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """How apps are called.

    ``keys``       sign calls and check replies; none: dev mode, nothing is signed.
    ``guard``      where calls may lead.
    ``calls_max``  under way to one app at a time.
    """

    keys: SigningKeys = field(default_factory=SigningKeys)
    guard: Guard = field(default_factory=lambda: Guard(is_open=True))
    calls_max: int = 200


class Listener(Protocol):
    """Who wants to know that apps can be called (again)."""

    def on_up(self, endpoint: Endpoint) -> None: ...


class Endpoint:
    """One app over HTTP."""

    def __init__(self, app: AppSpec, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self.app = app
        self.functions: dict[str, FunctionSpec] = {spec.slug: spec for spec in app.functions}
        self.url = app.endpoint
        self.version = -1
        """Of the protocol, as the app has said in a good reply; −1: it has not answered well yet."""
        self.is_up = True
        self.trouble = ""
        """What is wrong with it, in one sentence; "": nothing that is known."""
        self.slots = Slots(endpoints.settings.calls_max)
        self.http = Http(endpoints.settings.guard)
        self.key = 0
        """Which of the keys its calls are signed with."""
        self._probing: asyncio.Task[None] | None = None
        self._is_closed = False

    async def post(self, call: Call, now_s: int, total_s: float) -> Answer:
        """Make a call. Raises HttpFailed, and BadRequest where its body has no form that could be signed."""
        keys = self._endpoints.settings.keys
        if not keys:
            return await self._post(call, call.headers, total_s)
        answer = await self._post(call, _signed(call, keys.all[self.key], now_s), total_s)
        if answer.status == UNAUTHORIZED and keys.fallback is not None:  # An app that has the other key yet, or again.
            other = 1 - self.key
            second = await self._post(call, _signed(call, keys.all[other], now_s), total_s)
            if second.status != UNAUTHORIZED:
                self.key = other
                return second
        return answer

    async def _post(self, call: Call, headers: Mapping[str, str], total_s: float) -> Answer:
        """One call, and again where the app redirects within its host, as servers do for a slash at the end."""
        url = call.url
        for _ in range(REDIRECTS_MAX):
            answer = await self.http.request(
                "POST", url, headers, call.body, total_s=total_s, bytes_max=REPLY_BYTES_MAX
            )
            url = _same_host(answer, url)
            if not url:
                break
        return answer

    def said(self, version: int) -> None:
        """The app has answered well, and speaks this version."""
        if version >= 0:
            self.version = version
        self.set_trouble("")

    def set_trouble(self, trouble: str) -> None:
        """Note what is wrong, and say it once in the log."""
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble:
                say(LOG, "app in trouble", level=logging.WARNING, app=self.app.id, url=self.url, why=trouble)
            else:
                say(LOG, "app answers again", app=self.app.id, url=self.url)

    def down(self, error: HttpFailed) -> None:
        """Nothing answers: call it no more until it does."""
        self.set_trouble(unreachable(self.url, error))
        if self.is_up:
            self.is_up = False
            if self._is_closed:
                return  # Its app is gone, or is elsewhere.
            self._probing = asyncio.get_running_loop().create_task(self._probe(), name=f"probe of {self.app.id}")

    def up(self) -> None:
        """It answers."""
        if not self.is_up:
            self.is_up = True
            if self._probing is not None and self._probing is not asyncio.current_task():
                self._probing.cancel()
            self._probing = None
            self.set_trouble("")
            self._endpoints.tell_up(self)

    async def _probe(self) -> None:
        failures = 0
        while not self.is_up:
            failures += 1
            await asyncio.sleep(doubling_s(PROBE_FIRST_S, failures, PROBE_S_MAX))
            try:
                await self.http.request(
                    "GET", self.url, {"User-Agent": USER_AGENT}, None,
                    total_s=PROBE_TIMEOUT_S, bytes_max=PROBE_BYTES_MAX,
                )  # fmt: skip
            except NotSent:
                continue
            except HttpFailed:
                pass  # Somebody is there.
            self.up()

    async def close(self) -> None:
        """Close its connections; calls under way are broken."""
        self._is_closed = True
        if self._probing is not None:
            self._probing.cancel()
            with suppress(asyncio.CancelledError):
                await self._probing
        await self.http.close()


class Endpoints:
    """All apps over HTTP, by their functions."""

    def __init__(self, settings: EndpointSettings | None = None) -> None:
        self.settings = settings or EndpointSettings()
        self.outside = Slots(self.settings.calls_max)
        """For requests that steps make to others than apps."""
        self.http = Http(self.settings.guard)
        """For the same."""
        self._apps: dict[str, Endpoint] = {}
        self._by_function: dict[str, Endpoint] = {}
        self._listeners: list[Listener] = []
        self._closing: set[asyncio.Task[None]] = set()

    def listen(self, listener: Listener) -> None:
        """Tell it of apps that come up, until ``leave``."""
        self._listeners.append(listener)

    def leave(self, listener: Listener) -> None:
        """Tell it no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def of(self, function: str) -> Endpoint | None:
        """The app that has this function."""
        return self._by_function.get(function)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._apps.values())

    def see(self, app: AppSpec) -> None:
        """The catalogue has this app now. One without an endpoint is none of ours, any more."""
        known = self._apps.get(app.id)
        if not app.endpoint:
            self.forget(app.id)
            return
        if known is not None and known.url == app.endpoint:
            for slug in known.functions:
                if self._by_function.get(slug) is known:
                    del self._by_function[slug]
            known.app, known.functions = app, {spec.slug: spec for spec in app.functions}
        else:
            self.forget(app.id)
            known = self._apps[app.id] = Endpoint(app, self)
        for slug in known.functions:
            self._by_function[slug] = known
        if known.is_up:
            self.tell_up(known)
        else:
            known.up()  # An app that registers lives.

    def forget(self, app_id: str) -> None:
        """The app is gone. Calls under way end as they can."""
        endpoint = self._apps.pop(app_id, None)
        if endpoint is None:
            return
        for slug in endpoint.functions:
            if self._by_function.get(slug) is endpoint:
                del self._by_function[slug]
        task = asyncio.get_running_loop().create_task(self._close_idle(endpoint))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def tell_up(self, endpoint: Endpoint) -> None:
        """Its functions can be called now."""
        for listener in tuple(self._listeners):
            listener.on_up(endpoint)

    async def close(self) -> None:
        """Close all connections."""
        for task in tuple(self._closing):
            task.cancel()
        for endpoint in self._apps.values():
            await endpoint.close()
        await self.http.close()

    async def _close_idle(self, endpoint: Endpoint) -> None:
        try:
            while endpoint.slots.taken:  # noqa: ASYNC110 - rare, and nothing waits for it
                await asyncio.sleep(1)
        finally:
            await endpoint.close()


def _signed(call: Call, key: SigningKey, now_s: int) -> dict[str, str]:
    return {**call.headers, SIGNATURE_HEADER: SigningKeys(key).sign(call.body, now_s)}


def _same_host(answer: Answer, url: str) -> str:
    """Where a redirect that keeps the method leads within the host that was asked; "": nowhere."""
    if answer.status not in KEEPS_METHOD:
        return ""
    location = answer.headers.get("location", "")
    target = urljoin(url, location)
    asked, told = urlsplit(url), urlsplit(target)
    is_same = (told.scheme, told.netloc) == (asked.scheme, asked.netloc)
    return target if location and is_same and target != url else ""
