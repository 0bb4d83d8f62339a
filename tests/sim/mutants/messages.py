"""Faults in what leaves a lane (lanes.md rules 28 to 29a)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millstream.core import decide as core_decide
from millstream.core import fold as core_fold
from millstream.core import messages
from millstream.lane.output import outbox as lane_outbox
from millstream.model.commands import TakeMessage
from millstream.model.facts import Fact, MessageSent, MessageTaken, PublishQueued
from millstream.model.rows import InboxCursorRow
from tests.sim.mutants.mutant import Mutant, Patch


def _take_every_message(patch: Patch) -> None:
    def take_message(lane_tables: Any, command: Any, now_ms: int) -> list[Fact]:
        message = command.message
        decided = messages.MESSAGES[type(message)].receive(lane_tables, message, now_ms)
        return [MessageTaken(command.from_lane, command.seq), *decided]

    def message_taken(lane_tables: Any, fact: MessageTaken, at_ms: int) -> Sequence[Any]:
        lane_tables.inbox_cursors.put(fact.from_lane, InboxCursorRow(fact.from_lane, fact.seq))
        return ()

    patch.set(core_fold.FOLD, MessageTaken, message_taken)  # type: ignore[arg-type]

    patch.set(core_decide.DECIDE, TakeMessage, take_message)  # type: ignore[arg-type]


def _drop_the_outbox_row(patch: Patch) -> None:
    real: Any = core_fold.FOLD[MessageSent]

    def message_sent(lane_tables: Any, fact: Any, at_ms: int) -> Sequence[Any]:
        effects: Sequence[Any] = real(lane_tables, fact, at_ms)
        lane_tables.outbox.delete((fact.to_lane, fact.seq))
        return effects

    patch.set(core_fold.FOLD, MessageSent, message_sent)  # type: ignore[arg-type]


def _forget_requests(patch: Patch) -> None:
    patch.set(messages, "answered", lambda tables, request: None)


def _note_before_it_is_sent(patch: Patch) -> None:
    real = lane_outbox.Outbox._append

    async def append(self: Any, topic: str, partition: int, records: Any) -> bool:
        await real(self, topic, partition, records)
        return True

    patch.set(lane_outbox.Outbox, "_append", append)


def _drop_the_publish_row(patch: Patch) -> None:
    real: Any = core_fold.FOLD[PublishQueued]

    def queued(lane_tables: Any, fact: Any, at_ms: int) -> Sequence[Any]:
        effects: Sequence[Any] = real(lane_tables, fact, at_ms)
        lane_tables.publishes.delete(fact.number)
        return effects

    patch.set(core_fold.FOLD, PublishQueued, queued)  # type: ignore[arg-type]


MUTANTS: tuple[Mutant, ...] = (
    Mutant("take every message", "28", _take_every_message),
    Mutant("drop the outbox row", "28", _drop_the_outbox_row),
    Mutant("forget requests", "29", _forget_requests),
    Mutant("note before it is sent", "29a", _note_before_it_is_sent),
    Mutant("drop the publish row", "29a", _drop_the_publish_row),
)
