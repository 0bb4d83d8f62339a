"""Do the layers of a table show what they should, in flight, durable and stored?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from millstream.errors import Corruption, InternalError
from millstream.model.place import Place
from millstream.model.rows import AppRow, CounterRow, KeptAtRow, SeenRow, StepRow, TimerRow
from millstream.state import layers
from millstream.state.flush import FLUSH_BATCH_CHANGES_MAX, SLICE_ROWS, SLICES_MAX
from millstream.state.keyspace import FLUSHING_KEY, KEYSPACE, MARKS
from millstream.state.marker import Marker, decode_marker, encode_marker
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.state.store import Change, StoreBusy
from millstream.state.tables import LaneTables
from tests.state.rows import ONE_OF_EACH, run

PLACE = Place("shop", 0, 8)


def marker(offset: int) -> Marker:
    return Marker("shop.journal", offset, b"owner-01", offset)


class CountingStore(MemoryStore):
    """A memory store that notes the size of every write, and is busy or broken when told."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        super().__init__(disk)
        self.writes: list[int] = []
        self.busy = 0
        self.fail_after: int | None = None

    def write(self, changes: Sequence[Change]) -> None:
        if self.busy:
            self.busy -= 1
            raise StoreBusy("compacting")
        if self.fail_after is not None and len(self.writes) >= self.fail_after:
            raise OSError("no room")
        self.writes.append(len(changes))
        super().write(changes)


class ReadStore(MemoryStore):
    """A memory store that counts the rows its scans read."""

    rows_read = 0

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = super().scan(start, end, limit)
        self.rows_read += len(found)
        return found


def test_what_is_in_flight_is_seen_at_once_but_not_by_the_durable_view() -> None:
    tables = LaneTables(PLACE, MemoryStore())
    tables.runs.put("a", run("a"))
    assert tables.runs.get("a") == run("a")
    assert tables.durable.runs.get("a") is None
    assert tables.durable.runs.scan(limit=9) == []
    tables.promote()
    assert tables.durable.runs.get("a") == run("a")
    assert tables.durable.runs.scan(limit=9) == [("a", run("a"))]


async def test_a_dropped_record_leaves_every_layer_as_it_was() -> None:
    tables = LaneTables(PLACE, MemoryStore())
    for layer in ("stored", "overlay"):
        tables.runs.put(layer, run(layer))
        tables.promote()
        if layer == "stored":
            await tables.flush(marker(1))
    for key in ("stored", "overlay", "new"):
        tables.runs.put(key, run(key, 7))
    tables.runs.delete("overlay")
    tables.drop()
    assert [tables.runs.get(key) for key in ("stored", "overlay", "new")] == [run("stored"), run("overlay"), None]
    assert tables.runs.scan(limit=9) == [("overlay", run("overlay")), ("stored", run("stored"))]


def test_a_version_changes_with_every_put_delete_promote_and_drop() -> None:
    tables = LaneTables(PLACE, MemoryStore())
    seen = [tables.apps.version]
    tables.apps.put("a", AppRow("a", b"{}", 1))
    seen.append(tables.apps.version)
    tables.promote()
    seen.append(tables.apps.version)
    tables.apps.delete("a")
    seen.append(tables.apps.version)
    tables.drop()
    seen.append(tables.apps.version)
    assert len(set(seen)) == 5
    assert tables.runs.version == 0


async def test_a_scan_merges_all_layers_in_key_order() -> None:
    tables = LaneTables(PLACE, MemoryStore())

    def put(at_ms: int) -> None:
        tables.timers.put((at_ms, "sleep", "r", "s"), TimerRow(at_ms, "sleep", "r", "s"))

    for at_ms in range(0, 40, 2):
        put(at_ms)
    tables.promote()
    await tables.flush(marker(1))
    for at_ms in (1, 5, 9):
        put(at_ms)
    tables.timers.delete((4, "sleep", "r", "s"))
    tables.promote()
    put(3)
    tables.timers.delete((5, "sleep", "r", "s"))
    assert [key[0] for key, _ in tables.timers.scan(limit=6)] == [0, 1, 2, 3, 6, 8]
    assert [key[0] for key, _ in tables.durable.timers.scan(limit=6)] == [0, 1, 2, 5, 6, 8]
    assert [key[0] for key, _ in tables.timers.scan((8, "", "", ""), limit=3)] == [8, 9, 10]
    assert len(tables.timers.scan((8, "sleep", "r", "s"), limit=100)) == 17


async def test_a_scan_passes_over_more_deleted_rows_than_a_page_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "SCAN_PAGE_ROWS", 3)
    tables = LaneTables(PLACE, MemoryStore())
    for n in range(20):
        tables.counters.put(f"{n:02}", CounterRow(f"{n:02}", n))
    tables.promote()
    await tables.flush(marker(1))
    for n in range(18):
        tables.counters.delete(f"{n:02}")
    assert [key for key, _ in tables.counters.scan(limit=2)] == ["18", "19"]


def test_a_scan_of_no_rows_is_refused() -> None:
    with pytest.raises(InternalError, match="at least 1"):
        LaneTables(PLACE, MemoryStore()).runs.scan(limit=0)


async def test_rows_of_one_place_are_found_among_many_without_a_look_at_the_others() -> None:
    tables = LaneTables(PLACE, store := ReadStore())
    for n in range(3_000):
        row = KeptAtRow(f"place{n % 1_000}", n, "e")
        tables.kept_at.add((row.place, n, "e"), row)
        if n == 1_499:
            tables.promote()
            await tables.flush(marker(1))
    tables.promote()
    store.rows_read = 0
    assert [key[1] for key, _ in tables.kept_at.within("place7", limit=500)] == [7, 1_007, 2_007]
    assert [key[1] for key, _ in tables.kept_at.within("place7", ("place7", 8, ""), limit=1)] == [1_007]
    assert tables.kept_at.within("place", limit=500) == []
    assert store.rows_read <= 3


def test_a_table_that_is_not_grouped_says_so() -> None:
    with pytest.raises(InternalError, match="not say that it is grouped"):
        LaneTables(PLACE, MemoryStore()).runs.within("a", limit=1)


def test_the_durable_view_refuses_to_be_written() -> None:
    tables = LaneTables(PLACE, MemoryStore())
    with pytest.raises(InternalError, match="only folds write"):
        tables.durable.runs.put("a", run("a"))
    with pytest.raises(InternalError, match="only folds write"):
        tables.durable.runs.add("a", run("a"))
    with pytest.raises(InternalError, match="only folds write"):
        tables.durable.runs.delete("a")


async def test_a_flush_stores_every_table_and_its_marker() -> None:
    disk = MemoryDisk()
    tables = LaneTables(PLACE, MemoryStore(disk))
    for spec, table in zip(KEYSPACE, tables.all, strict=True):
        row = ONE_OF_EACH[spec.name]
        table.put(spec.key_of()(row), row)
    tables.promote()
    assert await tables.flush(marker(3)) == len(KEYSPACE)
    again = LaneTables(PLACE, MemoryStore(disk))
    assert again.marker == tables.marker == marker(3)
    for spec, table in zip(KEYSPACE, again.all, strict=True):
        row = ONE_OF_EACH[spec.name]
        assert table.get(spec.key_of()(row)) == row
        assert table.scan(limit=2) == [(spec.key_of()(row), row)]


async def test_what_is_in_flight_is_never_flushed() -> None:
    disk = MemoryDisk()
    tables = LaneTables(PLACE, MemoryStore(disk))
    tables.runs.put("a", run("a"))
    await tables.flush(marker(1))
    assert LaneTables(PLACE, MemoryStore(disk)).runs.get("a") is None


async def test_a_flush_writes_what_was_acknowledged_when_it_was_asked_for() -> None:
    disk = MemoryDisk()
    tables = LaneTables(PLACE, MemoryStore(disk))
    tables.runs.put("a", run("a"))
    tables.promote()
    task = asyncio.create_task(tables.flush(marker(1)))
    tables.runs.put("a", run("a", 2))
    tables.runs.put("b", run("b"))
    tables.promote()  # Before the task's first step.
    await task
    again = LaneTables(PLACE, MemoryStore(disk))
    assert (again.runs.get("a"), again.runs.get("b")) == (run("a"), None)
    assert (tables.runs.get("a"), tables.overlay_rows) == (run("a", 2), 2)


async def test_a_lane_goes_on_while_a_flush_writes() -> None:
    tables = LaneTables(PLACE, store := CountingStore())
    for n in range(3_000):
        tables.runs.put(f"{n:05}", run(f"{n:05}"))
    tables.promote()
    flush = asyncio.create_task(tables.flush(marker(1)))
    turns = 0
    while not flush.done():
        key = f"{turns:05}"
        assert tables.runs.get(key) == run(key)
        tables.runs.put(key, run(key, 9))
        assert tables.durable.runs.get(key) == run(key)
        assert len(tables.runs.scan("02990", limit=20)) == 10
        if turns % 2:
            tables.promote()
        else:
            tables.drop()
            assert tables.runs.get(key) == run(key)
        turns += 1
        await asyncio.sleep(0)
    assert await flush == 3_000
    assert turns > 10
    assert max(store.writes) <= FLUSH_BATCH_CHANGES_MAX
    assert tables.overlay_rows == turns // 2


@pytest.mark.parametrize(
    ("brought", "fewest", "most"),
    [(SLICE_ROWS // 20, 100, 110), (3 * SLICE_ROWS, SLICES_MAX, SLICES_MAX + 10)],
    ids=["few come: small slices", "many come: no more slices than its limit"],
)
async def test_a_flush_takes_slices_by_what_comes_beside_it(brought: int, fewest: int, most: int) -> None:
    tables = LaneTables(PLACE, CountingStore())
    for n in range(100 * SLICE_ROWS):
        tables.runs.put(f"{n:05}", run(f"{n:05}"))
    tables.promote()
    flush = asyncio.create_task(tables.flush(marker(1)))
    turns = 0
    while not flush.done():
        for n in range(brought):
            tables.runs.put(f"t{turns}-{n}", run(f"t{turns}-{n}"))
        tables.promote()
        turns += 1
        await asyncio.sleep(0)
    assert fewest <= turns <= most


async def test_rows_that_came_and_went_never_reach_the_store() -> None:
    tables = LaneTables(PLACE, store := CountingStore())
    assert tables.runs.get("a") is None
    tables.runs.put("a", run("a"))  # The store was asked before: nothing is left of it, not even in the overlay.
    tables.runs.put("b", run("b"))  # Not asked.
    tables.promote()
    tables.runs.delete("a")
    tables.runs.delete("b")
    tables.promote()
    assert tables.overlay_rows == 1
    assert await tables.flush(marker(1)) == 0
    assert store.writes == [3]
    assert [key[:1] for key in store.disk.rows] == [b"\x00", b"\x00"]


def test_added_rows_that_came_and_went_leave_nothing_in_memory() -> None:
    tables = LaneTables(PLACE, MemoryStore())
    for n in range(100):
        tables.runs.add(f"{n}", run(f"{n}"))
        tables.promote()
        tables.runs.delete(f"{n}")
        tables.promote()
        assert tables.runs.get(f"{n}") is None
    assert tables.overlay_rows == len(tables.runs._live) == 0
    assert len(tables.runs._absent) == 100  # What was asked for just now; at most ABSENT_KEYS_MAX of them.


async def test_a_row_deleted_and_added_again_while_a_flush_fails_stays_deleted() -> None:
    store = CountingStore()
    tables = LaneTables(PLACE, store)
    tables.runs.put("a", run("a"))
    tables.promote()
    await tables.flush(marker(1))
    tables.runs.delete("a")
    tables.promote()
    store.fail_after = len(store.writes)
    failing = tables.flush(marker(2))
    tables.runs.add("a", run("a", 2))
    tables.promote()
    tables.runs.delete("a")
    tables.promote()
    with pytest.raises(OSError, match="no room"):
        await failing
    store.fail_after = None
    flush = tables.flush(marker(3))
    assert tables.runs.get("a") is None
    await flush
    assert LaneTables(PLACE, MemoryStore(store.disk)).runs.get("a") is None


async def test_a_second_flush_meanwhile_is_refused() -> None:
    tables = LaneTables(PLACE, MemoryStore())
    first = tables.flush(marker(1))
    with pytest.raises(InternalError, match="under way"):
        await tables.flush(marker(2))
    await first
    await tables.flush(marker(2))


async def test_a_busy_store_is_asked_again() -> None:
    store = CountingStore()
    store.busy = 3
    tables = LaneTables(PLACE, store)
    tables.runs.put("a", run("a"))
    tables.promote()
    assert await tables.flush(marker(1)) == 1


async def test_a_failed_flush_is_made_good_by_the_next() -> None:
    store = CountingStore()
    tables = LaneTables(PLACE, store)
    for n in range(3_000):
        tables.runs.put(f"{n:05}", run(f"{n:05}"))
    tables.promote()
    store.fail_after = 1
    with pytest.raises(OSError, match="no room"):
        await tables.flush(marker(1))
    assert store.get(FLUSHING_KEY) is not None
    store.fail_after = None
    for n in range(1_500):
        tables.runs.delete(f"{n:05}")
    tables.promote()
    assert tables.marker is None
    await tables.flush(marker(2))
    again = LaneTables(PLACE, MemoryStore(store.disk))
    assert again.marker == marker(2)
    assert [key for key, _ in again.runs.scan(limit=5_000)] == [f"{n:05}" for n in range(1_500, 3_000)]
    assert len(store.scan(MARKS, b"\x02", 9_999)) == 1_500  # Those born and deleted left no mark.


async def test_a_torn_flush_is_found_at_the_next_open_and_wiped(caplog: pytest.LogCaptureFixture) -> None:
    disk = MemoryDisk()
    store = CountingStore(disk)
    tables = LaneTables(PLACE, store)
    tables.runs.put("before", run("before"))
    tables.promote()
    await tables.flush(marker(1))
    for n in range(3_000):
        tables.runs.put(f"{n:05}", run(f"{n:05}"))
    tables.promote()
    flush = asyncio.create_task(tables.flush(marker(2)))
    for _ in range(1_000):
        if len(store.writes) == 2:
            break
        await asyncio.sleep(0)
    flush.cancel()  # As a crash leaves it.
    await asyncio.wait([flush])
    again = LaneTables(PLACE, MemoryStore(disk))
    assert again.marker is None
    assert again.runs.scan(limit=9) == []
    assert "torn flush" in caplog.text


async def test_a_small_flush_cannot_be_torn() -> None:
    disk = MemoryDisk()
    tables = LaneTables(PLACE, store := CountingStore(disk))
    for n in range(900):
        tables.runs.put(f"{n:05}", run(f"{n:05}"))
    tables.promote()
    await tables.flush(marker(1))
    assert len(store.writes) == 1
    disk.lose_unsynced(0)
    assert LaneTables(PLACE, MemoryStore(disk)).marker is None


async def test_clean_rows_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_GENERATION", 50)
    tables = LaneTables(PLACE, MemoryStore())
    for n in range(1_000):
        tables.runs.put(f"{n:05}", run(f"{n:05}"))
    tables.promote()
    await tables.flush(marker(1))
    held = tables.runs._live
    assert len(held) == 50
    for n in range(1_000):
        assert tables.runs.get(f"{n:05}") == run(f"{n:05}")
        assert len(held) <= 100


async def test_a_large_payload_is_not_kept_once_the_store_has_it() -> None:
    tables = LaneTables(PLACE, MemoryStore())
    step = StepRow("r", "s", "n", "run", 5, data=b"x" * (layers.CLEAN_PAYLOAD_BYTES_MAX + 1))
    tables.steps.put(("r", "s"), step)
    tables.promote(len(step.data))
    assert tables.overlay_bytes > len(step.data)
    await tables.flush(marker(1))
    assert tables.overlay_bytes == 0
    assert tables.steps.get(("r", "s")) == step
    assert len(tables.steps._live) == 0


def test_what_is_known_to_be_absent_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "ABSENT_KEYS_MAX", 10)
    tables = LaneTables(PLACE, MemoryStore())
    for n in range(100):
        assert tables.seen.get(b"%016d" % n) is None
    assert len(tables.seen._absent) == 10


async def test_a_row_under_a_foreign_key_stops_the_flush() -> None:
    tables = LaneTables(PLACE, MemoryStore())
    tables.seen.put(b"a" * 16, SeenRow(b"b" * 16, 1))
    tables.runs.put("a", run("b"))
    tables.promote()
    with pytest.raises(Corruption, match="its own key"):
        await tables.flush(marker(1))


def test_a_marker_survives_its_bytes_and_nothing_else_passes_for_one() -> None:
    assert decode_marker(encode_marker(marker(7))) == marker(7)
    for raw in (b"", b"\x01", b"\x02" + encode_marker(marker(7))[1:], encode_marker(marker(7))[:20]):
        with pytest.raises(Corruption, match="marker cannot be read"):
            decode_marker(raw)
