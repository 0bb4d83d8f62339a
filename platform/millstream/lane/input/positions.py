"""Pending positions: how far the sources of a lane are read by items that no record holds yet.

They go into the tables at a turn's end, and before a command whose decision depends on them: items taken earlier in the
same turn count for it.
"""

from __future__ import annotations

from typing import Final

from millstream.core.tables import Tables
from millstream.core.triggers.catalogue import Catalogue, catalogue
from millstream.lane.input.foreign import Foreign, ForeignReader
from millstream.lane.input.sources import Item, PositionedCommand
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
"""Commands whose decision depends on how far sources are read."""


class PendingPositions:
    """The positions of a lane that are not recorded yet. ``queued_bytes`` is what its queue holds."""

    def __init__(self, tables: LaneTables, foreign: ForeignReader) -> None:
        self._foreign = foreign
        self._tables = tables
        self._functions = (group_topic(tables.place.group, "functions"), 0)
        self.offsets: dict[Source, int] = {}
        self.queued_bytes = 0

    def take(self, item: Item) -> Command | None:
        """Note the position behind an item; return the command to decide, or None where the position is all."""
        self.queued_bytes -= queued_bytes(item)  # First: who undoes the turn adds it, wherever it ended.
        kind = type(item)
        command: Command | None = item  # type: ignore[assignment]
        if kind is PositionedCommand:
            position = item.position  # type: ignore[union-attr]
            self.offsets[position.topic, position.partition] = position.offset
            command = item.command  # type: ignore[union-attr]
            kind = type(command)  # type: ignore[assignment]
        elif kind is AcceptEvent or kind is RefuseRecord:
            self.offsets[item.topic, item.partition] = item.offset + 1  # type: ignore[union-attr]
        elif kind is Foreign:
            self.offsets[item.topic, item.partition] = item.record.offset + 1  # type: ignore[union-attr]
            command = self._foreign.command(self._tables, item)  # type: ignore[arg-type]
        if kind in LOOK_AT_POSITIONS:
            self.apply()
            if type(command) is NoteGap:
                self.offsets.pop((command.topic, command.partition), None)  # The fact says where it goes on.
        return command

    def apply(self) -> None:
        """Put the positions into the tables. They only go forward: another owner may have read further meanwhile."""
        rows = self._tables.positions
        for source, offset in self.offsets.items():
            held = rows.get(source)
            if held is not None and held.offset > offset:
                self.offsets[source] = held.offset
            else:
                rows.put(source, PositionRow(*source, offset))

    def for_record(self) -> tuple[Position, ...]:
        """The positions as a record holds them."""
        return tuple(Position(topic, partition, offset) for (topic, partition), offset in self.offsets.items())

    def current_catalogue(self, queued: int) -> Catalogue | None:
        """The catalogue, or None while a record of the functions topic below ``queued`` waits to be decided."""
        return catalogue(self._tables) if queued <= position_of(self._tables, *self._functions) else None


def position_of(tables: Tables, topic: str, partition: int) -> int:
    """The offset up to which a lane has taken a partition in; 0 before it was opened."""
    row = tables.positions.get((topic, partition))
    return row.offset if row is not None else 0


def queued_bytes(item: Item) -> int:
    """The bytes that an item of the queue holds in memory, counted for payloads from a source."""
    kind = type(item)
    if kind is AcceptEvent:
        return len(item.event.data)  # type: ignore[union-attr]
    if kind is Foreign:
        return len(item.record.value or b"")  # type: ignore[union-attr]
    return 0
