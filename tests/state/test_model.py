"""Is a lane's state, through every crash, flush and checkpoint, what a plain dictionary says?

The model holds the rows after each record: ``history[n]`` after n of them. A crash may take the store back to any
earlier marker, or to nothing; the journal (here: the recorded puts) is then folded again from there, as a lane does.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.model.rows import KeptAtRow, RunRow, TimerRow
from millstream.state import checkpoint, flush
from millstream.state.checkpoint import Checkpoint
from millstream.state.dump import dump
from millstream.state.memory import MemoryDisk, MemoryStore
from millstream.state.restore import Restore
from millstream.state.rocksdb import RocksBudget, RocksStore
from millstream.state.store import Store
from millstream.state.tables import LaneTables
from tests.state.rows import run
from tests.state.test_checkpoint import Topics
from tests.state.test_tables import PLACE, marker

RUNS = st.sampled_from("abcdefgh")
Put = tuple[str, int | None]
RECORD = st.lists(st.tuples(RUNS, st.none() | st.integers(0, 9)), min_size=1, max_size=6)
TURNS = st.integers(0, 8)
PLACES = ("p", "p\x00", "p\x00q")
"""Groups of rows, one with a key that begins as the other's."""
STEP = st.one_of(
    st.tuples(st.sampled_from(["record", "record", "record", "void"]), RECORD),
    st.tuples(st.sampled_from(["flush", "commit"]), st.lists(RECORD, max_size=3)),
    st.tuples(st.sampled_from(["tear", "tear commit", "power"]), TURNS),
    st.tuples(st.sampled_from(["begin", "begin", "abandon", "kill", "restore"]), st.none()),
)
STEPS = st.lists(STEP, min_size=10, max_size=40)


def place_of(id: str) -> str:
    """The group of a run's row."""
    return PLACES[ord(id) % 3]


class World:
    """A lane's state, its model, and its log."""

    def __init__(self, open_store: Callable[[], Store], disk: MemoryDisk | None) -> None:
        self.open_store, self.disk = open_store, disk
        self.store = open_store()
        self.tables = LaneTables(PLACE, self.store)
        self.topics = Topics()
        self.journal: list[list[Put]] = []
        self.model: dict[str, int] = {}
        self.checkpoint: Checkpoint | None = None

    def fold(self, record: list[Put]) -> None:
        for id, dispatch in record:
            held = self.tables.runs.get(id)
            timer = (1, "sleep", id, "")
            at = (place_of(id), 1, id)
            if dispatch is None:
                self.tables.runs.delete(id)
                self.tables.timers.delete(timer)
                self.tables.kept_at.delete(at)
                continue
            # A counter: folded twice, or over a row of another moment, it shows.
            if held is None:
                self.tables.runs.add(id, run(id, dispatch))
                self.tables.kept_at.add(at, KeptAtRow(*at))
            else:
                self.tables.runs.put(id, run(id, dispatch + held.dispatch))
            self.tables.timers.put(timer, TimerRow(*timer))

    def record(self, record: list[Put]) -> None:
        self.fold(record)
        self.tables.promote()
        self.journal.append(record)
        for id, dispatch in record:
            if dispatch is None:
                self.model.pop(id, None)
            else:
                self.model[id] = self.model.get(id, 0) + dispatch

    def reopen(self) -> None:
        """A new owner: what the store says, else what the topics say, then the journal."""
        if self.checkpoint is not None:
            self.checkpoint.abandoned()
            self.checkpoint = None
        self.store = self.open_store()
        self.tables = LaneTables(PLACE, self.store)

    async def catch_up(self) -> None:
        if self.tables.marker is None:
            restore = Restore(self.store)
            for topic, rows in self.topics.records.items():
                await restore.take(topic, rows)
            await restore.finish()
            self.tables = LaneTables(PLACE, self.store)
        done = self.tables.marker.offset if self.tables.marker is not None else 0
        for record in self.journal[done:]:
            self.tables.mark_history_unknown()  # As a restore does: the topics may know more than an old disk.
            self.fold(record)
            self.tables.promote()

    async def meanwhile(self, work: Coroutine[None, None, object], records: list[list[Put]]) -> None:
        """The lane goes on, a record a turn, while this is done."""
        task = asyncio.create_task(work)
        for record in records:
            await asyncio.sleep(0)
            self.record(record)
            self.check()
        await task

    async def tear(self, work: Coroutine[None, None, object], turns: int) -> None:
        """Die in the middle of this."""
        task = asyncio.create_task(work)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        self.reopen()
        await self.catch_up()

    async def commit(self, made: Checkpoint) -> None:
        await self.topics.send(made)
        await made.committed()

    async def step(self, what: str, details: object) -> None:
        end = marker(len(self.journal))
        match what, details:
            case "record", list():
                self.record(details)
            case "void", list():
                self.fold(details)
                self.check_durable()
                self.tables.drop()
            case "flush", list():
                await self.meanwhile(self.tables.flush(end), details)
            case "begin", _ if self.checkpoint is None:
                self.checkpoint = await Checkpoint.begin(self.tables, end)
            case "commit", list() if self.checkpoint is not None:
                await self.meanwhile(self.commit(self.checkpoint), details)
                self.checkpoint = None
            case "tear commit", int() if self.checkpoint is not None:
                await self.topics.send(self.checkpoint)
                await self.tear(self.checkpoint.committed(), details)
            case "abandon", _ if self.checkpoint is not None:
                self.checkpoint.abandoned()
                self.checkpoint = None
            case "kill", _:
                self.reopen()
                await self.catch_up()
            case "tear", int():
                await self.tear(self.tables.flush(end), details)
            case "power", int() if self.disk is not None:
                self.disk.lose_unsynced(details)
                self.reopen()
                await self.catch_up()
            case "restore", _:
                self.reopen()
                self.store.wipe()
                self.tables = LaneTables(PLACE, self.store)
                await self.catch_up()

    def check(self) -> None:
        expected = [(id, self.model[id]) for id in sorted(self.model)]
        assert [(id, row.dispatch) for id, row in self.tables.runs.scan(limit=100)] == expected
        assert [key[2] for key, _ in self.tables.timers.scan(limit=100)] == sorted(self.model)
        assert len(self.tables.runs.scan("c", limit=2)) == min(2, sum(id >= "c" for id in self.model))
        for place in PLACES:
            at_place = [id for id in sorted(self.model) if place_of(id) == place]
            assert [key[2] for key, _ in self.tables.kept_at.within(place, limit=100)] == at_place
            assert [key[2] for key, _ in self.tables.kept_at.within(place, (place, 1, "c"), limit=2)] == [
                id for id in at_place if id >= "c"
            ][:2]
        for id in "abcdefgh":
            held: RunRow | None = self.tables.runs.get(id)
            assert (held.dispatch if held is not None else None) == self.model.get(id)
        self.check_durable()

    def check_durable(self) -> None:
        assert {id: row.dispatch for id, row in self.tables.durable.runs.scan(limit=100)} == self.model
        kept = [key[2] for place in PLACES for key, _ in self.tables.durable.kept_at.within(place, limit=100)]
        assert sorted(kept) == sorted(self.model)
        for id in "abcdefgh":
            held = self.tables.durable.runs.get(id)
            assert (held.dispatch if held is not None else None) == self.model.get(id)

    async def check_restored(self) -> None:
        """What the topics alone give is the table as it was at their checkpoint; here: a last one is made for it."""
        if self.checkpoint is not None:
            await self.step("commit", [])
        await self.step("begin", None)
        await self.step("commit", [])
        assert dump(await self.topics.restore()) == dump(self.tables)


async def _live(open_store: Callable[[], Store], disk: MemoryDisk | None, steps: list[tuple[str, object]]) -> None:
    world = World(open_store, disk)
    for what, details in steps:
        await world.step(what, details)
        world.check()
    await world.check_restored()


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a flush of a few rows has parts, and can be torn between them."""
    monkeypatch.setattr(flush, "FLUSH_BATCH_CHANGES_MAX", 7)
    monkeypatch.setattr(flush, "SLICE_ROWS", 2)
    monkeypatch.setattr(checkpoint, "CHUNK_ROWS", 3)
    monkeypatch.setattr(checkpoint, "UNMARK_ROWS", 3)


class TestMemory:
    """The memory store, whose disk can lose its tail."""

    @settings(max_examples=300)
    @given(steps=STEPS)
    def test_the_tables_are_what_a_dictionary_says(self, steps: list[tuple[str, object]]) -> None:
        disk = MemoryDisk()
        asyncio.run(_live(lambda: MemoryStore(disk), disk, steps))


class TestRocks:
    """RocksDB, closed and opened in the place of killed: the contract test kills one."""

    @settings(max_examples=25)
    @given(steps=STEPS)
    def test_the_tables_are_what_a_dictionary_says(self, steps: list[tuple[str, object]]) -> None:
        budget = RocksBudget()
        opened: list[Store] = []
        with tempfile.TemporaryDirectory() as directory:

            def open_store() -> Store:
                if opened:
                    opened.pop().close()
                opened.append(RocksStore(Path(directory) / "lane", budget))
                return opened[-1]

            asyncio.run(_live(open_store, None, steps))
            opened.pop().close()
