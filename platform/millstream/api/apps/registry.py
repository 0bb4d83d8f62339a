"""Registrations: what an app says of itself becomes a record of the functions topic, once, and known here.

A registration is answered when it is **durable** and this door stamps events with it: a function that was registered
before an event was sent is started by it (lanes.md rule 23). What has not changed writes nothing, since apps are asked
again and again.

Who may have an app's id:
    the same address                  the app itself: its functions are replaced
    another, the same functions       a second address of the app: the first stays as long as it answers for the app
    another, and other functions      refused, as long as the first answers for the app: these are two apps
    the first answers no more         it has moved: it is the new address from now on
    code in a worker of the group     refused, and so is a function of another app

Two doors may take two apps of one id at the same moment, each before it has read of the other's. The log has both in
one order, and both doors read it: the first keeps the id, since it has just shown that it lives. The door of the second
puts the first back and refuses the second. If it dies between the two, the first is refused when it registers again,
with both addresses as ever.

Whether an address still answers for an app is asked of it: in signed mode by its introspection, which names the app;
in dev mode by having it register under a number of ours (``deployId``), which is not taken as a registration. The
answer comes to this process alone: with several doors in dev mode on Kafka it may come to another, and then the new
address wins.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import uuid
from collections import deque
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from millstream.api.apps.addresses import place_of
from millstream.api.door.catalogue import Catalogue
from millstream.apps.functions_topic import Known, claims_since, put_apps, read_known, remove_app
from millstream.core.declared import function_problems, function_warnings
from millstream.errors import Conflict, LimitExceeded
from millstream.execute.endpoint.caller import Caller
from millstream.log.port import Log
from millstream.model import limits
from millstream.model.function import AppSpec
from millstream.model.gates.declared import unwise
from millstream.telemetry import say
from millstream.wire.messages import fingerprint
from millstream.wire.registration.app import InvalidFunctions

LOG: Final = logging.getLogger("millstream.apps")
ANSWERS_S: Final = 3.0
"""How long an address is given to answer for an app."""
HEARD_MAX: Final = 1_000
NAMED_MAX: Final = 20
_NAMESPACE: Final = uuid.UUID("5d0a4f6c-3c1e-5a52-9f0b-6d696c6c7374")


@dataclass(frozen=True, slots=True)
class Registered:
    """A registration that was taken. ``modified``: whether anything is other than before."""

    app: AppSpec
    modified: bool

    @property
    def app_id(self) -> str:
        """What stands for the app's id in the protocol."""
        return str(uuid.uuid5(_NAMESPACE, self.app.id))

    @property
    def sync_id(self) -> str:
        """What stands for this version of the app."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.app.id} {fingerprint(self.app)}"))


@dataclass(slots=True)
class Registry:
    """The apps over HTTP of a group, as one door takes them in."""

    log: Log
    group: str
    catalogue: Catalogue
    caller: Caller
    heard: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=HEARD_MAX))
    """When which app has registered (``time.monotonic``), and the place that it named."""
    modified_at: dict[str, float] = field(default_factory=dict)
    """When each app was last another than before (``time.monotonic``)."""
    removed: set[str] = field(default_factory=set)
    """Places that were taken out by hand: they are not looked for again until they register by themselves."""
    _asked: dict[str, asyncio.Future[str]] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_answer(self, number: str, app: AppSpec) -> bool:
        """Whether a registration under this number only answers a question of ours."""
        future = self._asked.get(number)
        if future is None:
            return False
        if not future.done():
            future.set_result(app.id)
        return True

    async def register(self, app: AppSpec) -> Registered:
        """Take a registration. Raises InvalidFunctions, Conflict, LimitExceeded, LogUnavailable."""
        place = place_of(_url(app))
        self.heard.append((time.monotonic(), app.id, place))
        self.removed.discard(place)
        if _settled(self.catalogue.apps.get(app.id), app) is not None:
            return Registered(app, modified=False)
        _refuse_invalid(app)
        async with self._lock:
            known = await read_known(self.log, self.group)
            current = known.apps.get(app.id)
            settled = _settled(current, app)
            if settled is not None:
                return Registered(settled, modified=False)
            _refuse_foreign(app, known.apps)
            if current is not None and place_of(_url(current)) != place and await self._answers_for(current):
                if _at(app, current) != current:
                    raise _two_apps(current, app)
                return Registered(current, modified=False)
            offset = await put_apps(self.log, self.group, known, [app])
            first = await self._came_first(app, known)
            if first is not None:
                await self.catalogue.reached(await put_apps(self.log, self.group, known, [first]))
                _refuse_foreign(app, {app.id: first})
                if _at(app, first) != first:
                    raise _two_apps(first, app)
                return Registered(first, modified=False)
            await self.catalogue.reached(offset)
        self.modified_at[app.id] = time.monotonic()
        _say_registered(app, current)
        return Registered(app, modified=True)

    async def _came_first(self, app: AppSpec, known: Known) -> AppSpec | None:
        """What another door has put in for the app's id before this one's record of it; None: nothing."""
        claims = await claims_since(self.log, self.group, app.id, known.end)
        places = [place_of(_url(claim)) for claim in claims]
        if not places or places[0] == place_of(_url(app)):
            return None
        return [claim for claim, place in zip(claims, places, strict=True) if place == places[0]][-1]

    async def remove(self, id: str) -> None:
        """Take an app out, and do not look for it again."""
        app = self.catalogue.apps.get(id)
        async with self._lock:
            if app is not None and app.endpoint:
                self.removed.add(place_of(_url(app)))
            await self.catalogue.reached(await remove_app(self.log, self.group, id))
        say(LOG, "app removed", app=id)

    def heard_since(self, moment: float, url: str, others: Set[str]) -> str:
        """The app that has registered since then from this address, or from one that is none of the others; or "".

        Behind a proxy an app names another address than the one where it was asked.
        """
        since = [(app, place) for at, app, place in self.heard if at >= moment]
        here = [app for app, place in since if place == place_of(url)]
        return (here or [app for app, place in since if place not in others] or [""])[-1]

    async def _answers_for(self, app: AppSpec) -> bool:
        """Whether the app's known address answers, and for this app."""
        url = _url(app)
        if self.caller.signing:
            reply = await self.caller.get(url)
            return reply.is_sdk and not reply.is_forged and reply.json.get("app_id") == app.id
        number = secrets.token_hex(8)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        asking = asyncio.ensure_future(self.caller.put(f"{url}{'&' if '?' in url else '?'}deployId={number}"))
        try:
            await asyncio.wait({asking, future}, timeout=ANSWERS_S, return_when=asyncio.FIRST_COMPLETED)
            return future.done() and future.result() == app.id
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            del self._asked[number]


def _url(app: AppSpec) -> str:
    return app.remote.url if app.remote is not None else app.endpoint


def _at(app: AppSpec, other: AppSpec) -> AppSpec:
    """The app at the address of another."""
    remote = replace(app.remote, url=_url(other)) if app.remote is not None else None
    return replace(app, endpoint=other.endpoint, remote=remote)


def _settled(current: AppSpec | None, app: AppSpec) -> AppSpec | None:
    """What is known, where the app says nothing new: the same at the same place, however that is spelt."""
    if current is None or not current.endpoint:
        return None
    same_place = place_of(_url(current)) == place_of(_url(app))
    same_endpoint = place_of(current.endpoint) == place_of(app.endpoint)
    return current if same_place and same_endpoint and _at(app, current) == current else None


def _refuse_invalid(app: AppSpec) -> None:
    problems = [
        f"function {function.slug!r} refused: {problem}"
        for function in app.functions
        for problem in function_problems(function)
    ]
    if problems:
        raise InvalidFunctions(problems)


def _refuse_foreign(app: AppSpec, known: dict[str, AppSpec]) -> None:
    """Raise Conflict where the app's id, or a function of it, is another's."""
    current = known.get(app.id)
    if current is None and len(known) >= limits.APPS_MAX:
        raise LimitExceeded(f"app {app.id!r} refused: the group has {limits.APPS_MAX:,} apps. Remove some first.")
    if current is not None and not current.endpoint:
        raise Conflict(
            f"app {app.id!r} at {_url(app)} refused: an app of this id has its code in a worker of this group. Give "
            f"one of them another id, or, where that one is gone: millstream apps remove {app.id}."
        )
    slugs = {function.slug for function in app.functions}
    for other in known.values():
        for function in other.functions if other.id != app.id else ():
            if function.slug in slugs:
                where = f" at {_url(other)}" if other.endpoint else ""
                raise Conflict(
                    f"app {app.id!r} at {_url(app)} refused: its function {function.slug!r} is one of app "
                    f"{other.id!r}{where}. Rename one of them, or, where that one is gone: millstream apps remove "
                    f"{other.id}."
                )


def _two_apps(current: AppSpec, app: AppSpec) -> Conflict:
    return Conflict(
        f"app {app.id!r} at {_url(app)} refused: {_url(current)} has this id, answers, and has other functions. Give "
        "one of them another id. Where the new one is to replace it, stop that one first, or: "
        f"millstream apps remove {app.id}."
    )


def _say_registered(app: AppSpec, before: AppSpec | None) -> None:
    """Facts of a registration that has changed something, and what may not do what is meant."""
    old = {function.slug for function in before.functions} if before is not None else set()
    gone = sorted(old - {function.slug for function in app.functions})
    say(LOG, "app registered", app=app.id, url=_url(app), functions=len(app.functions))
    if before is not None and _url(before) != _url(app):
        say(LOG, "app moved", app=app.id, was_at=_url(before), url=_url(app))
    if gone:
        say(LOG, "functions archived", app=app.id, functions=", ".join(gone[:NAMED_MAX]))
    for function in app.functions:
        nothing = unwise(function.flow) if function.flow else ""
        for warning in (*function_warnings(function), *((nothing,) if nothing else ())):
            say(LOG, "function may do something else", level=logging.WARNING, function=function.slug, why=warning)
