"""One turn of a lane: it decides the queued commands in order, each seeing what those before it changed.

A turn becomes one journal record, so it ends where that would become too large. Nothing here waits or knows the log;
``Turn`` keeps what is needed to undo it (``lane.py``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from millstream.core.decide import decide
from millstream.core.fold import fold
from millstream.core.runs.quick import QUICK
from millstream.lane.input.positions import PendingPositions, queued_bytes
from millstream.lane.input.sources import Item
from millstream.lane.ownership.restore import cannot_fold
from millstream.lane.parts import Source
from millstream.lane.record_size import FACT_BYTES, payload_bytes
from millstream.lane.settings import LaneSettings
from millstream.model.commands import Report
from millstream.model.effects import Effect
from millstream.model.facts import Fact
from millstream.state.tables import LaneTables


@dataclass(slots=True)
class Turn:
    """What one turn decided; ``before`` are the positions as they were, to go back to."""

    before: dict[Source, int]
    items: list[Item] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)

    @property
    def queued_bytes(self) -> int:
        """The bytes that its items held in the queue."""
        return sum(map(queued_bytes, self.items))

    def fill(
        self, queue: deque[Item], tables: LaneTables, positions: PendingPositions, now_ms: int, settings: LaneSettings
    ) -> None:
        """Decide and fold the commands of ``queue``, in flight; ``positions`` notes the position of each item.

        Raises InternalError on a fact that cannot be folded.
        """
        items, facts, effects = self.items, self.facts, self.effects
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
            way = QUICK.get(type(item))
            done = way(tables, item, now_ms) if way is not None else None
            if done is not None:
                facts += done[0]
                effects += done[1]
                size += FACT_BYTES * len(done[0]) + done[2]
                continue
            decided = decide(tables, item, now_ms)
            facts += decided
            for fact in decided:
                try:
                    effects += fold(tables, fact, now_ms)
                except Exception as error:
                    raise cannot_fold(tables, fact, error) from error
            size += payload_bytes(decided)
