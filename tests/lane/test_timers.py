"""``lane/output/timers.py``: every timer of the table fires once its time has come, and few of them are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from millstream.core.timers import CANCEL, FINISH, RETRY, START, arm
from millstream.core.waits.homes import LOOK, MATCH
from millstream.lane.output import timers as module
from millstream.lane.output.timers import HORIZON_MS, Timers
from millstream.model.commands import FireTimer
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from tests.core.values import PLACE, START_MS
from tests.lane.rig import Here, until


class Bench:
    """Timers over a table; what fires leaves the table, as its fold does."""

    def __init__(self) -> None:
        self.here = Here()
        self.tables = LaneTables(PLACE, MemoryStore())
        self.fired: list[FireTimer] = []
        self.at_ms: list[int] = []
        self.late_s: list[float] = []
        self.can_accept_work = True
        self.can_decide = True
        self.timers = Timers(
            self.tables,
            self.here,
            self.fire,
            self.late_s.append,
            (lambda: self.can_decide, lambda: self.can_accept_work),
        )
        self.task: asyncio.Task[None] | None = None

    def fire(self, command: FireTimer) -> None:
        self.fired.append(command)
        self.at_ms.append(self.here.now_ms() - START_MS)
        self.tables.timers.delete((command.at_ms, command.kind, command.id, command.step))

    def arm(self, in_ms: int, id: str = "run", *, tell: bool = True, kind: str = RETRY) -> None:
        effect = arm(self.tables, START_MS + in_ms, kind, id, "s")
        self.tables.promote()
        if tell:
            self.timers.arm(effect.at_ms, effect.kind, effect.id, effect.step)

    def run(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self.timers.run())


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.timers.close()
    if made.task is not None:
        made.task.cancel()


async def test_timers_fire_at_their_time_in_order(bench: Bench) -> None:
    bench.run()
    await asyncio.sleep(0)
    for ms in (3_000, 1_000, 2_000):
        bench.arm(ms, str(ms))
    await until(lambda: len(bench.fired) == 3)
    assert [f.id for f in bench.fired] == ["1000", "2000", "3000"]
    assert bench.at_ms == [1_000, 2_000, 3_000]


async def test_what_lies_beyond_the_horizon_is_in_the_table_alone_and_fires_on_time(bench: Bench) -> None:
    bench.run()
    await asyncio.sleep(0)
    bench.arm(3 * HORIZON_MS)
    assert bench.timers.pending == 0
    await until(lambda: bench.fired)
    assert bench.at_ms == [3 * HORIZON_MS]


@pytest.mark.parametrize("kind", [START, FINISH, CANCEL, MATCH, LOOK])
async def test_what_ends_runs_or_looks_on_fires_while_the_executor_is_full(bench: Bench, kind: str) -> None:
    """Found by simulation: runs that hung in every body they had room for were never over by ``timeouts.finish``."""
    bench.can_accept_work = False
    bench.run()
    await asyncio.sleep(0)
    bench.arm(500, "starts work")
    bench.arm(1_000, "ends", kind=kind)
    await until(lambda: bench.fired)
    assert [(f.id, f.kind) for f in bench.fired] == [("ends", kind)] and bench.at_ms[0] <= 1_020
    bench.can_accept_work = True
    await until(lambda: len(bench.fired) == 2)


async def test_a_full_queue_or_disk_holds_all_of_them_back(bench: Bench) -> None:
    bench.can_accept_work = bench.can_decide = False
    bench.run()
    await asyncio.sleep(0)
    for kind in (RETRY, FINISH):
        bench.arm(1_000, kind, kind=kind)
    await asyncio.sleep(5)
    assert not bench.fired
    bench.can_accept_work = bench.can_decide = True
    await until(lambda: len(bench.fired) == 2)


async def test_a_timer_in_the_past_fires_at_once_and_says_how_late_it_is(bench: Bench) -> None:
    bench.arm(-5_000)
    bench.run()
    await until(lambda: bench.fired)
    assert bench.at_ms == [0]
    assert bench.late_s == [5.0]


async def test_timers_armed_before_and_while_the_table_is_loaded_are_not_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 2)
    for n in range(10):
        bench.arm(1_000 + n, f"before{n}")
    bench.run()
    await asyncio.sleep(0)  # The first page is loaded; more are to come.
    bench.arm(500, "sooner")
    bench.arm(1_001, "between")
    bench.arm(2_000, "later")
    expected = {*(f"before{n}" for n in range(10)), "sooner", "between", "later"}
    await until(lambda: {f.id for f in bench.fired} == expected)
    assert bench.fired[0].id == "sooner"


async def test_a_reload_finds_what_another_owner_armed(bench: Bench) -> None:
    bench.run()
    await asyncio.sleep(0)
    bench.arm(1_000, tell=False)
    bench.timers.reload()
    await until(lambda: bench.fired)
    assert bench.at_ms == [1_000]


async def test_a_reload_asked_for_while_loading_is_done(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 2)
    for n in range(4):
        bench.arm(10_000 + n)
    bench.run()
    await asyncio.sleep(0)
    bench.timers.reload()
    bench.arm(1_000, "early")
    await until(lambda: bench.fired)
    assert bench.at_ms == [1_000]


async def test_reloading_again_and_again_does_not_pile_timers_up(bench: Bench) -> None:
    for n in range(10):
        bench.arm(10_000, str(n))
    bench.run()
    for _ in range(20):
        bench.timers.reload()
        await bench.here.sleep(0.01)
    assert bench.timers.pending == 10


async def test_nothing_fires_while_paused_and_all_of_it_afterwards(bench: Bench) -> None:
    bench.run()
    await asyncio.sleep(0)
    bench.timers.paused = True
    bench.arm(1_000)
    await bench.here.sleep(60)
    assert bench.fired == []
    bench.timers.paused = False
    await until(lambda: bench.fired)


async def test_what_is_due_waits_in_the_table_until_the_lane_has_room(bench: Bench) -> None:
    bench.can_accept_work = False
    bench.arm(0)
    bench.run()
    await bench.here.sleep(1)
    assert bench.fired == []
    bench.can_accept_work = True
    await until(lambda: bench.fired)


async def test_at_most_so_many_fire_in_one_turn_of_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRED_AT_ONCE_MAX", 10)
    for n in range(35):
        bench.arm(0, str(n))
    bench.run()
    seen: list[int] = []
    while len(bench.fired) < 35:
        await asyncio.sleep(0)
        seen.append(len(bench.fired))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= 10


async def test_many_that_are_overdue_are_not_all_in_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 10)
    monkeypatch.setattr(module, "HEAP_MAX", 50)
    for n in range(500):
        bench.arm(-(n % 7), str(n))
    bench.can_accept_work = False
    bench.run()
    await bench.here.sleep(1)
    assert bench.timers.pending <= 60
    bench.can_accept_work = True
    bench.arm(30_000, "later")
    await until(lambda: len({f.id for f in bench.fired}) == 501)
    assert bench.at_ms[499] < 30_000


async def test_a_disarmed_timer_fires_into_nothing_and_a_closed_one_not_at_all(bench: Bench) -> None:
    bench.run()
    await asyncio.sleep(0)
    bench.arm(1_000)
    bench.timers.close()
    await bench.here.sleep(60)
    assert bench.fired == []
