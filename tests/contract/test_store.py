"""Do all stores mean the same?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.errors import InternalError, LogLocked
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.state.rocksdb import CONDEMNED, RocksBudget, RocksStore
from millstream.state.store import Store

Open = Callable[[], Store]


@pytest.fixture(params=["memory", "rocksdb"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store again and again; the one before is closed first, if the test has not."""
    disk, budget = MemoryDisk(), RocksBudget()
    opened: list[Store] = []

    def open_again() -> Store:
        if opened:
            opened.pop().close()
        store: Store = MemoryStore(disk) if request.param == "memory" else RocksStore(tmp_path / "lane-0", budget)
        opened.append(store)
        return store

    yield open_again
    for store in opened:
        store.close()


def test_what_was_written_is_read_and_what_was_deleted_is_not(open_store: Open) -> None:
    store = open_store()
    store.write([(b"a", b"1"), (b"b", b""), (b"c", b"3")])
    store.write([(b"a", b"2"), (b"c", None), (b"never", None)])
    assert [store.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"2", b"", None, None]


def test_the_last_change_of_a_key_in_one_write_wins(open_store: Open) -> None:
    store = open_store()
    store.write([(b"a", b"1"), (b"a", None), (b"b", None), (b"b", b"2")])
    assert (store.get(b"a"), store.get(b"b")) == (None, b"2")


def test_a_scan_is_in_key_order_within_its_bounds_and_its_limit(open_store: Open) -> None:
    store = open_store()
    store.write([(bytes((n, m)), b"%d" % m) for n in (3, 1, 2) for m in (9, 0, 255)])
    expected = [b"\x01\x09", b"\x01\xff", b"\x02\x00", b"\x02\x09", b"\x02\xff"]
    assert [key for key, _ in store.scan(b"\x01\x09", b"\x03", 10)] == expected
    assert store.scan(b"\x02", b"\x03", 2) == [(b"\x02\x00", b"0"), (b"\x02\x09", b"9")]
    assert store.scan(b"\x04", b"\x05", 2) == []
    store.write([(b"\x02\x00", None), (b"\x02\x01", b"new")])
    assert store.scan(b"\x02", b"\x03", 1) == [(b"\x02\x01", b"new")]


def test_a_closed_store_opens_with_everything_in_it(open_store: Open) -> None:
    open_store().write([(b"a", b"1")])
    assert open_store().get(b"a") == b"1"


def test_a_snapshot_stays_as_it_was(open_store: Open) -> None:
    store = open_store()
    store.write([(b"a", b"1"), (b"b", b"1")])
    snapshot = store.snapshot()
    store.write([(b"a", None), (b"b", b"2"), (b"c", b"2")])
    for _ in range(2):
        assert [snapshot.get(key) for key in (b"a", b"b", b"c")] == [b"1", b"1", None]
        assert snapshot.scan(b"a", b"z", 10) == [(b"a", b"1"), (b"b", b"1")]
        assert snapshot.scan(b"b", b"z", 1) == [(b"b", b"1")]
        store.write([(b"%d" % n, b"x" * 1_000) for n in range(1_000)])
    snapshot.close()


def test_a_wiped_store_is_empty_and_goes_on(open_store: Open) -> None:
    store = open_store()
    store.write([(b"a", b"1")])
    snapshot = store.snapshot()
    store.wipe()
    snapshot.close()
    assert store.scan(b"", b"\xff", 10) == []
    store.write([(b"b", b"2")])
    assert open_store().scan(b"", b"\xff", 10) == [(b"b", b"2")]


def test_a_closed_store_refuses_to_be_used(open_store: Open) -> None:
    store = open_store()
    open_store()
    with pytest.raises(InternalError, match="closed"):
        store.get(b"a")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    writes=st.lists(
        st.lists(st.tuples(st.binary(min_size=1, max_size=2), st.none() | st.binary(max_size=3)), max_size=5),
        max_size=8,
    ),
    bounds=st.tuples(st.binary(max_size=2), st.binary(max_size=2)),
    limit=st.integers(1, 5),
)
def test_a_store_is_a_sorted_dictionary(
    open_store: Open,
    writes: list[list[tuple[bytes, bytes | None]]],
    bounds: tuple[bytes, bytes],
    limit: int,
) -> None:
    store = open_store()
    store.wipe()
    model: dict[bytes, bytes] = {}
    for changes in writes:
        store.write(changes)
        for key, value in changes:
            model.pop(key, None)
            if value is not None:
                model[key] = value
    start, end = bounds
    assert store.scan(start, end, limit) == sorted((k, v) for k, v in model.items() if start <= k < end)[:limit]
    assert store.scan(b"", b"\xff\xff\xff", 100) == sorted(model.items())


def test_a_memory_disk_loses_whole_writes_from_the_end() -> None:
    disk = MemoryDisk()
    store = MemoryStore(disk)
    store.write([(b"a", b"0")])
    disk.sync()
    store.write([(b"a", b"1"), (b"b", b"1")])
    store.write([(b"a", None), (b"b", b"2"), (b"b", b"3")])
    assert disk.unsynced == 2
    disk.lose_unsynced(1)
    assert store.scan(b"", b"\xff", 9) == [(b"a", b"1"), (b"b", b"1")]
    disk.lose_unsynced(0)
    assert store.scan(b"", b"\xff", 9) == [(b"a", b"0")]


def test_rocksdb_killed_without_closing_keeps_what_was_written(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from millstream.state.rocksdb import *\n"
        "RocksStore(Path(sys.argv[1]), RocksBudget()).write([(b'a', b'1')]); os._exit(9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "db")], env=environment, check=False, timeout=60)
    store = RocksStore(tmp_path / "db", RocksBudget())
    assert store.get(b"a") == b"1"
    store.close()


def test_rocksdb_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "db", RocksBudget())
    store.write([(b"a", b"1")])
    with pytest.raises(LogLocked, match="only user"):
        RocksStore(tmp_path / "db", RocksBudget())
    assert store.get(b"a") == b"1"
    store.close()


@pytest.mark.parametrize("broken", ["CURRENT", CONDEMNED])
def test_a_broken_rocksdb_is_moved_aside_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    for _ in range(2):  # The second time there is one aside already.
        store = RocksStore(tmp_path / "db", RocksBudget())
        store.write([(b"a", b"1")])
        store.close()
        (tmp_path / "db" / broken).write_bytes(b"nonsense")
        again = RocksStore(tmp_path / "db", RocksBudget())
        assert again.get(b"a") is None
        again.close()
    assert caplog.text.count("lane store moved aside") == 2
    assert sorted(os.listdir(tmp_path)) == ["db", "db.damaged"]


def test_a_condemned_store_is_empty_when_it_is_opened_again(open_store: Open) -> None:
    store = open_store()
    store.write([(b"a", b"1")])
    assert "a row is not what was written" in str(store.condemn("a row is not what was written"))
    store = open_store()
    assert store.get(b"a") is None
    store.write([(b"a", b"2")])
    assert open_store().get(b"a") == b"2"
