"""Keeping apps in step: each is asked to register, again and again, so that changed code is known soon.

    dev mode     every 5 s: apps that were named (-u), that have registered, and that were found on this machine
    signed mode  every 30 s: those that were named or have registered, by an in-band sync, which needs no way back to us

What went wrong at the last look is kept for each address (``Seen``), and logged once until it changes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from millstream.api.apps.addresses import place_of
from millstream.api.apps.discovery import PORTS, Discovery
from millstream.api.apps.registry import Registry
from millstream.errors import MillstreamError
from millstream.execute.endpoint.caller import IN_BAND, SYNC_KIND_HEADER, Caller
from millstream.execute.endpoint.explain import explain, registered_elsewhere
from millstream.model.function import AppSpec
from millstream.telemetry import say
from millstream.wire.registration.app import app_of

LOG: Final = logging.getLogger("millstream.apps")
DEV_EVERY_S: Final = 5.0
SIGNED_EVERY_S: Final = 30.0
FIRST_EVERY_S: Final = 2.0
"""For an address that was named and has not registered yet: servers and apps are started together."""
AT_ONCE_MAX: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """Which apps a door keeps in step.

    ``urls``      addresses that the operator names.
    ``discover``  whether apps are looked for on this machine.    ``poll``  whether any are asked again.
    """

    urls: tuple[str, ...] = ()
    discover: bool = False
    poll: bool = False
    ports: tuple[int, ...] = PORTS


@dataclass(frozen=True, slots=True)
class Seen:
    """An address at the last look: the app there, why it cannot be reached or does not register, and when."""

    url: str
    app: str = ""
    why: str = ""
    at_ms: int = 0
    modified: bool = False


@dataclass(slots=True)
class Syncer:
    """Asks apps to register; ``run`` does so for ever."""

    registry: Registry
    caller: Caller
    options: SyncOptions
    seen: dict[str, Seen] = field(default_factory=dict)
    """By place (``addresses.place_of``)."""
    found: set[str] = field(default_factory=set)
    """Places on this machine where an app was found."""
    _said: dict[str, str] = field(default_factory=dict)
    _looks: dict[str, asyncio.Task[Seen]] = field(default_factory=dict)

    async def run(self) -> None:
        """Keep all apps in step, for ever."""
        discovery = Discovery(self.caller, self.options.ports)
        while True:
            await self._round(discovery)
            await asyncio.sleep(self._pause_s())

    async def _round(self, discovery: Discovery) -> None:
        urls = self._urls()
        if self.options.discover:
            covered = [port for url in (*urls, self.caller.own_url) if (port := _port(url))]
            found = await discovery.look(covered)
            self.found |= {place_of(url) for url in found}
            urls += [url for url in found if place_of(url) not in self.registry.removed]
        for start in range(0, len(urls), AT_ONCE_MAX):
            await asyncio.gather(*(self.sync(url) for url in urls[start : start + AT_ONCE_MAX]))
        self._forget_all_but({place_of(url) for url in (*urls, *self.options.urls)} | set(self._registered()))

    def _urls(self) -> list[str]:
        """The addresses to ask: those that were named until they have registered, and where polling is on, all."""
        named = {place_of(url): url for url in self.options.urls if place_of(url) not in self.registry.removed}
        if not self.options.poll:
            return [url for place, url in named.items() if not self._has_registered(place)]
        return list((self._registered() | named).values())

    def _registered(self) -> dict[str, str]:
        """The addresses of apps by place."""
        return {place_of(app.remote.url): app.remote.url for app in remote_apps(self.registry) if app.remote}

    def _forget_all_but(self, places: set[str]) -> None:
        """Addresses that apps have left, and apps that were taken out, are looked at no more."""
        for kept in (self.seen, self._said):
            for place in kept.keys() - (places - self.registry.removed):
                del kept[place]

    def _has_registered(self, place: str) -> bool:
        seen = self.seen.get(place)
        return seen is not None and not seen.why

    def _pause_s(self) -> float:
        if not all(self._has_registered(place_of(url)) for url in self.options.urls):
            return FIRST_EVERY_S
        return SIGNED_EVERY_S if self.caller.signing else DEV_EVERY_S

    async def sync(self, url: str) -> Seen:
        """Ask one app to register, and keep what came of it."""
        made = await self.try_once(url)
        self._note(made)
        return made

    async def try_once(self, url: str) -> Seen:
        """Ask the app at an address that somebody gives to register; what came of it is kept where it has."""
        started = time.monotonic()
        try:
            app, modified, why = await self._ask(url)
        except MillstreamError as refused:
            app, modified, why = "", False, str(refused)
        modified = modified or self.registry.modified_at.get(app, 0.0) >= started
        made = Seen(url, app, why, time.time_ns() // 1_000_000, modified)
        if not why:
            self._note(made)
        return made

    async def _ask(self, url: str) -> tuple[str, bool, str]:
        """The app's id, whether it has changed, why it is not in step."""
        asked, started = self.caller.asked("PUT", url), time.monotonic()
        reply = await self.caller.put(url, in_band=bool(self.caller.signing))
        why = explain(asked, reply)
        if why:
            return "", False, why
        if self.caller.signing and reply.headers.get(SYNC_KIND_HEADER.lower()) == IN_BAND:
            registered = await self.registry.register(app_of(reply.body))
            return registered.app.id, registered.modified, ""
        others = {*self._registered(), *map(place_of, self.options.urls), *self.found} - {place_of(url)}
        app = self.registry.heard_since(started, url, others)
        return (app, False, "") if app else ("", False, registered_elsewhere(asked))

    async def look(self, url: str) -> Seen:
        """Whether an app answers now, without having it register; who asks meanwhile shares the look."""
        place = place_of(url)
        look = self._looks.get(place)
        if look is None:
            look = self._looks[place] = asyncio.create_task(self._look(url))
            look.add_done_callback(lambda _: self._looks.pop(place))
        return await asyncio.shield(look)

    async def _look(self, url: str) -> Seen:
        before = self.seen.get(place_of(url))
        why = explain(self.caller.asked("GET", url), await self.caller.get(url))
        made = Seen(url, before.app if before is not None else "", why, time.time_ns() // 1_000_000)
        self.seen[place_of(url)] = made
        return made

    def _note(self, made: Seen) -> None:
        place = place_of(made.url)
        self.seen[place] = made
        if self._said.get(place, "") != made.why:
            self._said[place] = made.why
            if made.why:
                say(LOG, "app not in step", level=logging.WARNING, url=made.url, why=made.why)
            else:
                say(LOG, "app in step again", app=made.app, url=made.url)


def remote_apps(registry: Registry) -> Sequence[AppSpec]:
    """The apps over HTTP that are registered."""
    return [app for app in registry.catalogue.apps.values() if app.endpoint]


def _port(url: str) -> int:
    if not url:
        return 0
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)
