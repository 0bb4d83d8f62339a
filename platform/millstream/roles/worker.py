"""``millstream worker``: owns lanes of a group on Kafka, and runs functions.

    http (probes, metrics) ─ Kafka ─ topics checked ─ apps registered ─ joined ─┬─ lane 0
                                                                                └─ lane 3 …

The data directory holds a RocksDB store a lane, which is a cache, and the worker's name, where none was given. Losing
it costs the time of a restore, never data. It is one worker's: two of one name would end each other's checkpoints for
ever, so a second one is refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from millstream.api.sockets.probes_thread import ProbesThread
from millstream.disk import write_small_file
from millstream.errors import ConfigError
from millstream.execute.endpoint.endpoints import Endpoints, EndpointSettings
from millstream.execute.processes.calls import carrier_of
from millstream.execute.processes.children import executors_of
from millstream.execute.processes.pool import Pool, PoolSettings
from millstream.files import private_directory, text_of
from millstream.lane.settings import LaneSettings
from millstream.log.group_topics import GroupShape
from millstream.log.kafka.admin.topics import refuse_unsafe_topics
from millstream.log.kafka.log import KafkaLog
from millstream.log.kafka.settings import TRANSACTION_MS, TRIM_LAG_MS_MIN
from millstream.losses import Losses
from millstream.process_handles import lock, unlock
from millstream.roles.group import Group
from millstream.roles.group_record import join
from millstream.roles.missing_code import watch_missing_code
from millstream.roles.namesakes import refuse_namesake
from millstream.roles.process import Watches
from millstream.schema_registry.boundary import Boundary
from millstream.sdk.app import App
from millstream.state.rocksdb import RocksBudget, RocksStore
from millstream.state.store import Store
from millstream.telemetry import Telemetry, say
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker

LOG: Final = logging.getLogger("millstream.worker")
PROBES_PORT: Final = 9464
NAME_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What ``millstream worker`` can be told.

    ``name``       the same after a restart, another for each worker; "": from a file in the data directory.
    ``public_url``  where others reach the group's api, for the URLs of callbacks; "": steps make none.
    ``register``   newer, always, never: whether the apps go into the catalogue (``worker.register``).
    ``accept_loss``  go on where something acknowledged is missing (``losses.py``).
    ``endpoints``  how apps over HTTP are called.
    ``executors``  child processes that run the functions and call apps over HTTP; 0: this one does. ``targets`` are the
    apps for those.
    """

    group: Group
    name: str = ""
    data: Path = Path(".millstream-worker")
    host: str = "127.0.0.1"
    port: int = PROBES_PORT
    register: str = "newer"
    public_url: str = ""
    retry_interval_ms: int = -1
    endpoints: EndpointSettings = field(default_factory=EndpointSettings)
    boundary: Boundary = field(default_factory=lambda: Boundary.made((), None))
    executors: int = 0
    targets: tuple[str, ...] = ()
    lane: LaneSettings = field(default_factory=LaneSettings)
    version: str = "dev"
    accept_loss: bool = False

    def __post_init__(self) -> None:
        if self.lane.trim_lag_ms < TRIM_LAG_MS_MIN:
            raise ConfigError(
                f"a trim lag of {self.lane.trim_lag_ms / 1_000:g} s was refused: expected at least "
                f"{TRIM_LAG_MS_MIN // 1_000} s, since a worker that dies in a checkpoint hides it for "
                f"{TRANSACTION_MS // 1_000} s, and the journal behind the one before must be there for as long. Give "
                "--trim-lag 1m or more."
            )


class WorkerRole:
    """A running worker; ``start`` and ``stop`` its parts in order."""

    def __init__(self, apps: Sequence[App], settings: WorkerSettings) -> None:
        self.apps = apps
        self.settings = replace(settings, data=settings.data.absolute())  # User code may change the working directory.
        self.telemetry = Telemetry(version=settings.version)
        self.name = ""
        self.probes: ProbesThread | None = None
        self.log: KafkaLog | None = None
        self.pool: Pool | None = None
        self.worker: Worker | None = None
        self.losses = Losses()
        self.endpoints = Endpoints(settings.endpoints, self.telemetry)
        self._lock: int | None = None
        self._watches: Watches | None = None
        self._looking: asyncio.Task[None] | None = None
        self._missing_code: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when the worker has joined its group and what lanes it was given at once are live.

        Raises OperatorError with what to do about it.
        """
        settings = self.settings
        self._watches = Watches(self.telemetry, settings.data)
        self.probes = ProbesThread(self.telemetry, self._waits_for)
        await self.probes.start(settings.host, settings.port)
        private_directory(settings.data)
        self._lock = lock(settings.data, "the store of a worker")
        self.name = settings.name or name_in(settings.data)
        await settings.boundary.look_first()
        self._looking = asyncio.get_running_loop().create_task(settings.boundary.keep_looking())
        self.log = await settings.group.open(self.name)
        shape = await settings.group.shape(self.log)
        self.losses = Losses(settings.data, accepted=settings.accept_loss)
        await refuse_unsafe_topics(settings.group.kafka, shape)
        await join(self.log, shape, self.losses)
        await refuse_namesake(settings.group.kafka, shape.group, self.name)
        if settings.executors:
            pool_settings = PoolSettings(
                executors=settings.executors, targets=settings.targets, endpoints=settings.endpoints
            )
            self.pool = Pool(pool_settings, self.telemetry)
            await self.pool.start()
        self.worker = Worker(self._parts(self.log, shape))
        self._watches.lanes_of(self.worker)
        await self.worker.start()
        self.losses.say_if_needless()
        self._missing_code = asyncio.get_running_loop().create_task(watch_missing_code(self.worker, self.telemetry))
        say(LOG, "worker joined", name=self.name, group=shape.group, lanes=shape.lanes)

    async def wait(self) -> None:
        """Return when stopped; raise what stopped a lane."""
        assert self.worker is not None
        await self.worker.wait()

    async def stop(self, grace_s: float) -> None:
        """Leave the group at once; live on until running steps are reported, at most ``grace_s``."""
        if self._watches is not None:
            self._watches.stop()
        for task in (self._looking, self._missing_code):
            if task is not None:
                task.cancel()
        if self.worker is not None:
            await self.worker.stop(grace_s)
        if self.pool is not None:
            await self.pool.close()
        if self.log is not None:
            await self.log.close()
        if self._lock is not None:
            unlock(self._lock)
            self._lock = None
        if self.probes is not None:
            await self.probes.close()

    def _parts(self, log: KafkaLog, shape: GroupShape) -> WorkerParts:
        settings = self.settings
        budget = RocksBudget()
        pool = self.pool

        def make_store(lane: int) -> Store:
            return RocksStore(settings.data / "state" / str(lane), budget)

        async def checked(wanted: GroupShape) -> None:
            """Done before the group's record was read: its topics must be there for that."""

        return WorkerParts(
            log=log,
            group=shape.group,
            lanes=shape.lanes,
            apps=self.apps,
            make_store=make_store,
            name=self.name,
            events_topic=shape.events_topic,
            public_url=settings.public_url,
            retry_interval_ms=settings.retry_interval_ms,
            settings=settings.lane,
            telemetry=self.telemetry,
            schemas=settings.boundary.foreign,
            event_schemas=settings.boundary.events,
            make_executor=executors_of(pool) if pool is not None and self.apps else None,
            endpoints=self.endpoints,
            carrier=carrier_of(pool, self.endpoints) if pool is not None else None,
            make_topics=checked,
            register=settings.register,
            losses=self.losses,
        )

    def _waits_for(self) -> str:
        if self.worker is None:
            return "Kafka"
        if not self.worker.joined:
            return "the group"
        if not self.worker.ready:
            return "its lanes to be restored"
        return ""


def name_in(data: Path) -> str:
    """The name in the file of a data directory; made up where there is none yet. Raises ConfigError for no name."""
    path = data / "worker-name"
    if os.path.lexists(path):
        name = text_of(path, "the file of the worker's name").strip()
    else:
        name = f"worker-{secrets.token_hex(4)}"
        write_small_file(path, f"{name}\n".encode())
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise ConfigError(f"{path} holds no name: expected up to {NAME_CHARS_MAX} characters, got {name[:64]!r}.")
    return name
