"""``lane/input/sources.py``: what comes in is queued with its position; nothing that can't be read stops the intake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millstream.lane.input.foreign import ForeignReader
from millstream.lane.input.sources import Intake, Item, PositionedCommand
from millstream.lane.output.outbox import message_key
from millstream.log.port import Produced
from millstream.model.commands import AcceptEvent, RefuseRecord, SeeCatalogue
from millstream.model.facts import CommandRefused, MessageTaken, RunStarted, SourceGap, SourceOpened
from millstream.model.messages import InboxRecord
from millstream.model.run_requests import CancelRun
from millstream.schema_registry.sources import FileSchemas
from millstream.wire.messages import encode_app, encode_envelope, encode_inbox
from millstream.wire.schemas import EventSchemas
from tests.core.values import PLACE, app, event, function
from tests.lane.rig import EVENTS, FUNCTIONS, INBOX, LETTERS, TELEMETRY, Rig, until

SHOP = app(function("ship", "order/placed"))


class Gate:
    """An intake whose capacity the test gives and takes."""

    def __init__(self, rig: Rig) -> None:
        self.items: list[Item] = []
        self.can_accept_work = asyncio.Event()
        self.can_accept_work.set()
        self.queue_has_capacity = asyncio.Event()
        self.queue_has_capacity.set()
        self.awaited: set[str] = set()
        self.intake = Intake(
            rig.logs["a"],
            rig.membership("a"),
            PLACE,
            self.items.append,
            is_awaited=lambda name: name in self.awaited,
            current_catalogue=lambda: None,
            foreign=ForeignReader(FileSchemas(), TELEMETRY, PLACE.lane),
            schemas=EventSchemas(),
            wait_to_accept_work=self._wait_to_accept_work,
            wait_for_queue_capacity=self.queue_has_capacity.wait,  # type: ignore[arg-type]
            on_still_running=lambda message: None,
            on_page=lambda topic, partition, page: None,
        )
        self.tasks: list[asyncio.Task[None]] = []

    async def _wait_to_accept_work(self) -> None:
        await self.can_accept_work.wait()

    def begin(self, *works: Any) -> None:
        self.tasks += [asyncio.get_running_loop().create_task(work) for work in works]

    def commands(self) -> list[Any]:
        return [item.command if isinstance(item, PositionedCommand) else item for item in self.items]


async def test_a_poison_record_is_refused_and_the_source_goes_on(rig: Rig) -> None:
    owner = await rig.own()
    await rig.register(SHOP)
    await until(lambda: owner.lane.catalogue_seen == 1)
    await rig.put("events", Produced(b"garbage", b"key"), Produced(encode_envelope(event(1))))
    await until(lambda: rig.facts(RunStarted))
    await until(lambda: rig.records(LETTERS))
    (refused,) = rig.facts(CommandRefused)
    assert refused.subject == "events/1@0"
    (letter,) = rig.records(LETTERS)
    assert (letter.key, letter.value) == (b"key", b"garbage")


async def test_an_event_waits_until_the_catalogue_it_was_stamped_with_is_queued(rig: Rig) -> None:
    gate = Gate(rig)
    gate.queue_has_capacity.clear()
    await rig.register(SHOP)
    stamped = event(1)
    await rig.send(type(stamped)(**{**{f: getattr(stamped, f) for f in stamped.__struct_fields__}, "catalogue": 1}))
    gate.begin(gate.intake.run_source(*EVENTS, 0), gate.intake.run_catalogue(0))
    await rig.here.sleep(1)
    assert gate.items == []
    gate.queue_has_capacity.set()
    await until(lambda: len(gate.items) == 2)
    assert [type(c) for c in gate.commands()] == [SeeCatalogue, AcceptEvent]


async def test_a_stamp_beyond_the_catalogues_end_does_not_stop_the_source(rig: Rig) -> None:
    gate = Gate(rig)
    stamped = event(1)
    await rig.send(type(stamped)(**{**{f: getattr(stamped, f) for f in stamped.__struct_fields__}, "catalogue": 99}))
    gate.begin(gate.intake.run_source(*EVENTS, 0), gate.intake.run_catalogue(0))
    await until(lambda: gate.items)


async def test_a_catalogue_whose_last_records_were_compacted_away_counts_as_seen(rig: Rig) -> None:
    await rig.register(SHOP)
    await rig.put(FUNCTIONS, Produced(encode_app(app(id="old")), b"old"), Produced(None, b"old"))
    await rig.here.sleep(1_000)
    rig.cluster.retain()
    owner = await rig.own()
    await until(lambda: owner.lane.catalogue_seen == 3)


async def test_a_position_that_was_trimmed_away_is_a_fact_that_names_what_was_lost(rig: Rig) -> None:
    await rig.register(SHOP)
    first = await rig.own()
    await rig.send(event(1))
    await until(lambda: first.lane.tables.durable.positions.get(EVENTS).offset == 1)  # type: ignore[union-attr]
    await first.stop()
    await rig.send(event(2), event(3), event(4))
    await rig.logs["a"].trim("events", 1, 3)
    second = await rig.own()
    await until(lambda: len(rig.facts(RunStarted)) == 2)
    (gap,) = rig.facts(SourceGap)
    assert (gap.topic, gap.partition, gap.from_offset, gap.to_offset) == ("events", 1, 1, 3)
    assert len(rig.facts(SourceOpened)) == 1
    await second.stop()


async def test_a_source_pauses_without_room_and_the_inbox_only_without_space(rig: Rig) -> None:
    gate = Gate(rig)
    gate.can_accept_work.clear()
    await rig.send(event(1))
    await rig.put(INBOX, Produced(encode_inbox(InboxRecord(-1, 0, CancelRun("x", "y", "r", 0)))))
    gate.begin(gate.intake.run_source(*EVENTS, 0), gate.intake.run_inbox(0))
    await rig.here.sleep(1)
    assert [type(c) for c in gate.commands()] == [CancelRun]
    gate.can_accept_work.set()
    await until(lambda: len(gate.items) == 2)


async def test_an_app_that_cannot_be_read_is_refused_and_the_others_are_taken(rig: Rig) -> None:
    await rig.register(SHOP)
    owner = await rig.own()
    await rig.put(FUNCTIONS, Produced(b"garbage", b"shop"))
    await rig.register(app(function("other", "a/b"), id="other"))
    await until(lambda: owner.lane.catalogue_seen == 3)
    await rig.send(event(1))
    await until(lambda: rig.facts(RunStarted))  # The app is as it was before.
    assert [f.subject for f in rig.facts(CommandRefused)] == [f"{FUNCTIONS}/0@1"]
    await owner.stop()
    again = await rig.own()
    await until(lambda: again.lane.catalogue_seen == 3)
    assert len(rig.facts(CommandRefused)) == 1


async def test_a_message_that_cannot_be_read_does_not_stop_those_behind_it(rig: Rig) -> None:
    owner = await rig.own()
    for seq, value in ((1, None), (2, b"garbage"), (3, None)):
        whole = encode_inbox(InboxRecord(1, seq, CancelRun("nobody", "no reason", f"r{seq}", -1)))
        await rig.put(INBOX, Produced(value or whole, message_key(1, seq)))
    await until(lambda: len(rig.facts(MessageTaken)) == 3)
    await until(lambda: rig.records(LETTERS))
    assert [f.seq for f in rig.facts(MessageTaken)] == [1, 2, 3]
    assert rig.records(LETTERS)[0].value == b"garbage"
    await owner.stop()


async def test_a_foreign_record_in_the_inbox_is_refused_and_counts_as_nobodys_message(rig: Rig) -> None:
    gate = Gate(rig)
    await rig.put(INBOX, Produced(b"garbage"), Produced(b"garbage", b"not a number"))
    gate.begin(gate.intake.run_inbox(0))
    await until(lambda: len(gate.items) == 2)
    assert [type(c) for c in gate.commands()] == [RefuseRecord, RefuseRecord]


async def test_a_message_taken_twice_is_counted_once(rig: Rig) -> None:
    owner = await rig.own()
    record = Produced(encode_inbox(InboxRecord(1, 1, CancelRun("nobody", "", "r", -1))))
    await rig.put(INBOX, record, record)
    position = (INBOX, PLACE.lane)
    await until(lambda: (row := owner.lane.tables.durable.positions.get(position)) and row.offset == 2)
    assert len(rig.facts(MessageTaken)) == 1


async def test_a_source_goes_on_after_the_log_was_away(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(rig)
    gate.begin(gate.intake.run_source(*EVENTS, 0))
    await rig.here.sleep(0.1)
    rig.logs["a"]._dead = "is away for a while"
    rig.cluster.partitions["events", 1].wake()
    await rig.here.sleep(5)
    rig.logs["a"]._dead = None
    await rig.send(event(1))
    await until(lambda: gate.items)
    assert not any(task.done() for task in gate.tasks)


async def test_events_that_nobody_hears_move_the_position_and_lead_to_no_fact(rig: Rig) -> None:
    owner = await rig.own()
    await rig.register(SHOP)
    await until(lambda: owner.lane.catalogue_seen == 1)
    before = len(rig.decisions())
    await rig.send(*(event(n, "nobody/cares") for n in range(500)))
    await until(lambda: (row := owner.lane.tables.durable.positions.get(EVENTS)) and row.offset == 500)
    assert not any(record.facts for record in rig.decisions()[before:])
    assert len(rig.decisions()) - before <= 3
    await rig.send(event(1_000))
    await until(lambda: rig.facts(RunStarted))
