"""What a turn takes from the queue: the command of each item, and how far its source is read with it.

Positions are pending here until a record holds them. They go into the tables at a turn's end, and before a command that
is decided by them: what was taken earlier in the same turn counts for it.
"""

from __future__ import annotations

from typing import Final

from millstream.core.catalogue import Catalogue, catalogue
from millstream.lane.input.foreign import Foreign, ForeignReader
from millstream.lane.input.sources import Item, Taken
from millstream.lane.parts import Source
from millstream.model.commands import (
    AcceptEvent,
    BackfillFunction,
    Command,
    NoteGap,
    RefuseRecord,
    SeeCatalogue,
    SeeTopic,
)
from millstream.model.journal import Position
from millstream.model.messages import group_topic
from millstream.model.rows import PositionRow
from millstream.state.tables import LaneTables

LOOK_AT_POSITIONS: Final = frozenset((SeeCatalogue, SeeTopic, NoteGap, BackfillFunction))
"""Commands whose decision is about how far sources are read."""


class Taking:
    """The positions of a lane that are not recorded yet. ``queued_bytes`` is what its queue holds."""

    def __init__(self, tables: LaneTables, foreign: ForeignReader) -> None:
        self._foreign = foreign
        self._tables = tables
        self._functions = (group_topic(tables.place.group, "functions"), 0)
        self.pending: dict[Source, int] = {}
        self.queued_bytes = 0

    def command(self, item: Item) -> Command | None:
        """What is to be decided about an item, once the position behind it is noted; None: that was all."""
        kind = type(item)
        command: Command | None = item  # type: ignore[assignment]
        if kind is Taken:
            position = item.position  # type: ignore[union-attr]
            self.pending[position.topic, position.partition] = position.offset
            command = item.command  # type: ignore[union-attr]
            kind = type(command)  # type: ignore[assignment]
        elif kind is AcceptEvent or kind is RefuseRecord:
            self.pending[item.topic, item.partition] = item.offset + 1  # type: ignore[union-attr]
        elif kind is Foreign:
            self.pending[item.topic, item.partition] = item.record.offset + 1  # type: ignore[union-attr]
            command = self._foreign.command(self._tables, item)  # type: ignore[arg-type]
        self.queued_bytes -= queued_bytes(item)
        if kind in LOOK_AT_POSITIONS:
            self.move()
            if type(command) is NoteGap:
                self.pending.pop((command.topic, command.partition), None)  # The fact says where it goes on.
        return command

    def move(self) -> None:
        """Positions go forward only: what lies below one was decided, by us or by another owner in between."""
        rows = self._tables.positions
        for source, offset in self.pending.items():
            held = rows.get(source)
            if held is not None and held.offset > offset:
                self.pending[source] = held.offset
            else:
                rows.put(source, PositionRow(*source, offset))

    def recorded(self) -> tuple[Position, ...]:
        """The positions as a record holds them."""
        return tuple(Position(topic, partition, offset) for (topic, partition), offset in self.pending.items())

    def known(self, queued: int) -> Catalogue | None:
        """The catalogue, where none of the functions topic up to ``queued`` waits to be decided."""
        row = self._tables.positions.get(self._functions)
        return catalogue(self._tables) if queued <= (row.offset if row is not None else 0) else None


def queued_bytes(item: Item) -> int:
    """What an item of the queue holds in memory, where it can be much: the payload of what came from a source."""
    kind = type(item)
    if kind is AcceptEvent:
        return len(item.event.data)  # type: ignore[union-attr]
    if kind is Foreign:
        return len(item.record.value or b"")  # type: ignore[union-attr]
    return 0
