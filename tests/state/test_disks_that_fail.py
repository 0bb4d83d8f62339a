"""A store whose disk fails, for real: what passes throws nothing away, and damage is found, moved aside and said."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from millstream.errors import StoreDamaged, StoreFailed, StoreUnavailable
from millstream.state.memory import MemoryStore
from millstream.state.rocksdb import OPEN_AGAIN_S, RocksBudget, RocksStore
from millstream.state.store import Change, StoreBusy
from tests.disks import fill, flip, small_disk

ROW = 1_000
END = b"\xff"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", "12m") as mounted:
        yield mounted


def rows(start: int, count: int) -> list[Change]:
    return [(b"%08d" % n, Random(n).randbytes(ROW)) for n in range(start, start + count)]


def in_time(write: object, within_s: float = 5.0) -> None:
    """Try again as a lane does, until it works."""
    ends = time.monotonic() + within_s
    while True:
        try:
            write()  # type: ignore[operator]
            return
        except StoreUnavailable:
            assert time.monotonic() < ends
            time.sleep(OPEN_AGAIN_S)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process may open no more files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    held: list[int] = []
    try:
        while True:
            try:
                held.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        for handle in held:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_full_disk_refuses_writes_and_keeps_every_row(disk: Path) -> None:
    store = RocksStore(disk / "0", RocksBudget())
    store.write(rows(0, 100))
    snapshot = store.snapshot()
    filler = fill(disk)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="no room on the disk"):
            store.write(rows(100, 200))
        time.sleep(OPEN_AGAIN_S)
    filler.unlink()
    in_time(lambda: store.write(rows(100, 200)))
    assert store.scan(b"", END, 1_000) == rows(0, 300)
    with pytest.raises(StoreUnavailable, match="opened anew"):
        snapshot.get(b"00000000")
    store.close()
    assert RocksStore(disk / "0", RocksBudget()).scan(b"", END, 1_000) == rows(0, 300)
    assert sorted(os.listdir(disk)) == ["0"]


def test_closing_a_store_masks_no_error_before_it(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = RocksStore(disk / "0", RocksBudget())
    store.write(rows(0, 10))
    fill(disk)
    with pytest.raises(StoreUnavailable, match="no room on the disk"), closing(store):
        store.write(rows(10, 500))
    with pytest.raises(StoreUnavailable, match="no room on the disk"):
        RocksStore(disk / "0", RocksBudget())
    assert "moved aside" not in caplog.text


def test_a_process_without_descriptors_waits_and_throws_nothing_away(tmp_path: Path) -> None:
    directory = tmp_path / "0"
    store = RocksStore(directory, RocksBudget())
    store.write(rows(0, 1_000))
    written, refused = 1_000, ""
    with no_descriptors():
        while not refused and written < 100_000:  # A memtable that is full wants a file.
            try:
                store.write(rows(written, 1_000))
                written += 1_000
            except StoreBusy:
                time.sleep(0.01)
            except StoreUnavailable as error:
                refused = str(error)
    assert "no more files (ulimit -n)" in refused
    in_time(lambda: store.write(rows(written, 1_000)))
    found = [key for n in range(0, written + 1_000, 1_000) for key, _ in store.scan(b"%08d" % n, END, 1_000)]
    assert found == [key for key, _ in rows(0, written + 1_000)]
    store.close()
    with no_descriptors(), pytest.raises(StoreUnavailable, match="ulimit"):
        RocksStore(directory, RocksBudget())
    store = RocksStore(directory, RocksBudget())
    assert store.get(b"00000007") == rows(7, 1)[0][1]
    store.close()


def test_flipped_bytes_anywhere_are_found_by_whatever_reads_them(tmp_path: Path) -> None:
    """In files of every kind: what is read is what was written, or StoreDamaged. Never less, never something else."""
    whole = tmp_path / "whole"
    store = RocksStore(whole, RocksBudget())
    store.write(rows(0, 2_000))
    store.close()
    store = RocksStore(whole, RocksBudget())  # The log of the first becomes a file of rows.
    store.write(rows(2_000, 10))
    store.close()
    expected = rows(0, 2_010)
    rng = Random(14)
    files = [path for path in sorted(whole.iterdir()) if path.suffix in (".sst", ".log") or "MANIFEST" in path.name]
    assert any(path.suffix == ".sst" for path in files)
    healed = 0
    for path in files:
        size = path.stat().st_size
        for at in sorted({0, size - 1, size // 2, *(rng.randrange(size) for _ in range(6))} if size else ()):
            shutil.rmtree(tmp_path / "0", ignore_errors=True)
            shutil.copytree(whole, tmp_path / "0")
            flip(tmp_path / "0" / path.name, at)
            store = RocksStore(tmp_path / "0", RocksBudget())
            try:
                snapshot = store.snapshot()
                found = store.scan(b"", END, 3_000)
                # A log that ends early, or a store that was moved aside: its marker says how much of it there is.
                assert found == expected[: len(found)], (path.name, at)
                assert snapshot.scan(b"", END, 3_000) == found
                assert [snapshot.get(key) for key, _ in found[::50]] == [value for _, value in found[::50]]
            except StoreDamaged:
                healed += 1
                for read in (store.scan, snapshot.scan):
                    with pytest.raises(StoreDamaged, match="checksum"):
                        read(b"", END, 3_000)
            store.close()
            again = RocksStore(tmp_path / "0", RocksBudget())  # Opens, whole or empty, and takes rows.
            again.write(rows(5_000, 1))
            again.close()
    assert healed


def test_a_store_that_was_found_damaged_is_empty_when_it_is_opened_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = RocksStore(tmp_path / "0", RocksBudget())
    store.write(rows(0, 2_000))
    store.close()
    RocksStore(tmp_path / "0", RocksBudget()).close()
    (table,) = (tmp_path / "0").glob("*.sst")
    flip(table, 5_000)
    store = RocksStore(tmp_path / "0", RocksBudget())
    with pytest.raises(StoreDamaged, match=r"moved aside to .*0\.damaged"):
        store.scan(b"", END, 3_000)
    store.close()
    store = RocksStore(tmp_path / "0", RocksBudget())
    assert store.scan(b"", END, 3_000) == []
    store.close()
    assert caplog.text.count("lane store moved aside") == 1
    assert sorted(os.listdir(tmp_path)) == ["0", "0.damaged"]


def test_every_error_of_a_store_says_that_nothing_is_lost(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "0", RocksBudget())
    errors: list[StoreFailed] = [store.condemn("a byte flipped")]
    store.close()
    with no_descriptors(), pytest.raises(StoreUnavailable) as raised:
        RocksStore(tmp_path / "1", RocksBudget())
    errors.append(raised.value)
    assert all("othing is lost" in str(error) for error in errors)


def test_a_scan_that_meets_a_damaged_row_does_not_end_there() -> None:
    store = MemoryStore()
    store.write(rows(0, 5))
    (key, _), *_ = rows(3, 1)
    assert len(store.scan(b"", END, 10)) == 5
    store.disk.damaged.add(key)
    assert len(store.scan(b"", key, 10)) == 3
    with pytest.raises(StoreDamaged):
        store.scan(b"", END, 10)
