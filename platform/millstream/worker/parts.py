"""What a worker is made of: the logs, stores, executors and apps that the composition root gives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from millstream.execute.endpoint.carrying import Carrier
from millstream.execute.endpoint.endpoints import Endpoints
from millstream.execute.port import Executor, RunSource
from millstream.lane.parts import OnFacts, OnUnheard
from millstream.lane.port import Schemas, Surroundings
from millstream.lane.settings import LaneSettings
from millstream.log.group_topics import GroupShape
from millstream.log.port import Log
from millstream.losses import Losses
from millstream.schema_registry.sources import FileSchemas
from millstream.sdk.app import App
from millstream.state.store import Store
from millstream.telemetry import Telemetry
from millstream.wire.schemas import EventSchemas
from millstream.worker.os_surroundings import OsSurroundings


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What a worker is made of.

    ``make_store``          a lane's local store, by lane.
    ``events_retention_ms`` of the events topic, where this worker creates it.
    ``make_executor``       runs the functions of a lane, given what the lane shows of its runs; None: in this process.
    ``endpoints``           calls the functions of apps over HTTP; None: such apps are none of this worker's.
    ``carrier``             makes those calls; None: this process does.
    ``make_topics``         makes the topics, or refuses those that are there, before all else; None: make the missing.
    ``register``            always, newer or never: see ``register``.
    ``public_url``          where the outside reaches the group, for the URLs of callbacks; "": steps make none.
    ``losses``              decides where something acknowledged is missing; by itself it refuses.
    ``on_facts``            is told the facts of every durable record of every lane, with the record's time.
    ``on_unheard``          is told the events that started nothing: see ``LaneParts``.
    """

    log: Log
    group: str
    lanes: int
    apps: Sequence[App]
    make_store: Callable[[int], Store]
    name: str = "worker"
    events_topic: str = "events"
    events_retention_ms: int = -1
    retry_interval_ms: int = -1
    surroundings: Surroundings = field(default_factory=OsSurroundings)
    settings: LaneSettings = field(default_factory=LaneSettings)
    telemetry: Telemetry = field(default_factory=Telemetry)
    schemas: Schemas = field(default_factory=FileSchemas)
    event_schemas: EventSchemas = field(default_factory=EventSchemas)
    make_executor: Callable[[RunSource], Executor] | None = None
    endpoints: Endpoints | None = None
    carrier: Carrier | None = None
    make_topics: Callable[[GroupShape], Awaitable[None]] | None = None
    register: str = "always"
    on_facts: OnFacts | None = None
    on_unheard: OnUnheard | None = None
    losses: Losses = field(default_factory=Losses)
    public_url: str = ""

    @property
    def shape(self) -> GroupShape:
        """What topics the group must have."""
        return GroupShape(
            group=self.group, lanes=self.lanes, events_topic=self.events_topic, kept_ms=self.events_retention_ms
        )
