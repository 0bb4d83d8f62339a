"""Is a checkpoint exact, complete, and enough to begin again from?"""

from __future__ import annotations

import asyncio

import pytest

from millstream.errors import Corruption
from millstream.model.rows import SeenChunkRow, SeenRow
from millstream.model.seen import until_ms
from millstream.state.checkpoint import UNMARK_ROWS, Checkpoint
from millstream.state.dump import dump, fingerprint
from millstream.state.keyspace import CHECKPOINT_TOPICS, FLUSHING_KEY, KEYSPACE, MARKER_KEY, MARKS
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.state.restore import Restore
from millstream.state.store import Change
from millstream.state.tables import LaneTables
from tests.state.rows import ONE_OF_EACH, run
from tests.state.test_tables import PLACE, CountingStore, marker


class Topics:
    """The compacted topics of a lane, as logs that are never compacted."""

    def __init__(self) -> None:
        self.records: dict[str, list[Change]] = {topic: [] for topic in CHECKPOINT_TOPICS}

    async def send(self, checkpoint: Checkpoint) -> None:
        async for topic, rows in checkpoint.chunks():
            self.records[topic] += rows

    async def restore(self) -> LaneTables:
        restore = Restore(store := MemoryStore())
        for topic, rows in self.records.items():
            await restore.take(topic, rows)
        await restore.finish()
        return LaneTables(PLACE, store)

    def sent(self, key: bytes) -> list[bytes | None]:
        return [value for rows in self.records.values() for sent, value in rows if sent == key]


async def checkpoint(tables: LaneTables, topics: Topics, offset: int) -> int:
    made = await Checkpoint.begin(tables, marker(offset))
    await topics.send(made)
    return await made.committed()


def fill(tables: LaneTables) -> None:
    for spec, table in zip(KEYSPACE, tables.all, strict=True):
        row = ONE_OF_EACH[spec.name]
        table.put(spec.key_of()(row), row)
    tables.promote()


async def test_restored_tables_are_the_live_ones_byte_for_byte() -> None:
    tables, topics = LaneTables(PLACE, MemoryStore()), Topics()
    fill(tables)
    await checkpoint(tables, topics, 5)
    restored = await topics.restore()
    assert restored.marker == marker(5)
    assert dump(restored) == dump(tables) == dump(tables.durable)
    assert fingerprint(restored) == fingerprint(tables)
    tables.runs.delete("r1")
    assert fingerprint(restored) == fingerprint(tables.durable) != fingerprint(tables)


async def test_each_topic_ends_with_the_marker_even_if_nothing_changed() -> None:
    tables, topics = LaneTables(PLACE, MemoryStore()), Topics()
    await checkpoint(tables, topics, 5)
    assert [[key for key, _ in rows] for rows in topics.records.values()] == [[MARKER_KEY]] * 3
    fill(tables)
    await checkpoint(tables, topics, 6)
    assert all(rows[-1][0] == MARKER_KEY for rows in topics.records.values())


async def test_the_index_of_seen_ids_is_not_sent_but_rebuilt() -> None:
    tables, topics = LaneTables(PLACE, MemoryStore()), Topics()
    hashes = [b"%016d" % n for n in range(300)]
    tables.seen_chunks.put(("s", True, 1, 0), SeenChunkRow("s", True, 1, 0, b"".join(hashes)))
    for one in hashes:
        tables.seen.put(one, SeenRow(one, until_ms(True, 1)))
    tables.promote()
    await checkpoint(tables, topics, 1)
    assert len(topics.records["keys"]) == 2
    assert dump(await topics.restore()) == dump(tables)


async def test_a_checkpoint_holds_only_what_changed_since_the_last() -> None:
    tables, topics = LaneTables(PLACE, MemoryStore()), Topics()
    fill(tables)
    await checkpoint(tables, topics, 1)
    sent = len(topics.records["steps"])
    tables.runs.put("r1", run("r1", 4))
    tables.promote()
    assert await checkpoint(tables, topics, 2) == 1
    assert len(topics.records["steps"]) == sent + 2  # The row and the marker.
    assert dump(await topics.restore()) == dump(tables)


async def test_a_deleted_row_becomes_a_tombstone() -> None:
    tables, topics = LaneTables(PLACE, MemoryStore()), Topics()
    fill(tables)
    await checkpoint(tables, topics, 1)
    tables.runs.delete("r1")
    tables.promote()
    await checkpoint(tables, topics, 2)
    assert topics.records["steps"][-2] == (b"\x10r1", None)
    assert dump(await topics.restore()) == dump(tables)


async def test_a_row_that_comes_and_goes_between_two_checkpoints_is_never_sent() -> None:
    tables, topics = LaneTables(PLACE, MemoryStore()), Topics()
    await checkpoint(tables, topics, 1)
    tables.runs.put("a", run("a"))
    tables.promote()
    await tables.flush(marker(2))
    tables.runs.put("a", run("a", 1))
    tables.promote()
    await tables.flush(marker(3))
    tables.runs.delete("a")
    tables.promote()
    await checkpoint(tables, topics, 4)
    assert topics.sent(b"\x10a") == []


@pytest.mark.parametrize("outcome", ["committed", "abandoned", "crashed"])
async def test_a_row_deleted_while_its_checkpoint_is_under_way_gets_its_tombstone(outcome: str) -> None:
    disk, topics = MemoryDisk(), Topics()
    tables = LaneTables(PLACE, MemoryStore(disk))
    tables.runs.put("a", run("a"))
    tables.promote()
    made = await Checkpoint.begin(tables, marker(1))
    await topics.send(made)
    if outcome == "crashed":
        tables = LaneTables(PLACE, MemoryStore(disk))
    tables.runs.delete("a")
    tables.promote()
    await tables.flush(marker(2))
    if outcome == "committed":
        assert await made.committed() == 0
    elif outcome == "abandoned":
        made.abandoned()
    await checkpoint(tables, topics, 3)
    assert topics.sent(b"\x10a")[-1] is None
    assert dump(await topics.restore()) == dump(tables)


async def test_marks_survive_a_crash_until_a_checkpoint_commits() -> None:
    disk, topics = MemoryDisk(), Topics()
    tables = LaneTables(PLACE, MemoryStore(disk))
    fill(tables)
    (await Checkpoint.begin(tables, marker(1))).abandoned()
    tables = LaneTables(PLACE, MemoryStore(disk))  # Opened again without a close.
    assert await checkpoint(tables, topics, 1) == len(KEYSPACE) - 1
    assert dump(await topics.restore()) == dump(tables)
    assert tables.store.scan(MARKS, b"\x02", 9) == []


async def test_a_row_changed_again_keeps_its_mark() -> None:
    tables, topics = LaneTables(PLACE, store := CountingStore()), Topics()
    for key in "ab":
        tables.runs.put(key, run(key))
    tables.promote()
    made = await Checkpoint.begin(tables, marker(1))
    tables.runs.put("a", run("a", 2))
    tables.promote()
    await tables.flush(marker(2))
    await topics.send(made)
    assert topics.records["steps"][0] == (b"\x10a", made._snapshot.get(b"\x10a"))
    store.busy = 2
    assert await made.committed() == 1
    assert [key for key, _ in store.scan(MARKS, b"\x02", 9)] == [MARKS + b"\x10a"]
    await checkpoint(tables, topics, 3)
    assert dump(await topics.restore()) == dump(tables)


async def test_flushes_go_on_while_marks_are_removed_and_theirs_stay() -> None:
    tables, topics = LaneTables(PLACE, store := MemoryStore()), Topics()
    for n in range(5 * UNMARK_ROWS):
        tables.runs.put(f"{n:05}", run(f"{n:05}"))
    tables.promote()
    made = await Checkpoint.begin(tables, marker(1))
    await topics.send(made)
    changed: list[str] = []

    async def beside() -> None:
        turn = len(changed) // 2
        for n in (turn, 5 * UNMARK_ROWS - 1 - turn):  # One whose mark is removed already, one that is still to come.
            changed.append(f"{n:05}")
            tables.runs.put(changed[-1], run(changed[-1], 9))
        tables.promote()
        await tables.flush(marker(2 + turn))

    assert await made.committed(beside) == 5 * UNMARK_ROWS - 4  # What it changed after the last of them had no mark.
    assert len(changed) == 10
    assert [key for key, _ in store.scan(MARKS, b"\x02", 99)] == [
        MARKS + b"\x10" + key.encode() for key in sorted(changed)
    ]
    await checkpoint(tables, topics, 99)
    assert dump(await topics.restore()) == dump(tables)


async def test_the_lane_goes_on_while_a_checkpoint_is_sent() -> None:
    tables, topics = LaneTables(PLACE, MemoryStore()), Topics()
    for n in range(3_000):
        tables.runs.put(f"{n:05}", run(f"{n:05}"))
    tables.promote()
    made = await Checkpoint.begin(tables, marker(1))
    at_one = dump(tables)
    sending = asyncio.create_task(topics.send(made))
    offset = 2
    while not sending.done():
        tables.runs.put(f"{offset:05}", run(f"{offset:05}", 9))
        tables.runs.delete(f"{offset + 1_000:05}")
        tables.promote()
        await tables.flush(marker(offset))
        offset += 1
    await made.committed()
    assert offset > 3
    assert dump(await topics.restore()) == at_one
    await checkpoint(tables, topics, offset)
    assert dump(await topics.restore()) == dump(tables)


async def test_topics_read_at_different_moments_are_not_believed() -> None:
    tables, topics = LaneTables(PLACE, MemoryStore()), Topics()
    fill(tables)
    await checkpoint(tables, topics, 1)
    first = {topic: list(rows) for topic, rows in topics.records.items()}
    tables.runs.put("r2", run("r2"))
    tables.promote()
    await checkpoint(tables, topics, 2)
    restore = Restore(store := MemoryStore())
    await restore.take("steps", topics.records["steps"])
    assert restore.marker() is None
    await restore.take("timers", first["timers"])
    await restore.take("keys", first["keys"])
    assert restore.marker() is None
    with pytest.raises(Corruption, match="different checkpoints"):
        await restore.finish()
    for topic in ("timers", "keys"):
        await restore.take(topic, topics.records[topic][len(first[topic]) :])
    assert restore.marker() == await restore.finish() == marker(2)
    assert dump(LaneTables(PLACE, store)) == dump(tables)


async def test_rows_behind_the_last_marker_are_not_believed() -> None:
    restore = Restore(MemoryStore())
    tables, topics = LaneTables(PLACE, MemoryStore()), Topics()
    await checkpoint(tables, topics, 1)
    for topic, rows in topics.records.items():
        await restore.take(topic, rows)
    await restore.take("steps", [(b"\x10a", None)])
    assert restore.marker() is None


async def test_empty_topics_restore_to_nothing() -> None:
    restore = Restore(store := MemoryStore())
    assert restore.empty
    assert await restore.finish() is None
    assert LaneTables(PLACE, store).marker is None
    assert store.get(FLUSHING_KEY) is None


async def test_a_restore_that_dies_half_way_leaves_nothing_to_believe() -> None:
    disk, topics = MemoryDisk(), Topics()
    tables = LaneTables(PLACE, MemoryStore())
    for n in range(3_000):
        tables.runs.put(f"{n:05}", run(f"{n:05}"))
    tables.promote()
    await checkpoint(tables, topics, 1)
    await Restore(MemoryStore(disk)).take("steps", topics.records["steps"])
    assert len(disk.rows) > 1_000
    assert dump(LaneTables(PLACE, MemoryStore(disk))) == dump(LaneTables(PLACE, MemoryStore()))


@pytest.mark.parametrize("key", [b"\x7fx", b"\x20timer", b"\x32" + b"x" * 16, b""])
async def test_a_foreign_key_in_a_compacted_topic_is_refused(key: bytes) -> None:
    topic = "keys" if key[:1] == b"\x32" else "steps"
    with pytest.raises(Corruption, match="keys of its tables"):
        await Restore(MemoryStore()).take(topic, [(key, b"x")])
