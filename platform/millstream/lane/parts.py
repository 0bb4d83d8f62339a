"""What a lane is made of, put together by the composition root (``worker/``) or the simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from millstream.core.tables import Tables
from millstream.execute.port import Executor
from millstream.lane.maintenance.trouble import Trouble
from millstream.lane.port import OnTopicWanted, Schemas, Surroundings
from millstream.lane.settings import LaneSettings
from millstream.log.port import Log, Membership
from millstream.model.commands import Command
from millstream.model.event import Envelope
from millstream.model.facts import Fact
from millstream.model.place import Place
from millstream.state.store import Store
from millstream.telemetry import Telemetry
from millstream.wire.schemas import EventSchemas

Source = tuple[str, int]
OnFacts = Callable[[Sequence[Fact], int], None]
OnUnheard = Callable[[Envelope, Sequence[str], int], None]
MakeExecutor = Callable[[Tables, Callable[[Command], None]], Executor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneParts:
    """Everything a lane is made of.

    ``make_executor``  makes the lane's executor from its durable tables and the function that queues its reports.
    ``schemas``        of the values of foreign topics; ``event_schemas``: of events, which direct producers must fit.
    ``on_facts``       is told the facts of every record once it is durable, with the record's time.
    ``on_unheard``     is told each event that started nothing and left no fact, with the functions that subscribe to it
                       (``if_`` did not hold for any) and the time; twice where a turn is decided again. Then every
                       event is decided: without it one that nobody heeds costs a look at its name.
    ``trouble``        what keeps the lane from taking anything in; it outlives the lane.
    """

    place: Place
    log: Log
    store: Store
    make_executor: MakeExecutor
    surroundings: Surroundings
    membership: Membership
    telemetry: Telemetry
    worker: str
    on_topic_wanted: OnTopicWanted
    schemas: Schemas
    event_schemas: EventSchemas = field(default_factory=EventSchemas)
    settings: LaneSettings = field(default_factory=LaneSettings)
    on_facts: OnFacts | None = None
    on_unheard: OnUnheard | None = None
    trouble: Trouble
