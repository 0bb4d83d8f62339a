"""``lane/ownership/restore.py``: a lane's tables become what its journal says, or it says why not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from millstream.errors import AcknowledgedLost, Corruption, InternalError
from millstream.lane.ownership import restore as module
from millstream.lane.ownership.restore import restore
from millstream.lane.settings import LaneSettings
from millstream.log.port import Produced
from millstream.losses import Losses
from millstream.model.facts import LaneFenced, MessagesDelivered, RunStarted, SourceGap
from millstream.model.journal import JournalRecord, Position
from millstream.state.dump import dump
from millstream.state.keyspace import CHECKPOINT_TOPICS, MARKER_KEY
from millstream.state.marker import Marker, decode_marker, encode_marker
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.state.tables import LaneTables
from millstream.wire.journal import encode_record
from tests.core.values import PLACE, START_MS, app, event, function
from tests.lane.rig import JOURNAL, Rig, until

SHOP = app(function("ship", "order/placed"))
MARKED = f"{JOURNAL}/0"
EAGER = LaneSettings(flush_after_ms=100, checkpoint_facts=1, checkpoint_gap_ms=500)


def quiet(facts: int, left: int) -> None:
    """Progress that nobody looks at."""


async def lived(rig: Rig, events: int = 3, settings: LaneSettings | None = None, wait_s: float = 2.0) -> object:
    """A lane took some events and ended; returns its tables as they were."""
    await rig.register(SHOP)
    owner = await rig.own(settings=settings)
    await rig.send(*(event(n) for n in range(events)))
    await until(lambda: len(rig.facts(RunStarted)) == events)
    await rig.here.sleep(wait_s)
    await owner.stop()
    return dump(owner.lane.tables.durable)


async def test_nothing_anywhere_is_a_new_lane(rig: Rig) -> None:
    tables, reached = await restore(rig.logs["a"], PLACE, MemoryStore(), quiet)
    assert (reached.offset, reached.facts) == (0, 0)
    assert not any(dump(tables).values())


async def test_from_the_journal_alone_the_tables_are_byte_for_byte_the_same(rig: Rig) -> None:
    live = await lived(rig)
    tables, reached = await restore(rig.logs["a"], PLACE, MemoryStore(), quiet)
    assert dump(tables) == live
    assert reached.offset == len(rig.records(JOURNAL))


async def test_a_store_goes_on_behind_the_record_it_includes(rig: Rig) -> None:
    live = await lived(rig)
    tables, reached = await restore(rig.logs["a"], PLACE, MemoryStore(rig.disk), quiet)
    assert dump(tables) == live
    assert reached.facts == 0


async def test_a_store_of_another_group_is_wiped_and_restored(rig: Rig) -> None:
    live = await lived(rig)
    store = MemoryStore(rig.disk)
    store.write([(MARKER_KEY, encode_marker(Marker("other.journal", 10_000, b"somebody", 1))), (b"\x01stray", b"x")])
    tables, reached = await restore(rig.logs["a"], PLACE, store, quiet)
    assert dump(tables) == live
    assert reached.facts > 0


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        (Marker(MARKED, 10_000, b"somebody", 1), r"partition 0: offsets \d+ to 10000 at least"),
        (Marker(MARKED, 1, b"somebody", 1), "another record is there"),
    ],
)
async def test_a_store_that_knows_more_than_the_journal_refuses_until_the_loss_is_accepted(
    rig: Rig, tmp_path: Path, marker: Marker, words: str
) -> None:
    live = await lived(rig)
    store = MemoryStore(rig.disk)
    store.write([(MARKER_KEY, encode_marker(marker)), (b"\x01stray", b"x")])
    with pytest.raises(AcknowledgedLost, match=words):
        await restore(rig.logs["a"], PLACE, store, quiet)
    assert store.get(b"\x01stray") == b"x", "evidence stays"
    tables, _ = await restore(rig.logs["a"], PLACE, store, quiet, Losses(tmp_path, accepted=True))
    assert dump(tables) == live
    assert JOURNAL in (tmp_path / "losses.jsonl").read_text()


async def test_a_checkpoint_of_a_record_that_the_journal_does_not_have_refuses_at_once(rig: Rig) -> None:
    await lived(rig, settings=EAGER)
    for which in CHECKPOINT_TOPICS:
        beyond = encode_marker(Marker(MARKED, 10_000, b"somebody", 1))
        await rig.put(f"{PLACE.group}.{which}", Produced(beyond, MARKER_KEY))
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(AcknowledgedLost, match=r"[Tt]he lane's checkpoint includes record 10000"):
        await restore(rig.logs["a"], PLACE, MemoryStore(), quiet)
    assert asyncio.get_running_loop().time() - began_s < module.RETRY_S * 2


@pytest.mark.parametrize("trimmed", ["not", "to the checkpoint", "with the checkpoint's record"])
async def test_a_checkpoint_and_the_journal_behind_it_are_the_same_tables(rig: Rig, trimmed: str) -> None:
    live = await lived(rig, settings=EAGER)
    marker = LaneTables(PLACE, MemoryStore(rig.disk)).marker
    assert marker is not None
    if trimmed != "not":
        # The last checkpoint is at the last record with facts: nothing was flushed behind it.
        await rig.logs["a"].trim(JOURNAL, 0, checkpointed(rig) + (trimmed != "to the checkpoint"))
    tables, _ = await restore(rig.logs["a"], PLACE, MemoryStore(), quiet)
    assert dump(tables) == live


def checkpointed(rig: Rig) -> int:
    """The journal offset of the last checkpoint in the compacted topics."""
    found = [r for r in rig.records(f"{PLACE.group}.keys") if r.key == MARKER_KEY]
    return decode_marker(found[-1].value or b"").offset


async def test_topics_that_show_different_checkpoints_are_read_again_until_they_agree(rig: Rig) -> None:
    live = await lived(rig, settings=EAGER)
    topic = f"{PLACE.group}.timers"
    whole = next(r.value for r in rig.records(topic) if r.key == MARKER_KEY)
    await rig.put(topic, Produced(encode_marker(Marker(JOURNAL, 1, b"older...", 0)), MARKER_KEY))

    async def settle() -> None:
        await rig.here.sleep(module.RETRY_S * 2)
        await rig.put(topic, Produced(whole, MARKER_KEY))

    settling = asyncio.ensure_future(settle())
    tables, _ = await restore(rig.logs["a"], PLACE, MemoryStore(), quiet)
    await settling
    assert dump(tables) == live


async def test_a_trimmed_journal_without_a_checkpoint_is_corruption_that_says_what_to_do(rig: Rig) -> None:
    await lived(rig)
    await rig.logs["a"].trim(JOURNAL, 0, 2)
    with pytest.raises(Corruption, match="millstream lanes verify"):
        await restore(rig.logs["a"], PLACE, MemoryStore(), quiet)


async def test_a_long_suffix_is_flushed_on_the_way(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    live = await lived(rig, events=50)
    monkeypatch.setattr(module, "FLUSH_ROWS", 20)
    monkeypatch.setattr(module, "READ_RECORDS_MAX", 1)
    disk = MemoryDisk()
    tables, _ = await restore(rig.logs["a"], PLACE, MemoryStore(disk), quiet)
    assert tables.overlay_rows <= 200
    assert tables.marker is not None
    again, _ = await restore(rig.logs["a"], PLACE, MemoryStore(disk), quiet)
    assert dump(again) == dump(tables) == live


async def test_records_of_a_dead_owner_behind_the_next_fence_are_passed_over(rig: Rig) -> None:
    await lived(rig)
    before = rig.decisions()
    await rig.put(JOURNAL, Produced(encode_record(JournalRecord(b"new.....", 0, START_MS, (LaneFenced("b"),)))))
    stale = JournalRecord(before[-1].owner, before[-1].seq + 1, START_MS, before[1].facts)
    await rig.put(JOURNAL, Produced(encode_record(stale)))
    _, reached = await restore(rig.logs["a"], PLACE, MemoryStore(), quiet)
    assert (reached.validity.owner, reached.validity.seq) == (b"new.....", 0)
    assert reached.offset == len(rig.records(JOURNAL))


@pytest.mark.parametrize("behind", [1, 0], ids=["a record behind it", "the end behind it"])
async def test_an_offset_without_a_record_is_corruption_and_not_a_shorter_life(rig: Rig, behind: int) -> None:
    await lived(rig)
    journal = rig.cluster.partitions[JOURNAL, PLACE.lane]
    hole = journal.end
    journal.end += 1
    journal.append(rig.records(JOURNAL)[:behind], START_MS)
    with pytest.raises(Corruption, match=f"gave offset {hole + 1} where {hole} was expected"):
        await restore(rig.logs["a"], PLACE, MemoryStore(), quiet)


async def test_a_fact_that_cannot_be_folded_stops_the_restore_and_names_it(rig: Rig) -> None:
    await rig.put(
        JOURNAL,
        Produced(encode_record(JournalRecord(b"new.....", 0, START_MS, (LaneFenced("b"), MessagesDelivered(1, 9))))),
    )
    with pytest.raises(InternalError, match="MessagesDelivered"):
        await restore(rig.logs["a"], PLACE, MemoryStore(), quiet)


def test_a_record_that_puts_a_source_back_is_no_record_of_a_lane() -> None:
    tables = LaneTables(PLACE, MemoryStore())
    module.apply(tables, JournalRecord(b"owner", 1, START_MS, (), (Position("events", 0, 7),)))
    with pytest.raises(AssertionError, match="back from 7 to 3"):
        module.apply(tables, JournalRecord(b"owner", 2, START_MS, (), (Position("events", 0, 3),)))
    module.apply(tables, JournalRecord(b"owner", 2, START_MS, (SourceGap("events", 0, 7, 2),), ()))
    module.apply(tables, JournalRecord(b"owner", 3, START_MS, (), (Position("events", 0, 3),)))
