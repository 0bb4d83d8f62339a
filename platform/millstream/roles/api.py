"""``millstream api``: the door of a group on Kafka, without lanes and without a history of its own.

Events go straight into the events topic and are answered once all in-sync replicas have them. Requests (invoke, cancel)
go through a lane's inbox, and their answers come through ``<group>.replies``. Reads are handed on to the history role.

Several run side by side. Each reads one partition of the replies, chosen at random: two that share one only pass over
each other's answers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from millstream.api.apps.syncing import SyncOptions
from millstream.api.door.door import DOOR, Door, DoorConfig
from millstream.api.door.leaving import leave
from millstream.api.server import build_app
from millstream.api.sockets.listening import reached_at
from millstream.api.sockets.serving import Served, serve
from millstream.errors import ConfigError
from millstream.execute.endpoint.caller import CallState
from millstream.execute.endpoint.guard import Guard
from millstream.log.kafka.log import KafkaLog
from millstream.roles.group import Group
from millstream.roles.group_record import read_record, refuse_other
from millstream.roles.process import Watches
from millstream.schema_registry.boundary import Boundary
from millstream.telemetry import Telemetry
from millstream.wire.signing import SigningKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """What ``millstream api`` can be told.

    ``event_keys``   empty: any key is taken.     ``events_per_s``  that each key (or client) may send; 0: any.
    ``history_url``  where reads are handed on to; "": they are answered 503.
    ``shutdown_delay_ms``  how long it answers on when it was told to stop (``api/door/leaving.py``).
    ``signing``      the keys that apps over HTTP and the group share; none: dev mode. ``environments``: names that
                     requests may say they are for; empty: any. ``sync``: which apps are asked to register, and when.
                     ``guard``: where apps may be. ``calls``: what calls of an app meet, made by this process.
    ``is_alone``     whether no other role of this process watches its loop and its clock.
    """

    group: Group
    host: str = "127.0.0.1"
    port: int = 8288
    event_keys: frozenset[str] = frozenset()
    events_per_s: int = 0
    allowed_hosts: frozenset[str] = frozenset()
    history_url: str = ""
    shutdown_delay_ms: int = 0
    boundary: Boundary = field(default_factory=lambda: Boundary.made((), None))
    signing: SigningKeys = field(default_factory=SigningKeys)
    environments: frozenset[str] = frozenset()
    sync: SyncOptions = field(default_factory=SyncOptions)
    guard: Guard = field(default_factory=lambda: Guard(is_open=True))
    calls: Callable[[str], CallState | None] = field(default=lambda app: None)
    is_alone: bool = True
    version: str = "dev"


class ApiRole:
    """A running api; ``start`` and ``stop`` its parts in order."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self.telemetry = Telemetry(version=settings.version)
        self.log: KafkaLog | None = None
        self.served: Served | None = None
        self._door: Door | None = None
        self._watches: Watches | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when events are taken. Raises OperatorError with what to do about it."""
        settings = self.settings
        self._watches = Watches(self.telemetry) if settings.is_alone else None
        await settings.boundary.look_first()
        self._looking = asyncio.get_running_loop().create_task(settings.boundary.keep_looking())
        self.log = await settings.group.open("api")
        shape = await settings.group.shape(self.log)
        self.telemetry.set("millstream_group_lanes", shape.lanes, shape.group)
        refuse_other(await read_record(self.log, shape.group), shape)
        events = await self.log.topic(shape.events_topic)
        if events is None:
            raise ConfigError(f"topic {shape.events_topic} is gone. Make it again with: millstream topics apply.")
        config = DoorConfig(
            log=self.log,
            group=shape.group,
            lanes=shape.lanes,
            history_url=settings.history_url,
            events_topic=shape.events_topic,
            event_partitions=events.partitions,
            reply_partition=random.randrange(shape.apis),
            event_keys=settings.event_keys,
            events_per_s=settings.events_per_s,
            allowed_hosts=settings.allowed_hosts,
            schemas=settings.boundary.events,
            telemetry=self.telemetry,
            version=settings.version,
            signing=settings.signing,
            environments=settings.environments,
            sync=settings.sync,
            guard=settings.guard,
            calls=settings.calls,
            own_url=reached_at(settings.host, settings.port) if settings.port else "",
        )
        app = build_app(config)
        self._door = app[DOOR]
        self.served = await serve(app, host=settings.host, port=settings.port)

    async def stop(self, grace_s: float) -> None:
        """Answer on for the delay, take no more requests, answer those under way."""
        if self.served is not None and self._door is not None:
            await leave(self._door, self.settings.shutdown_delay_ms / 1000)
        if self._watches is not None:
            self._watches.stop()
        if self._looking is not None:
            self._looking.cancel()
        if self.served is not None:
            await self.served.close()
        if self.log is not None:
            await self.log.close()
