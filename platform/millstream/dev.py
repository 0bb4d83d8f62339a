"""The server of ``millstream dev`` and ``millstream serve``: everything in one process, on the embedded log.

The history is kept beside it by a child process.

data directory/
  log/       the embedded log: events, journal, checkpoints; the only place that must not be lost
  state/     a RocksDB store for each lane; a cache, rebuilt from the log
  history.db the index that reads are answered from; rebuilt from the log
  group      the group and the number of lanes, fixed when the directory was made
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final

import msgspec

from millstream.api.door.door import DoorConfig
from millstream.api.server import build_app
from millstream.api.sockets.listening import listen_on
from millstream.api.sockets.serving import Served, serve
from millstream.disk import write_small_file
from millstream.errors import ConfigError
from millstream.execute.processes.children import executors_of
from millstream.execute.processes.pool import Pool, PoolSettings
from millstream.files import content_of, private_directory
from millstream.history.child import Child
from millstream.history.index import prepare
from millstream.history.process import Options as HistoryOptions
from millstream.history.service import Follows
from millstream.lane.parts import OnFacts
from millstream.lane.settings import LaneSettings
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.group_topics import GROUP_DEFAULT, topics_of
from millstream.roles.missing_code import watch_missing_code
from millstream.roles.process import Watches
from millstream.schema_registry.boundary import Boundary
from millstream.sdk.app import App
from millstream.state.rocksdb import RocksBudget, RocksStore
from millstream.state.store import Store
from millstream.telemetry import Telemetry, say
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker

LOG: Final = logging.getLogger("millstream.dev")
LANES_DEFAULT: Final = 1
LANES_MAX: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class DevSettings:
    """What ``millstream dev`` and ``serve`` can be told; the command line and ``MILLSTREAM_*`` variables fill it in.

    ``lanes``, ``group``  count only when the data directory is made; 0 and "" take what it was made with.
    ``event_keys``        empty: any key is taken.
    ``events_per_s``      that each key (without keys: each client) may send; 0: any number.
    ``allowed_hosts``     names that the server is known by, beside this machine's.
    ``executors``         child processes that run the functions; 0: this one does.
    ``targets``           the apps as ``module:app``, for those.
    ``banner``            what the page warns with; "": nothing.
    ``listening``         a socket that listens, instead of ``host`` and ``port``.
    """

    data: Path = Path(".millstream")
    host: str = "127.0.0.1"
    port: int = 8288
    listening: socket.socket | None = None
    lanes: int = 0
    group: str = ""
    durability: str = "fsync"
    retry_interval_ms: int = -1
    event_keys: frozenset[str] = frozenset()
    events_per_s: int = 0
    allowed_hosts: frozenset[str] = frozenset()
    executors: int = 0
    targets: tuple[str, ...] = ()
    boundary: Boundary = field(default_factory=lambda: Boundary.made((), None))
    lane: LaneSettings = field(default_factory=LaneSettings)
    version: str = "dev"
    banner: str = "DEV"


class Made(msgspec.Struct, frozen=True):
    """What a data directory was made with; fixed from then on."""

    group: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    lanes: Annotated[int, msgspec.Meta(ge=1, le=LANES_MAX)]


class DevServer:
    """The parts of a running ``millstream dev`` or ``serve``; ``start`` and ``stop`` them in order."""

    def __init__(self, apps: Sequence[App], settings: DevSettings, on_facts: OnFacts | None = None) -> None:
        self.apps = apps
        self.settings = replace(settings, data=settings.data.absolute())  # User code may change the working directory.
        self.telemetry = Telemetry(version=settings.version)
        self._on_facts = on_facts
        self.log: EmbeddedLog | None = None
        self.pool: Pool | None = None
        self.worker: Worker | None = None
        self.served: Served | None = None
        self._history: Child | None = None
        self._looking: asyncio.Task[None] | None = None
        self._missing_code: asyncio.Task[None] | None = None
        self._watches: Watches | None = None

    async def start(self) -> None:
        """Return when events are taken and every lane is live. Raises OperatorError with what to do about it."""
        settings = self.settings
        if settings.listening is None:  # Before a directory is made that fixes its group and lanes.
            listen_on(settings.host, settings.port).close()
        await settings.boundary.look()
        private_directory(settings.data)
        self.log = await EmbeddedLog.open(settings.data / "log", durability=settings.durability)
        made = _made(settings, self.apps)
        budget = RocksBudget()

        def make_store(lane: int) -> Store:
            return RocksStore(settings.data / "state" / str(lane), budget)

        self.pool = await self._start_pool()
        worker = self.worker = Worker(
            WorkerParts(
                log=self.log,
                group=made.group,
                lanes=made.lanes,
                apps=self.apps,
                make_store=make_store,
                events_retention_ms=settings.lane.history_ms,
                retry_interval_ms=settings.retry_interval_ms,
                settings=settings.lane,
                telemetry=self.telemetry,
                schemas=settings.boundary.foreign,
                event_schemas=settings.boundary.events,
                make_executor=executors_of(self.pool) if self.pool is not None else None,
                on_facts=self._on_facts,
            )
        )
        await self.log.keep(topics_of(worker.parts.shape))  # --history may be another than last time.
        await self.worker.start()
        self._missing_code = asyncio.get_running_loop().create_task(watch_missing_code(self.worker, self.telemetry))
        index = settings.data / "history.db"
        prepare(index)
        self._start_history(index, made)
        config = DoorConfig(
            log=self.log,
            group=made.group,
            lanes=made.lanes,
            index=index,
            event_partitions=made.lanes,
            event_keys=settings.event_keys,
            events_per_s=settings.events_per_s,
            allowed_hosts=settings.allowed_hosts,
            schemas=settings.boundary.events,
            telemetry=self.telemetry,
            version=settings.version,
            banner=settings.banner,
            refuses=lambda: worker.refuses,
        )
        self.served = await serve(
            build_app(config), host=settings.host, port=settings.port, listening=settings.listening
        )
        self._looking = asyncio.get_running_loop().create_task(settings.boundary.keep_looking())
        self._watches = Watches(self.telemetry)

    async def wait(self) -> None:
        """Return when stopped; raise what stopped a lane."""
        assert self.worker is not None
        lanes = asyncio.ensure_future(self.worker.wait())
        try:
            while not lanes.done():
                if self._history is not None:
                    self._history.tend()
                await asyncio.wait([lanes], timeout=1.0)
            lanes.result()
        finally:
            lanes.cancel()

    async def stop(self, grace_s: float = 10.0) -> None:
        """Take nothing new, let running steps end and be recorded, let go of everything."""
        if self._watches is not None:
            self._watches.stop()
        for task in (self._looking, self._missing_code):
            if task is not None:
                task.cancel()
        if self.served is not None:
            await self.served.close()
        if self.worker is not None:
            await self.worker.finish(grace_s)
            await self.worker.stop(0)
        if self.pool is not None:
            await self.pool.close()
        if self._history is not None:
            await self._history.stop()
        if self.log is not None:
            await self.log.close()

    async def _start_pool(self) -> Pool | None:
        settings = self.settings
        if not settings.executors or not any(app.functions for app in self.apps):
            return None
        pool = Pool(PoolSettings(executors=settings.executors, targets=settings.targets), self.telemetry)
        await pool.start()
        return pool

    def _start_history(self, index: Path, made: Made) -> None:
        follows = Follows(
            group=made.group,
            lanes=made.lanes,
            events=("events",),
            retention_ms=self.settings.lane.history_ms,
        )
        options = HistoryOptions(log_dir=self.settings.data / "log", index=index, follows=follows)
        self._history = Child(options, self.telemetry)
        self._history.start()


def made_with(data: Path) -> Made | None:
    """What a data directory was made with; None where there is none. Raises ConfigError for a note that is no note."""
    path = data / "group"
    try:
        return (
            msgspec.json.decode(content_of(path, "the file of the group"), type=Made) if os.path.lexists(path) else None
        )
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} cannot be read: expected a group and its lanes as JSON, got {error}.") from error


def _made(settings: DevSettings, apps: Sequence[App]) -> Made:
    """The directory's group and lanes; a new directory gets what the settings ask for."""
    made = made_with(settings.data)
    if made is not None:
        for name, asked, held in (("--lanes", settings.lanes, made.lanes), ("--group", settings.group, made.group)):
            if asked and asked != held:
                raise ConfigError(
                    f"{name} {asked} was refused: the data directory {settings.data} was made with {held}, and that "
                    "is fixed. Leave the option out, or choose another directory with --data."
                )
        return made
    group = settings.group or (apps[0].id if len(apps) == 1 else GROUP_DEFAULT)
    made = Made(group, settings.lanes or LANES_DEFAULT)
    write_small_file(settings.data / "group", msgspec.json.encode(made))
    say(LOG, "data directory made", path=str(settings.data), group=made.group, lanes=made.lanes)
    return made
