"""``Endpoints``: the apps over HTTP that this process may call, and whether each answers. One for all lanes.

    AppSpec with an endpoint ──see──> Endpoint: connections, slots, the version that the app speaks
    no connection ──> DOWN: nothing is called; it is looked at, at longer and longer intervals up to PROBE_S_MAX
    a call that is not answered as an app answers ──> a look: is the app well all the same? else DOWN
    a look finds it well, the app registers anew ──> UP: who has parked dispatches for it hears of it

A look is a GET of the app's URL, signed in signed mode: an SDK says what it is and in which mode, and signs that.
Whether the attempt of a call counts is decided by what came back (``explain.py``) and by the look:

    what came back                        the look finds the app well           the look finds what is wrong
    ────────────────────────────────────  ────────────────────────────────────  ─────────────────────────────────────
    no connection                         (no look)                             parked, no attempt is used
    nothing of the function ran           called once more; then an attempt     parked, no attempt is used
    its code may have run                 an attempt                            an attempt; what follows is parked
    the connection broke in the call      the dispatch is lost (rule 24)        lost; what follows is parked

So a key that was replaced on one side, a proxy in the way or an app in the wrong mode fails no run, for as long as it
takes to mend that; and one call that a proxy refuses for what is in it does not stop the others.

Where the look says that something is wrong, and no SDK says so, calls are made again after TRIAL_S all the same: not
every SDK knows the look. They are not where nobody has answered the look, or a proxy that has nobody behind it, and not
where an SDK says so in signed mode: its answers would count for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

from millstream.execute.endpoint.caller import UNAUTHORIZED, Caller, CallState, Outcome, failure_of, words_of
from millstream.execute.endpoint.calls import Call
from millstream.execute.endpoint.explain import PROXY_STATUSES, explain
from millstream.execute.endpoint.guard import Guard
from millstream.execute.endpoint.http import Http, NotSent, joined
from millstream.execute.endpoint.replies import OUTCOMES, REPLY_BYTES_MAX
from millstream.execute.endpoint.response import Answer
from millstream.execute.endpoint.slots import Slots
from millstream.model.backoff import doubling_s
from millstream.model.function import AppSpec, FunctionSpec
from millstream.telemetry import Telemetry, say
from millstream.wire.signing import SIGNATURE_HEADER, SigningKey, SigningKeys

LOG: Final = logging.getLogger("millstream.endpoints")
PROBE_FIRST_S: Final = 0.1
PROBE_S_MAX: Final = 5.0
TRIAL_S: Final = 60.0
SAID_AGAIN_S: Final = 600.0
"""The log does not repeat within that time what is wrong with an app: some calls may be answered well, others not."""
NOT_SENT: Final = "not_sent"
BROKEN: Final = "broken"
"""How calls ended to which nothing was answered; the others are those of ``outcome_of``."""
UP: Final = "millstream_app_up"
CALLS: Final = "millstream_app_calls_under_way"
CALLS_WAITING: Final = "millstream_app_calls_waiting"
REDIRECTS_MAX: Final = 3
KEEPS_METHOD: Final = (307, 308)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """How apps are called.

    ``keys``       sign calls and check replies; none: dev mode, nothing is signed.
    ``guard``      where calls may lead.
    ``calls_max``  under way to one app at a time; as many more that its steps make to others.
    ``own_url``    where apps reach this server, for what people are told; "": unknown.
    """

    keys: SigningKeys = field(default_factory=SigningKeys)
    guard: Guard = field(default_factory=lambda: Guard(is_open=True))
    calls_max: int = 200
    own_url: str = ""


class Listener(Protocol):
    """Who wants to know that an app can be called (again) or has room (``on_up``), or is no longer there."""

    def on_up(self, endpoint: Endpoint) -> None: ...
    def on_gone(self, endpoint: Endpoint) -> None: ...


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
        self.slots = Slots(endpoints.settings.calls_max, self._on_room)
        self.outside = Slots(endpoints.settings.calls_max, self._on_room)
        """For requests that its steps make to others than apps: slow ones hold up neither it nor other apps."""
        self.http = Http(endpoints.settings.guard)
        for outcome in (NOT_SENT, BROKEN, *OUTCOMES):  # A series that begins with 1 has not risen, for an alert.
            endpoints.telemetry.count("millstream_app_calls_total", 0, app.id, outcome)
        self.key = 0
        """Which of the keys its calls are signed with."""
        self._caller = Caller(endpoints.settings.keys, self.http, endpoints.settings.own_url)
        self._look: asyncio.Task[tuple[str, Outcome]] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._said = ""  # In the log.
        self._said_at: dict[str, float] = {}
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

    def count(self, outcome: str, took_s: float) -> None:
        """A call has ended so."""
        self._endpoints.telemetry.count("millstream_app_calls_total", 1, self.app.id, outcome)
        if outcome != NOT_SENT:
            self._endpoints.telemetry.observe("millstream_app_call_seconds", took_s, self.app.id)

    def said(self, version: int) -> None:
        """The app has answered as one, and speaks this version; −1: the answer does not say."""
        if version >= 0:
            self.version = version
        self.set_trouble("")

    def set_trouble(self, trouble: str) -> None:
        """Note what is wrong, and say it in the log, once."""
        if trouble == self.trouble:
            return
        self.trouble = trouble
        now_s = asyncio.get_running_loop().time()
        if trouble and now_s >= self._said_at.get(trouble, -SAID_AGAIN_S) + SAID_AGAIN_S:
            self._said_at = {text: at for text, at in self._said_at.items() if at > now_s - SAID_AGAIN_S}
            self._said_at[trouble] = now_s
            self._said = trouble
            say(LOG, "app in trouble", level=logging.WARNING, app=self.app.id, url=self.url, why=trouble)
        elif not trouble and self._said:
            self._said = ""
            say(LOG, "app answers again", app=self.app.id, url=self.url)

    async def examine(self, trouble: str) -> bool:
        """Whether the app is well all the same after a call that was not answered as one; where it is not, it is down.

        ``trouble`` is what the call found. Who asks meanwhile shares the look.
        """
        if not self.is_up:
            return False
        if self._look is None:
            self._look = asyncio.get_running_loop().create_task(self._look_now(), name=f"look at {self.app.id}")
        why, _ = await asyncio.shield(self._look)
        if self.is_up:
            self.set_trouble(why or trouble)
            if why:
                self._down(was_reached=True)
        return not why

    def unreachable(self, error: NotSent) -> None:
        """No connection can be made: call it no more until it answers."""
        outcome = Outcome(failure=failure_of(error), words=words_of(error))
        self.set_trouble(explain(self._caller.asked("POST", self.url), outcome))
        if self.is_up:
            self._down(was_reached=False)

    def _down(self, *, was_reached: bool) -> None:
        self.is_up = False
        if not self._is_closed:  # Else its app is gone, or is elsewhere.
            probing = self._probe(was_reached=was_reached)
            self._probing = asyncio.get_running_loop().create_task(probing, name=f"probe of {self.app.id}")

    def up(self, trouble: str = "") -> None:
        """It may be called; ``trouble``: what was wrong with it, where only a call shows whether it still is."""
        if not self.is_up:
            self.is_up = True
            if self._probing is not None and self._probing is not asyncio.current_task():
                self._probing.cancel()
            self._probing = None
            self.set_trouble(trouble)
            self._endpoints.tell_up(self)

    async def _probe(self, *, was_reached: bool) -> None:
        """Look at it until it is well, or only a call can show whether it is."""
        loop, failures = asyncio.get_running_loop(), 0
        trial_at_s = loop.time() + TRIAL_S
        while not self.is_up:
            failures += 1
            await asyncio.sleep(doubling_s(PROBE_FIRST_S, failures, PROBE_S_MAX))
            why, outcome = await self._look_now()
            begins_to_answer = not was_reached and 0 < outcome.status < 500
            was_reached = not outcome.failure
            is_sdk_signed = outcome.is_sdk and self._endpoints.settings.keys
            may_try = not (outcome.failure or outcome.status in PROXY_STATUSES or is_sdk_signed)
            if not why or (may_try and (begins_to_answer or loop.time() >= trial_at_s)):
                self.up(why)
            else:
                self.set_trouble(why)

    async def _look_now(self) -> tuple[str, Outcome]:
        """What is wrong with what answers a GET, and what it has answered."""
        try:
            outcome = await self._caller.get(self.url)
        finally:
            self._look = None
        return explain(self._caller.asked("GET", self.url), outcome), outcome

    def _on_room(self) -> None:
        self._endpoints.tell_up(self)

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

    def __init__(self, settings: EndpointSettings | None = None, telemetry: Telemetry | None = None) -> None:
        self.settings = settings or EndpointSettings()
        self.telemetry = telemetry or Telemetry()
        self.http = Http(self.settings.guard)
        """For requests that steps make to others than apps."""
        self._apps: dict[str, Endpoint] = {}
        self._by_function: dict[str, Endpoint] = {}
        self._listeners: list[Listener] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._measured: set[str] = set()

    def listen(self, listener: Listener) -> None:
        """Tell it of apps that come up or go, until ``leave``."""
        self._listeners.append(listener)

    def leave(self, listener: Listener) -> None:
        """Tell it no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def of(self, function: str) -> Endpoint | None:
        """The app that has this function."""
        return self._by_function.get(function)

    def state_of(self, app_id: str) -> CallState | None:
        """What calls meet at an app; None: it is none of these."""
        endpoint = self._apps.get(app_id)
        if endpoint is None:
            return None
        has_answered = True if endpoint.version >= 0 else None
        return CallState(has_answered if endpoint.is_up else False, endpoint.trouble)

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
        """The app is gone. Calls under way end as they can; what waits for a slot is given back."""
        endpoint = self._apps.pop(app_id, None)
        if endpoint is None:
            return
        for slug in endpoint.functions:
            if self._by_function.get(slug) is endpoint:
                del self._by_function[slug]
        for listener in tuple(self._listeners):
            listener.on_gone(endpoint)
        task = asyncio.get_running_loop().create_task(self._close_idle(endpoint))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def tell_up(self, endpoint: Endpoint) -> None:
        """Its functions can be called now, or more of them."""
        for listener in tuple(self._listeners):
            listener.on_up(endpoint)

    async def close(self) -> None:
        """Close all connections."""
        for task in tuple(self._closing):
            task.cancel()
        for endpoint in self._apps.values():
            await endpoint.close()
        await self.http.close()

    def measure(self) -> None:
        """Set the gauges of each app; those of an app that is gone are shown no more."""
        for app_id in self._measured - self._apps.keys():
            for gauge in (UP, CALLS, CALLS_WAITING):
                self.telemetry.forget(gauge, app_id)
        self._measured = set(self._apps)
        for app_id, endpoint in self._apps.items():
            self.telemetry.set(UP, endpoint.is_up, app_id)
            self.telemetry.set(CALLS, endpoint.slots.taken, app_id)
            self.telemetry.set(CALLS_WAITING, endpoint.slots.waiting, app_id)

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
    target = joined(url, location)
    asked, told = urlsplit(url), urlsplit(target)
    is_same = (told.scheme, told.netloc) == (asked.scheme, asked.netloc)
    return target if location and is_same and target != url else ""
