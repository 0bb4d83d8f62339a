"""Who stands at the gates of a function: the same in any grouping, and from a checkpoint as from the facts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from millstream import App, Batch, Concurrency, Context, Debounce, Singleton, Throttle
from millstream.core.flow.places import rule_id
from millstream.history import queues
from millstream.history.fold import Changes
from millstream.history.index import Index
from millstream.history.queries import Queries
from millstream.history.queues import QueuesSeen, next_slot_ms
from millstream.model import facts as f
from millstream.model.event import Envelope
from millstream.model.facts import Fact
from millstream.model.gates.declared import FlowSpec, ThrottleRule
from millstream.model.gates.messages import AdmitStart
from millstream.model.journal import JournalRecord
from tests.history.world import PATIENCE_S, World, open_world, shop

AT = 1_795_356_850_000
FN = "shop-mail"
RUNS = f"3fa2/runs/9c1d07a2/{FN}/sann"
SHARED = "1111/steps/9c1d07a2/env/scrm"
DEBOUNCE = f"2222/debounce/9c1d07a2/{FN}/sdoc"
BATCH = f"3333/batch/9c1d07a2/{FN}/"
SINGLE = f"4444/singleton/9c1d07a2/{FN}/"


def opened(place: str, run: str, function: str = FN, full_us: int = 0, *, held: bool = True) -> f.GateOpened:
    return f.GateOpened(place, function, run, "", 0, held, full_us, 0)


def start(event: str) -> AdmitStart:
    return AdmitStart(FN, Envelope(event, event, False, "a/b", b"{}", AT, AT), "", 0, (), 0, None, 0)


LIFE: list[list[Fact]] = [
    [opened(RUNS, "r1")],
    [f.GateQueued(RUNS, FN, "r2", "", 0, AT, 0), f.GateQueued(RUNS, FN, "r3", "", 0, AT, 0)],
    [f.GateQueued(RUNS, FN, "r4", "", 0, AT, 0)],
    [f.GateLeft(RUNS, "r1", ""), opened(RUNS, "r2")],
    [f.GateLeft(RUNS, "r4", "")],
    [opened(SHARED, "r5"), f.GateQueued(SHARED, "shop-other", "r6", "", 0, AT, 0)],
    [f.StartKept(DEBOUNCE, start("e1"), AT, AT + 10)],
    [f.StartKept(DEBOUNCE, start("e2"), AT, AT + 20)],
    [f.BatchAdded(BATCH, FN, "e3", 2, None, AT + 30), f.BatchAdded(BATCH, FN, "e4", 2, None, AT + 30)],
    [f.BatchOver(BATCH), f.BatchAdded(BATCH, FN, "e5", 2, None, AT + 60)],
    [f.SingletonHeld(SINGLE, AT, "e6"), opened(SINGLE, "r7")],
    [f.SingletonKept(SINGLE, start("e7"), False)],
    [f.SingletonKept(SINGLE, start("e8"), False)],
]
SHOWN = {
    # place: running, queued, kept, kept event, when that goes on
    RUNS: (1, 1, 0, "", 0),
    SHARED: (1, 0, 0, "", 0),
    DEBOUNCE: (0, 0, 1, "e2", AT + 20),
    BATCH: (0, 0, 1, "e5", AT + 60),
    SINGLE: (1, 0, 1, "e8", 0),
}


def by_place(seen: QueuesSeen) -> dict[str, tuple[int, int, int, str, int]]:
    return {one.place: (one.running, one.queued, one.kept, one.kept_event, one.due_ms) for one in seen.shown}


def folded(path: Path, life: list[list[Fact]], per_batch: int) -> QueuesSeen:
    index = Index(path)
    for first in range(0, len(life), per_batch):
        changes = Changes()
        for n, facts in enumerate(life[first : first + per_batch], first):
            changes.fold(JournalRecord(b"owner-01", n, AT + n, tuple(facts)))
        index.apply(changes, [])
    index.close()
    return asked(path)


def asked(path: Path, function: str = FN) -> QueuesSeen:
    queries = Queries(path)
    try:
        return queries.queues(function)
    finally:
        queries.close()


def test_the_rows_are_the_same_in_any_grouping(tmp_path: Path) -> None:
    for per_batch in (1, 2, 3, 5, len(LIFE)):
        path = tmp_path / f"{per_batch}.db"
        seen = folded(path, LIFE, per_batch)
        assert by_place(seen) == SHOWN
        assert (seen.places, seen.running, seen.queued, seen.kept) == (5, 3, 1, 3)
        assert seen.shown[0].place == RUNS and seen.shown[0].oldest_ms == AT + 1, "the longest queue comes first"
        other = asked(path, "shop-other")
        assert by_place(other) == {SHARED: (0, 1, 0, "", 0)}, "of a shared limit each function shows its own part"


def test_facts_that_come_again_behind_the_rows_of_a_checkpoint_change_nothing(tmp_path: Path) -> None:
    for again in range(len(LIFE)):
        assert by_place(folded(tmp_path / f"{again}.db", LIFE + LIFE[again:], 1)) == SHOWN


def test_nothing_is_left_where_all_have_gone(tmp_path: Path) -> None:
    gone: list[Fact] = [
        f.GateLeft(RUNS, "r2", ""), f.GateLeft(RUNS, "r3", ""), f.GateLeft(SHARED, "r5", ""), f.StartReleased(DEBOUNCE),
        f.BatchOver(BATCH), f.GateLeft(SINGLE, "r7", ""), f.SingletonFreed(SINGLE),
    ]  # fmt: skip
    assert folded(tmp_path / "a.db", [*LIFE, gone], 4) == QueuesSeen()


def test_no_more_places_are_shown_than_the_limit_and_the_sums_are_of_all(tmp_path: Path) -> None:
    count = queues.PLACES_SHOWN_MAX + 10
    facts: list[Fact] = [
        f.GateQueued(f"3fa2/runs/9c1d07a2/{FN}/s{n}", FN, f"r{n}.{m}", "", 0, AT, 0)
        for n in range(count)
        for m in range(1 + (n == 7))
    ]
    seen = folded(tmp_path / "a.db", [facts], 1)
    assert (len(seen.shown), seen.places, seen.queued) == (queues.PLACES_SHOWN_MAX, count, count + 1)
    assert (seen.shown[0].queued, seen.shown[0].key) == (2, '"7"')


def test_the_next_slot_of_a_throttle_is_that_of_the_rule_as_it_is_declared_now(tmp_path: Path) -> None:
    place = f"5555/throttle/{rule_id('')}/{FN}/"
    taken: list[list[Fact]] = [[opened(place, "r1", full_us=(AT + 6_000) * 1_000, held=False)]]
    (one,) = folded(tmp_path / "a.db", taken, 1).shown
    assert (one.running, one.queued, one.full_us) == (0, 0, (AT + 6_000) * 1_000)
    flow = FlowSpec(throttle=ThrottleRule(10, 60_000))
    assert next_slot_ms(one, flow, AT) == AT + 6_000
    assert next_slot_ms(one, FlowSpec(throttle=ThrottleRule(10, 60_000, burst=2)), AT) == 0, "one of two is free"
    assert next_slot_ms(one, flow, AT + 6_000) == 0
    assert next_slot_ms(one, FlowSpec(), AT) == 0, "the throttle was taken away"
    assert folded(tmp_path / "b.db", [*taken, [f.GateTimed(place, 0)]], 1) == QueuesSeen(), "its burst is free again"


gated = App("gated")


@gated.function(on="g/run", concurrency=Concurrency(1, per="run"), throttle=Throttle(1, "1d", burst=3))
async def run(ctx: Context) -> None:
    """Its first run sleeps, the others queue."""
    await ctx.step.sleep("long", "1d")


@gated.function(on="g/debounce", debounce=Debounce("1d"))
async def debounce(ctx: Context) -> None:
    """Keeps an event."""


@gated.function(on="g/batch", batch=Batch(10, "1d"))
async def batch(ctx: Context) -> None:
    """Collects events."""


@gated.function(on="g/single", singleton=Singleton("latest"))
async def single(ctx: Context) -> None:
    """Its first run sleeps, the newest start is kept."""
    await ctx.step.sleep("long", "1d")


FUNCTIONS = ("gated-run", "gated-debounce", "gated-batch", "gated-single")


async def standing(world: World, name: str, fits: Callable[[list[QueuesSeen]], bool]) -> list[QueuesSeen]:
    """What stands at the gates of each function, once it is as wanted."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await world.fold(name)
            seen = [found.queues(function) for function in FUNCTIONS]
            found.close()
            if fits(seen):
                return seen
            await asyncio.sleep(0.02)


def sums(seen: list[QueuesSeen]) -> list[tuple[int, int, int]]:
    return [(one.running, one.queued, one.kept) for one in seen]


STAND = [(1, 2, 0), (0, 0, 1), (0, 0, 3), (1, 0, 1)]


async def test_a_new_history_knows_who_stands_where_though_the_facts_are_gone(tmp_path: Path) -> None:
    async with open_world("memory", tmp_path, [gated, shop]) as world:
        for name in ("g/run", "g/debounce", "g/batch", "g/single"):
            for _ in range(3):
                await world.send(name)
        before = await standing(world, "first.db", lambda seen: sums(seen) == STAND)
        await world.until_trimmed_past(await world.ends())
        after = await standing(world, "new.db", lambda seen: True)
        assert sums(after) == STAND
        places = [[by_place(one) for one in seen] for seen in (before, after)]
        assert places[0] == places[1]
        assert [one.full_us for one in after[0].shown] == [one.full_us for one in before[0].shown]
        known = await standing(world, "first.db", lambda seen: True)
        assert sums(known) == STAND
