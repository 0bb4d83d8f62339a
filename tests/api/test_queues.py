"""Who stands at a function's gates, and where a run queues, over HTTP, on the page, and in figures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from millstream import App, Concurrency, Context, Debounce
from millstream.lane.metrics import QUEUES_TIMED_MAX, Counts
from millstream.model.facts import Fact, FunctionSkipped, GateLeft, GateOpened, GateQueued
from millstream.telemetry import Telemetry
from tests.api.door import SOON_S, World, open_world

RUNS = "3fa2/runs/9c1d07a2/shop-write/"


def make_shop() -> App:
    shop = App("shop")

    @shop.function(on="shop/paid", concurrency=Concurrency(1, key="event.data.who", per="run"))
    async def write(ctx: Context) -> None:
        await ctx.step.sleep("long", "1d")

    @shop.function(on="shop/changed", debounce=Debounce("1d"))
    async def index(ctx: Context) -> None: ...

    return shop


async def queues(world: World, function: str, fits: Callable[[Any], bool]) -> Any:
    """What stands at the gates of a function, once it is as wanted."""
    async with asyncio.timeout(SOON_S):
        while True:
            shown = (await world.call("GET", f"/api/functions/{function}/queues"))[1]["data"]
            if fits(shown):
                return shown
            await asyncio.sleep(0.01)


async def test_who_runs_and_who_queues_is_shown_by_key_and_so_is_where_a_run_stands(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        runs = [(await world.started(who=who))[1] for who in ("ann", "ann", "ann", "bob")]
        shown = await queues(world, "shop-write", lambda now: (now["running"], now["queued"]) == (2, 2))
        assert shown["flow"] == {"concurrency": [{"limit": 1, "key": "event.data.who", "scope": "fn", "per": "run"}]}
        assert (shown["function_id"], shown["places"], shown["kept"]) == ("shop-write", 2, 0)
        ann, bob = shown["queues"]
        assert (ann["gate"], ann["key"], ann["running"], ann["queued"]) == ("concurrency", "ann", 1, 2)
        assert ann["oldest_at"] is not None and ann["next_slot_at"] is None and ann["kept"] is None
        assert (bob["key"], bob["running"], bob["queued"], bob["oldest_at"]) == ("bob", 1, 0, None)

        (listed, other) = (await world.call("GET", "/api/runs?status=Queued"))[1]["data"]
        assert {listed["run_id"], other["run_id"]} == set(runs[1:3])
        queued = await world.shown(runs[1], "Queued")
        assert [(one["gate"], one["key"], one["passed_at"]) for one in queued["gates"]] == [
            ("concurrency", "ann", None)
        ]
        assert "queued at concurrency &quot;ann&quot; since " in (await world.call("GET", "/?status=Queued"))[1]

        assert (await world.call("DELETE", f"/v1/runs/{runs[0]}"))[0] == 200
        await queues(world, "shop-write", lambda now: (now["running"], now["queued"]) == (2, 1))
        begun = await world.shown(runs[1], "Sleeping")
        assert begun["gates"][0]["passed_at"] is not None


async def test_what_is_kept_is_shown_with_the_time_when_it_goes_on(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        ids = [(await world.call("POST", "/e/K", json={"name": "shop/changed"}))[1]["ids"][0] for _ in range(2)]
        shown = await queues(
            world, "shop-index", lambda now: now["kept"] and now["queues"][0]["kept"]["event_id"] == ids[1]
        )
        (one,) = shown["queues"]
        assert (one["gate"], one["key"], one["running"], one["queued"]) == ("debounce", None, 0, 0)
        assert one["kept"]["events"] == 1 and one["kept"]["due_at"] > one["oldest_at"]


async def test_a_function_that_nobody_knows_is_a_404_that_names_those_there_are(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        await world.fact(lambda fact: type(fact).__name__ == "CatalogueSeen")
        async with asyncio.timeout(SOON_S):
            while (await world.call("GET", "/api/functions/shop-write/queues"))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        status, answer, _ = await world.call("GET", "/api/functions/shop-lost/queues")
        assert status == 404 and "Known functions: shop-index, shop-write" in answer["error"]


def test_figures_are_by_function_and_time_only_those_who_had_to_queue() -> None:
    telemetry = Telemetry()
    counts = Counts(telemetry, 0)

    def take(at_ms: int, *facts: Fact) -> None:
        counts.take(facts, at_ms, size=1, took_s=0.0)

    def opened(run: str) -> GateOpened:
        return GateOpened(RUNS, "shop-write", run, "", 0, True, 0, 0)

    take(0, opened("r1"))
    take(1_000, *(GateQueued(RUNS, "shop-write", run, "", 0, 0, 0) for run in ("r2", "r3")))
    take(3_000, opened("r2"), GateLeft(RUNS, "r3", ""))
    take(4_000, opened("r3"))
    take(5_000, FunctionSkipped("e", "shop-write", "rate_limit: 1 start in 1m, and no more. There is room again at …"))
    take(5_000, FunctionSkipped("e", "shop-write", "if_ failed: no such key"))
    text = telemetry.exposition()[0].decode()
    assert 'millstream_flow_queued_seconds_count{function="shop-write"} 1.0' in text
    assert 'millstream_flow_queued_seconds_sum{function="shop-write"} 2.0' in text
    assert 'millstream_flow_skipped_total{function="shop-write",gate="rate_limit"} 1.0' in text
    assert 'millstream_flow_skipped_total{function="shop-write",gate="other"} 1.0' in text
    take(6_000, *(GateQueued(RUNS, "shop-write", f"q{n}", "", 0, 0, 0) for n in range(QUEUES_TIMED_MAX + 5)))
    take(7_000, *(opened(f"q{n}") for n in range(QUEUES_TIMED_MAX + 5)))
    text = telemetry.exposition()[0].decode()
    assert f'millstream_flow_queued_seconds_count{{function="shop-write"}} {QUEUES_TIMED_MAX + 1}.0' in text
