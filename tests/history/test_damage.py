"""A damaged index heals: whoever meets the damage has it moved aside and folded anew, and the log says so once."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec
import pytest

from millstream.api.reading.reads import Reads
from millstream.errors import DiskFull, LogUnavailable
from millstream.history.damage import HistoryDamaged, condemn, is_condemned, move_aside
from millstream.history.fold import Changes
from millstream.history.index import FORMAT, Folded, Index, prepare
from millstream.history.queries import Queries
from millstream.history.seen import Page, RunFilter
from tests.disks import fill, flip, small_disk

RUNS = 400


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """An index with something in every page, written back into one file."""
    path = tmp_path / "whole" / "i.db"
    prepare(path)
    index = Index(path)
    index.apply(Changes(), [Folded("g.journal", 0, 17, b"owner", 3)])
    index.close()
    rng = Random(4)
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO function VALUES (1, 'shop-fulfil', 'shop', 'Fulfil')")
        rows = [
            (n, f"run{n:04d}", 1, n % 5, 5, 0, f"e{n}", "n", "", b"", rng.randbytes(90), msgspec.msgpack.encode([]), 0)
            for n in range(1, RUNS)
        ]
        db.executemany("INSERT INTO run VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path


def copy(whole: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(whole, folder / "i.db")
    return folder / "i.db"


def use(path: Path) -> None:
    """All that a writer does in its day. Raises HistoryDamaged, or nothing."""
    index = Index(path)
    try:
        index.positions()
        list(index.open_runs())
        index.apply(Changes(), [Folded("g.journal", 0, 18, b"owner", 4)])
        while index.forget(1 << 42):
            pass
    finally:
        index.close()


def look(path: Path) -> None:
    """All that readers ask. Raises LogUnavailable, or nothing."""
    reads = Reads(path)
    try:
        for question in QUESTIONS:
            reads._answer(question)
    finally:
        reads.close()


def _runs(queries: Queries) -> None:
    runs, _ = queries.runs(RunFilter(statuses=("Running",)), Page(limit=200))
    for seen in runs:
        queries.run(seen.run)


QUESTIONS: Sequence[Callable[[Queries], object]] = (
    Queries.positions,
    Queries.tally,
    Queries.scans,
    _runs,
    lambda queries: queries.event("e7"),
    lambda queries: queries.runs_of_event("e7", Page()),
)


def test_an_index_damaged_anywhere_is_used_or_healed(whole: Path, tmp_path: Path) -> None:
    size = whole.stat().st_size
    rng = Random(5)
    places = {*range(0, 100, 7), 18, 19, *range(100, 112), *range(200, 2_600, 293), size - 1}
    places |= {page * 8_192 + at for page in range(min(size // 8_192, 9)) for at in (0, 1, 3, 5, 8, 100)}
    places |= {rng.randrange(size) for _ in range(60)}
    healed = 0
    for at in sorted(places):
        path = copy(whole, tmp_path / "damaged")
        flip(path, at)
        prepare(path)
        for try_it in (look, use):
            try:
                try_it(path)
            except LogUnavailable:
                pass  # Readers say "ask again", and have it healed.
            except HistoryDamaged:
                condemn(path)
        if is_condemned(path):
            healed += 1
            move_aside(path, "a byte was flipped")
            prepare(path)
            use(path)
            look(path)
    assert healed >= 30


def test_a_place_that_is_not_what_was_written_is_damage(whole: Path) -> None:
    with sqlite3.connect(whole) as db:
        db.execute("UPDATE position SET seq = 4")
        db.commit()
    db.close()
    index = Index(whole)
    with pytest.raises(HistoryDamaged, match="checksum"):
        index.positions()
    index.close()


def test_a_reader_that_meets_damage_has_it_healed_and_reads_the_new_one(whole: Path) -> None:
    queries = Queries(whole)
    assert queries.run("run0007") is not None
    with sqlite3.connect(whole) as db:
        db.execute("UPDATE run SET event = CAST(x'ff80' AS TEXT) WHERE run = 'run0008'")
        db.commit()
    db.close()
    with pytest.raises(LogUnavailable, match=r"is damaged.*Ask again"):
        queries.run("run0008")
    assert is_condemned(whole)
    index_raises_and_heals(whole)
    assert queries.run("run0007") is None  # The new one is empty, and was opened by itself.
    queries.close()
    assert {"i.db", "i.db.damaged"} == {name for name in os.listdir(whole.parent) if name[-4:-3] != "-"}


def index_raises_and_heals(path: Path) -> None:
    with pytest.raises(HistoryDamaged):
        Index(path)
    move_aside(path, "a test")
    prepare(path)


async def test_a_trail_that_cannot_be_decoded_is_healed_too(whole: Path) -> None:
    with sqlite3.connect(whole) as db:
        db.execute("UPDATE run SET trail = x'c1' WHERE run = 'run0008'")
        db.commit()
    db.close()
    reads = Reads(whole)
    with pytest.raises(LogUnavailable, match="is damaged"):
        await reads.status_of("run0008")
    assert is_condemned(whole)
    reads.close()


def test_dying_while_it_is_moved_aside_begins_it_again(whole: Path) -> None:
    condemn(whole)
    whole.with_name("i.db-wal").write_bytes(b"pages of the old one")
    prepare(whole)  # By the parent of the next writer: it touches nothing.
    index_raises_and_heals(whole)
    use(whole)


def test_a_full_disk_damages_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "3m") as disk:
        path = disk / "i.db"
        filler = fill(disk)
        prepare(path)  # Says so, and is tried again.
        with pytest.raises(LogUnavailable):
            Index(path)
        filler.unlink()
        index = Index(path)
        filler = fill(disk)
        with pytest.raises(DiskFull):
            index.apply(Changes(), [Folded("g.journal", p, 7) for p in range(20_000)])
        assert not is_condemned(path)
        filler.unlink()
        index.apply(Changes(), [Folded("g.journal", 0, 9)])
        assert index.positions()
        index.close()


def test_a_reader_waits_for_an_index_that_is_being_made(tmp_path: Path) -> None:
    path = tmp_path / "i.db"
    queries = Queries(path)
    with pytest.raises(LogUnavailable, match="not there yet"):
        queries.tally()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        with pytest.raises(LogUnavailable, match=f"its format is 0, not {FORMAT}"):
            queries.tally()
    db.close()
    assert not is_condemned(path)
    prepare(path)
    assert queries.tally()["started"] == 0
    queries.close()
