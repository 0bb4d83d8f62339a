"""``millstream history``: follows the journals and events of a group on Kafka into an index, and serves what it knows.

    <group>.journal, events ──> child process: fold ──> history.db ──> the door's reads, the page
                                                                        │ cancel, invoke
                                                        <group>.inbox <─┘ ─ as an api's; answers through the replies

It owns nothing: the data directory is a cache of what the topics hold and can be deleted at any time; the index is
rebuilt as far back as the journals are kept, open runs from the checkpoints. Several may run, each with an index of
its own: readers of one may find the other a moment ahead (``after=`` makes sure, ``api/reading/positions.py``).

The child folds (``history/process.py``), so that a million facts a second stop no read.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from millstream.api.door.door import DOOR, Door, DoorConfig
from millstream.api.door.leaving import leave
from millstream.api.server import build_app
from millstream.api.sockets.serving import Served, serve
from millstream.errors import Busy, LogUnavailable
from millstream.files import private_directory
from millstream.history.child import Child
from millstream.history.index import prepare
from millstream.history.process import Options
from millstream.history.service import Follows
from millstream.log.kafka.log import KafkaLog
from millstream.model.limits import DAY_MS
from millstream.model.messages import group_topic
from millstream.process_handles import lock, unlock
from millstream.roles.group import Group
from millstream.roles.process import Watches
from millstream.telemetry import Telemetry
from millstream.wire.schemas import EventSchemas

KEPT_MS: Final = 7 * DAY_MS
LOOK_S: Final = 1.0
CATCHING_UP_LOOK_S: Final = 0.1
LANES_SHOWN_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySettings:
    """What ``millstream history`` can be told.

    ``data``          where the index is kept.     ``retention_ms``  how long ended runs and events can be read.
    ``event_keys``    who may cancel and invoke here; empty: anybody.
    ``shutdown_delay_ms``  how long it answers on when it was told to stop (``api/door/leaving.py``).
    """

    group: Group
    data: Path = Path(".millstream-history")
    host: str = "127.0.0.1"
    port: int = 8288
    retention_ms: int = KEPT_MS
    event_keys: frozenset[str] = frozenset()
    events_per_s: int = 0
    allowed_hosts: frozenset[str] = frozenset()
    shutdown_delay_ms: int = 0
    schemas: EventSchemas = field(default_factory=EventSchemas)
    version: str = "dev"


class HistoryRole:
    """A running history; ``start`` and ``stop`` its parts in order."""

    def __init__(self, settings: HistorySettings) -> None:
        self.settings = replace(settings, data=settings.data.absolute())
        self._lock: int | None = None
        self.telemetry = Telemetry(version=settings.version)
        self.log: KafkaLog | None = None
        self.served: Served | None = None
        self._door: Door | None = None
        self.child: Child | None = None
        self._to_come: dict[int, int] = {}
        """Where the journals of these lanes ended at the start; those that the index has come to are left out."""
        self._behind = ""
        self._watches: Watches | None = None

    async def start(self) -> None:
        """Return when reads are answered, from what has been folded by then.

        It is ready (``/readyz``) once its index has come to where the journals ended now: until then who asks it may be
        told of less than another history has shown. Raises OperatorError with what to do about it.
        """
        settings = self.settings
        self._watches = Watches(self.telemetry, settings.data)
        private_directory(settings.data)
        self._lock = lock(settings.data, "the index of a history")
        self.log = await settings.group.open("history")
        shape = await settings.group.shape(self.log)
        self.telemetry.set("millstream_group_lanes", shape.lanes, shape.group)
        events = await self.log.topic(shape.events_topic)
        assert events is not None, "the shape was just looked at"
        index = settings.data / "history.db"
        prepare(index)
        journal = group_topic(shape.group, "journal")
        self._to_come = {lane: await self.log.end_offset(journal, lane) for lane in range(shape.lanes)}
        self._behind = "its index"
        follows = Follows(
            group=shape.group, lanes=shape.lanes, events=(shape.events_topic,), retention_ms=settings.retention_ms
        )
        self.child = Child(Options(index=index, follows=follows, kafka=settings.group.kafka), self.telemetry)
        self.child.start()
        config = DoorConfig(
            log=self.log,
            group=shape.group,
            lanes=shape.lanes,
            index=index,
            events_topic=shape.events_topic,
            event_partitions=events.partitions,
            reply_partition=random.randrange(shape.apis),
            event_keys=settings.event_keys,
            events_per_s=settings.events_per_s,
            allowed_hosts=settings.allowed_hosts,
            schemas=settings.schemas,
            telemetry=self.telemetry,
            version=settings.version,
            banner=shape.group,
            behind=lambda: self._behind,
        )
        app = build_app(config)
        self._door = app[DOOR]
        self.served = await serve(app, host=settings.host, port=settings.port)

    async def wait(self) -> None:
        """Serve for ever; a child that has ended is started again."""
        assert self.child is not None
        while True:
            self.child.tend()
            if self._behind:
                await self._look_how_far()
            await asyncio.sleep(CATCHING_UP_LOOK_S if self._behind else LOOK_S)

    async def _look_how_far(self) -> None:
        assert self._door is not None
        with suppress(Busy, LogUnavailable):  # Reads go before, or there is no index yet.
            folded = await self._door.reads.ask(lambda queries: queries.positions())
            journal = group_topic(self._door.config.group, "journal")
            self._to_come = {lane: end for lane, end in self._to_come.items() if folded.get((journal, lane), 0) < end}
            self._behind = "; ".join(
                f"its index: lane {lane} is at record {folded.get((journal, lane), 0)} of {end}"
                for lane, end in list(self._to_come.items())[:LANES_SHOWN_MAX]
            )

    async def stop(self, grace_s: float) -> None:
        """Answer on for the delay, take no more requests, answer those under way, fold no more."""
        if self.served is not None and self._door is not None:
            await leave(self._door, self.settings.shutdown_delay_ms / 1000)
        if self._watches is not None:
            self._watches.stop()
        if self.served is not None:
            await self.served.close()
        if self.child is not None:
            await self.child.stop()
        if self.log is not None:
            await self.log.close()
        if self._lock is not None:
            unlock(self._lock)
            self._lock = None
