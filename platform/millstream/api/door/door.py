"""What the door is made of: its settings, its state, and where handlers find them.

The composition root makes a ``DoorConfig``; ``server.build_app`` makes a ``Door`` of it and hangs it into the
application under ``DOOR``. Handlers take what they need from there; no module of the door holds state of its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from millstream.api.apps.registry import Registry
from millstream.api.apps.syncing import Syncer, SyncOptions
from millstream.api.door.budget import Budget
from millstream.api.door.catalogue import Catalogue
from millstream.api.door.intake import Intake
from millstream.api.door.quota import Quota
from millstream.api.door.requests import Requests
from millstream.api.reading.forward import Forward
from millstream.api.reading.reads import Reads
from millstream.api.reading.results import Results
from millstream.execute.endpoint.caller import CONNECT_S, Caller, CallState
from millstream.execute.endpoint.guard import Guard
from millstream.execute.endpoint.http import Http
from millstream.log.follow import log_failure
from millstream.log.port import Log
from millstream.model import limits
from millstream.telemetry import Telemetry
from millstream.wire.schemas import EventSchemas
from millstream.wire.signing import SigningKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorConfig:
    """What a door needs from outside.

    ``event_partitions``  of the events topic.    ``reply_partition``  this instance's own in ``<group>.replies``.
    ``index``             the history's file; None: reads go to ``history_url``, the history role ("": there is none).
    ``event_keys``        empty: any key is taken (dev).
    ``events_per_s``      that each event key may send, or each client where there are no keys; 0: any number.
    ``allowed_hosts``     names of ours beside those that nobody can own (``browsers.py``).
    ``banner``            what the page shows beside the name; "": nothing.
    ``behind``            what its history has yet to read before this door is ready; "": nothing.
    ``signing``           the keys that apps and this server share; none: dev mode.
    ``environments``      names that requests may say they are for; empty: any.
    ``sync``              which apps are asked to register, and when.
    ``guard``             where apps may be.
    ``calls``             what calls of an app meet, where this process makes them; None: it does not.
    ``own_url``           where apps reach this server, for what they are told; "": unknown.
    ``refuses``           why no event is to be taken in now: the lanes behind this door cannot; "": they can.
    """

    log: Log
    group: str
    lanes: int
    index: Path | None = None
    history_url: str = ""
    events_topic: str = "events"
    event_partitions: int = 1
    reply_partition: int = 0
    event_keys: frozenset[str] = frozenset()
    events_per_s: int = 0
    allowed_hosts: frozenset[str] = frozenset()
    schemas: EventSchemas = field(default_factory=EventSchemas)
    telemetry: Telemetry = field(default_factory=Telemetry)
    version: str = "dev"
    banner: str = "DEV"
    behind: Callable[[], str] = field(default=lambda: "")
    signing: SigningKeys = field(default_factory=SigningKeys)
    environments: frozenset[str] = frozenset()
    sync: SyncOptions = field(default_factory=SyncOptions)
    guard: Guard = field(default_factory=lambda: Guard(is_open=True))
    calls: Callable[[str], CallState | None] = field(default=lambda app: None)
    own_url: str = ""
    refuses: Callable[[], str] = field(default=lambda: "")
    now_ms: Callable[[], int] = field(default=lambda: time.time_ns() // 1_000_000)
    random: Callable[[int], bytes] = os.urandom


class Door:
    """The parts of a running door."""

    def __init__(self, config: DoorConfig) -> None:
        self.config = config
        self.budget = Budget(limits.BODIES_BYTES_MAX)
        self.quota = Quota(config.events_per_s, time.monotonic)
        self.intake = Intake(config.log, config.events_topic, config.event_partitions, config.refuses)
        self.large_bodies = ThreadPoolExecutor(1, thread_name_prefix="large-bodies")  # What waits is in the budget.
        self.catalogue = Catalogue(config.log, config.group)
        self.caller = Caller(config.signing, Http(config.guard, CONNECT_S), config.own_url)
        self.registry = Registry(config.log, config.group, self.catalogue, self.caller)
        self.syncer = Syncer(self.registry, self.caller, config.sync)
        self._syncing: asyncio.Task[None] | None = None
        self.limits_lock = asyncio.Lock()
        """Held while limits of a function are changed: what is written is made of what was read."""
        self.requests = Requests(config)
        self._reads = Reads(config.index) if config.index is not None else None
        self.leaving = False
        """Told to stop: it answers on for a while (``leaving.py``)."""
        self._started = False
        self.forward = Forward(config.history_url)
        self._results: Results | None = None
        if self._reads is not None:
            self._results = Results(self._reads.ask, config.log, config.group, config.lanes)

    async def start(self) -> None:
        """Know the catalogue and listen for replies; then requests may come."""
        await self.catalogue.start()
        await self.requests.start()
        sync = self.config.sync
        if sync.urls or sync.discover or sync.poll:
            self._syncing = asyncio.create_task(self.syncer.run())
            self._syncing.add_done_callback(log_failure)
        self._started = True

    def waits_for(self) -> str:
        """What it waits for before it can answer; "" once it can. Whoever leads clients here asks for it."""
        if self.leaving:
            return "its end: it was told to stop"
        return self.config.behind() if self._started else "the catalogue"

    async def close(self) -> None:
        """End what ``start`` began; posts under way have been answered before."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.gather(self._syncing, return_exceptions=True)
        await self.caller.close()
        await self.requests.close()
        await self.catalogue.close()
        await self.intake.close()
        await self.forward.close()
        self.large_bodies.shutdown(wait=True, cancel_futures=True)
        if self._results is not None:
            self._results.close()
        if self._reads is not None:
            self._reads.close()

    @property
    def reads(self) -> Reads:
        """The history of this door; only where it has one."""
        assert self._reads is not None, "reads are handed on here"
        return self._reads

    @property
    def has_history(self) -> bool:
        """Whether it has one of its own."""
        return self._reads is not None

    @property
    def shown(self) -> Reads | Forward:
        """The history that clients of this door see."""
        return self._reads or self.forward

    @property
    def results(self) -> Results | Forward:
        """How runs end, for clients of this door."""
        return self._results or self.forward


DOOR: Final = web.AppKey("door", Door)
