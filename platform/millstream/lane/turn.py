"""One turn of a lane: it decides the queued commands in order, each seeing what those before it changed.

A turn becomes one journal record, so it ends where that would become too large. Nothing here waits or knows the log;
``Turn`` keeps what is needed to undo it (``lane.py``).

**A careful turn** is one that is decided again because its facts could not be encoded, or because deciding raised. It
takes the long way for every command and encodes its facts before they are folded, so it finds the command that is to
blame and refuses that one alone (lanes.md rule 22). All other turns pay nothing for this.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from millstream.core.decide import decide, refuse
from millstream.core.handles import refuse_plainly
from millstream.core.intake.events import subscribers, was_read
from millstream.core.runs.quick import QUICK
from millstream.core.settle import settle
from millstream.core.tables import Tables
from millstream.errors import StoreFailed
from millstream.lane.input.positions import PendingPositions, queued_bytes
from millstream.lane.input.sources import Item
from millstream.lane.parts import OnUnheard, Source
from millstream.lane.record_size import FACT_BYTES, payload_bytes
from millstream.lane.settings import LaneSettings
from millstream.model.commands import AcceptEvent, Command, Report
from millstream.model.effects import Effect
from millstream.model.facts import Fact, MessageSent, Post
from millstream.model.text.storable import storable
from millstream.state.tables import LaneTables
from millstream.telemetry import say
from millstream.wire.journal import encode_facts

LOG: Final = logging.getLogger("millstream.lane")


@dataclass(slots=True)
class Turn:
    """What one turn decided; ``before`` are the positions as they were, to go back to."""

    before: dict[Source, int]
    items: list[Item] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    careful: bool = False
    on_unheard: OnUnheard | None = None

    @property
    def queued_bytes(self) -> int:
        """The bytes that its items held in the queue."""
        return sum(map(queued_bytes, self.items))

    def fill(
        self, queue: deque[Item], tables: LaneTables, positions: PendingPositions, now_ms: int, settings: LaneSettings
    ) -> None:
        """Decide and fold the commands of ``queue``, in flight; ``positions`` notes the position of each item.

        Raises InternalError on a fact that cannot be folded, StoreFailed where the local store cannot be read.
        """
        items, facts, effects, careful = self.items, self.facts, self.effects, self.careful
        size, facts_max, bytes_max = 0, settings.turn_facts_max, settings.turn_bytes_max
        for _ in range(min(len(queue), settings.turn_commands_max)):
            if len(facts) >= facts_max or size >= bytes_max:
                break
            item: Any = queue.popleft()  # ``Any``: its class is looked at here.
            items.append(item)
            if type(item) is not Report:  # By far the most are reports.
                item = positions.take(item)
                if item is None:
                    continue
            way = QUICK.get(type(item)) if not careful else None
            done = way(tables, item, now_ms) if way is not None else None
            if done is not None:
                facts += done[0]
                effects += done[1]
                size += FACT_BYTES * len(done[0]) + done[2]
                continue
            decided, followed = settle(tables, item, now_ms, decide if not careful else _recordable)
            if not decided and self.on_unheard is not None and type(item) is AcceptEvent and not was_read(tables, item):
                self.on_unheard(item.event, subscribers(tables, item.event), now_ms)
            facts += decided
            effects += followed
            size += payload_bytes(decided)


def _recordable(tables: Tables, command: Command, now_ms: int) -> list[Fact]:
    """What a command leads to, if it can be recorded; else what remains of a command that is refused."""
    try:
        facts = decide(tables, command, now_ms)
        _encode(facts)
        return facts
    except StoreFailed:
        raise  # No fault of the command.
    except Exception as unencodable:
        error = unencodable
    kind = type(command).__name__
    say(
        LOG, "command refused", level=logging.ERROR, lane=tables.place.lane, command=kind, why=storable(str(error), 500)
    )
    try:
        facts = refuse(tables, command, error, now_ms)
        _encode(facts)
    except Exception:  # Not even the names in it are text: nothing of it can be recorded but this.
        facts = refuse_plainly(tables, command, "its facts cannot be encoded", now_ms)
    return facts


def _encode(facts: list[Fact]) -> None:
    """Encode what would be recorded, to see whether it can be."""
    encode_facts([MessageSent(fact.to_lane, 0, fact.message) if type(fact) is Post else fact for fact in facts])
