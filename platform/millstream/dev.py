"""The server of ``millstream dev`` and ``millstream serve``: everything in one process, on the embedded log.

The history is kept beside it by a child process.

data directory/
  log/       the embedded log: events, journal, checkpoints; the only place that must not be lost. Its mark says what
             it must contain
  state/     a RocksDB store for each lane; a cache, rebuilt from the log
  history.db the index that reads are answered from; rebuilt from the log
  group      the group and the number of lanes, fixed when the directory was made, and which log they belong to
  losses.jsonl  what was missing at a start and accepted, a line each
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from millstream.api.apps.syncing import SyncOptions
from millstream.api.door.door import DoorConfig
from millstream.api.server import build_app
from millstream.api.sockets.listening import listen_on, reached_at
from millstream.api.sockets.serving import Served, serve
from millstream.execute.endpoint.endpoints import Endpoints, EndpointSettings
from millstream.execute.port import Executor, RunSource
from millstream.execute.processes.calls import carrier_of
from millstream.execute.processes.children import executors_of
from millstream.execute.processes.pool import Pool, PoolSettings
from millstream.files import private_directory
from millstream.group_note import Made, refuse_missing_log, settled
from millstream.history.child import Child
from millstream.history.evidence import folded_too_far, keep_aside
from millstream.history.index import prepare
from millstream.history.process import Options as HistoryOptions
from millstream.history.service import Follows
from millstream.lane.parts import OnFacts, OnUnheard
from millstream.lane.settings import LaneSettings
from millstream.log.embedded.log import EmbeddedLog
from millstream.log.group_topics import GROUP_DEFAULT, topics_of
from millstream.losses import Losses
from millstream.roles.missing_code import watch_missing_code
from millstream.roles.process import Watches
from millstream.schema_registry.boundary import Boundary
from millstream.sdk.app import App
from millstream.state.rocksdb import RocksBudget, RocksStore
from millstream.state.store import Store
from millstream.telemetry import Telemetry
from millstream.wire.signing import SigningKeys
from millstream.worker.parts import WorkerParts
from millstream.worker.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class DevSettings:
    """What ``millstream dev`` and ``serve`` can be told; the command line and ``MILLSTREAM_*`` variables fill it in.

    ``lanes``, ``group``  count only when the data directory is made; 0 and "" take what it was made with.
    ``event_keys``        empty: any key is taken.
    ``events_per_s``      that each key (without keys: each client) may send; 0: any number.
    ``allowed_hosts``     names that the server is known by, beside this machine's.
    ``public_url``        where others reach the server, for the URLs of callbacks; None: where it listens, "": nowhere.
    ``executors``         child processes that run the functions and call apps over HTTP; 0: this one does.
    ``targets``           the apps as ``module:app``, for those.
    ``endpoints``         how apps over HTTP are called.
    ``banner``            what the page warns with; "": nothing.
    ``listening``         a socket that listens, instead of ``host`` and ``port``.
    ``signing``           the keys that apps over HTTP and this server share; none: dev mode.
    ``environments``      names that requests may say they are for; empty: any.
    ``sync``              which apps over HTTP are asked to register, and when.
    ``accept_loss``       go on where something acknowledged is missing (``losses.py``).
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
    public_url: str | None = None
    executors: int = 0
    targets: tuple[str, ...] = ()
    endpoints: EndpointSettings = field(default_factory=EndpointSettings)
    boundary: Boundary = field(default_factory=lambda: Boundary.made((), None))
    lane: LaneSettings = field(default_factory=LaneSettings)
    version: str = "dev"
    banner: str = "DEV"
    signing: SigningKeys = field(default_factory=SigningKeys)
    environments: frozenset[str] = frozenset()
    sync: SyncOptions = field(default_factory=SyncOptions)
    accept_loss: bool = False


class DevServer:
    """The parts of a running ``millstream dev`` or ``serve``; ``start`` and ``stop`` them in order."""

    def __init__(
        self,
        apps: Sequence[App],
        settings: DevSettings,
        on_facts: OnFacts | None = None,
        on_unheard: OnUnheard | None = None,
    ) -> None:
        self.apps = apps
        self.settings = replace(settings, data=settings.data.absolute())  # User code may change the working directory.
        self.telemetry = Telemetry(version=settings.version)
        self._on_facts = on_facts
        self._on_unheard = on_unheard
        self.log: EmbeddedLog | None = None
        self.pool: Pool | None = None
        self.worker: Worker | None = None
        self.served: Served | None = None
        self._history: Child | None = None
        self._looking: asyncio.Task[None] | None = None
        self._missing_code: asyncio.Task[None] | None = None
        self._watches: Watches | None = None
        self._taken: socket.socket | None = None  # Of a port that nobody has named, until the server ends.

    async def start(self) -> None:
        """Return when events are taken and every lane is live. Raises OperatorError with what to do about it."""
        settings = self.settings
        listening = self._listens()
        self._watches = Watches(self.telemetry, settings.data)
        await settings.boundary.look_first()
        private_directory(settings.data)
        losses = Losses(settings.data, accepted=settings.accept_loss)
        refuse_missing_log(settings.data, losses)
        self.log = await EmbeddedLog.open(settings.data / "log", durability=settings.durability, losses=losses)
        made = await self._made(self.log, losses)
        budget = RocksBudget()

        def make_store(lane: int) -> Store:
            return RocksStore(settings.data / "state" / str(lane), budget)

        self.pool = await self._start_pool()
        endpoints = Endpoints(replace(settings.endpoints, own_url=self._own_url(listening)), self.telemetry)
        worker = self.worker = Worker(
            WorkerParts(
                log=self.log,
                group=made.group,
                lanes=made.lanes,
                apps=self.apps,
                make_store=make_store,
                events_retention_ms=settings.lane.history_ms,
                retry_interval_ms=settings.retry_interval_ms,
                public_url=self._public_url(listening),
                settings=settings.lane,
                telemetry=self.telemetry,
                schemas=settings.boundary.foreign,
                event_schemas=settings.boundary.events,
                make_executor=self._make_executor(),
                endpoints=endpoints,
                carrier=carrier_of(self.pool, endpoints) if self.pool is not None else None,
                on_facts=self._on_facts,
                on_unheard=self._on_unheard,
                losses=losses,
            )
        )
        self._watches.lanes_of(worker)
        await self.log.keep(topics_of(worker.parts.shape))  # --history may be another than last time.
        await self.worker.start()
        losses.say_if_needless()
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
            signing=settings.signing,
            environments=settings.environments,
            sync=settings.sync,
            guard=settings.endpoints.guard,
            calls=endpoints.state_of,
            own_url=self._own_url(listening),
            refuses=lambda: worker.refuses,
        )
        self.served = await serve(build_app(config), host=settings.host, port=settings.port, listening=listening)
        self._looking = asyncio.get_running_loop().create_task(settings.boundary.keep_looking())

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
        if self._taken is not None:
            self._taken.close()
        if self.log is not None:
            await self.log.close()

    def _listens(self) -> socket.socket | None:
        """The socket that listens already. Raises ConfigError where the port is taken.

        Before a directory is made that fixes its group and lanes. A port that nobody has named is kept from now on:
        the URLs of callbacks have it, and nobody else knows it.
        """
        settings = self.settings
        if settings.listening is not None:
            return settings.listening
        taken = listen_on(settings.host, settings.port)
        if settings.port:
            taken.close()
            return None
        self._taken = taken
        return taken

    def _public_url(self, listening: socket.socket | None) -> str:
        public_url = self.settings.public_url
        return public_url if public_url is not None else self._own_url(listening)

    def _own_url(self, listening: socket.socket | None) -> str:
        port = listening.getsockname()[1] if listening is not None else self.settings.port
        return reached_at(self.settings.host, port)

    async def _made(self, log: EmbeddedLog, losses: Losses) -> Made:
        """The directory's group and lanes. Raises AcknowledgedLost where the log is less than what was made of it."""
        settings = self.settings
        group = settings.group
        if not group and not log.specs:
            group = self.apps[0].id if len(self.apps) == 1 else GROUP_DEFAULT
        made = settled(settings.data, (group, settings.lanes), log.identity, log.specs, losses)
        index = settings.data / "history.db"
        what = await folded_too_far(log, index)
        if what and not log.vouched_for:
            losses.found(what, "Restore the whole directory from a copy.")
        if what or losses.count:
            keep_aside(index)  # It may know of runs that the log has lost; what is folded from now on is another log.
        return made

    async def _start_pool(self) -> Pool | None:
        settings = self.settings
        if not settings.executors:
            return None
        pool_settings = PoolSettings(
            executors=settings.executors, targets=settings.targets, endpoints=settings.endpoints
        )
        pool = Pool(pool_settings, self.telemetry)
        await pool.start()
        return pool

    def _make_executor(self) -> Callable[[RunSource], Executor] | None:
        """What makes a lane's executor; None: this process runs the functions, if there are any."""
        has_code = any(app.functions for app in self.apps)
        return executors_of(self.pool) if self.pool is not None and has_code else None

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
