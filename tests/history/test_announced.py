"""Ends of runs show as the events that announce them, whether a lane wrote one or not, and never twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from millstream import App, Context
from millstream.history.index import Index
from millstream.history.queries import Queries
from millstream.history.seen import EventSeen, Page
from millstream.model.announcement import announcement_id
from tests.history.world import World, open_world, shop

FINISHED, FAILED, CANCELLED = (f"inngest/function.{end}" for end in ("finished", "failed", "cancelled"))
listener = App("listener")


@listener.function(on=FAILED, if_="event.data.run_id != ''")
async def hear(ctx: Context) -> str:
    """Makes lanes write this announcement."""
    return str(ctx.event.data["run_id"])


async def _ended(world: World, name: str, n: int) -> str:
    event = await world.send(name, n)
    return await world.run_of("i.db", event, lambda full: full.run.status in ("Completed", "Failed"))


async def _events(world: World, name: str = "", limit: int = 200) -> list[EventSeen]:
    queries = await world.fold("i.db")
    try:
        found: list[EventSeen] = []
        cursor = 0
        while True:
            page, cursor = queries.events(name=name, page=Page(limit, cursor))
            assert len(page) <= limit
            found += page
            if not cursor:
                return found
    finally:
        queries.close()


def _data(event: EventSeen) -> Any:
    return json.loads(event.data)


async def test_an_end_nobody_subscribes_to_is_an_event_with_what_a_written_one_would_hold(tmp_path: Path) -> None:
    async with open_world("memory", tmp_path) as world:
        completed = await _ended(world, "order/quick", 4)
        (event,) = await _events(world, FINISHED)
        data = _data(event)
        assert (data["function_id"], data["run_id"], data["result"]) == ("shop-quick", completed, 4)
        assert data["event"]["name"] == "order/quick" and data["event"]["user"] == {}
        assert data["events"] == [{name: value for name, value in data["event"].items() if name != "user"}]
        assert data["_inngest"] == {"status": "Completed"}
        assert event.id == event.internal_id
        assert event.topic == ""

        failed = await _ended(world, "order/quick", -1)
        (event,) = await _events(world, FAILED)
        assert (event.id, _data(event)["error"]["message"]) == (failed, "no such order")
        assert len(await _events(world, FINISHED)) == 2

        slept = await world.send("order/placed")
        run = await world.run_of("i.db", slept, lambda full: len(full.steps) == 3)
        await world.cancel(run)
        await world.run_of("i.db", slept, lambda full: full.run.status == "Cancelled")
        (event,) = await _events(world, CANCELLED)
        assert (event.id, _data(event)["run_id"]) == (run, run)


async def test_an_announcement_is_found_by_either_of_its_ids(tmp_path: Path) -> None:
    async with open_world("memory", tmp_path) as world:
        failed = await _ended(world, "order/quick", -1)
        listed = [*await _events(world, FAILED), *await _events(world, FINISHED)]
        queries = await world.fold("i.db")
        for event in listed:
            assert queries.event(event.internal_id) == event
        assert queries.event(failed) == listed[0]
        queries.close()


async def test_one_that_a_lane_wrote_is_listed_once_and_under_the_same_ids(tmp_path: Path) -> None:
    async with open_world("memory", tmp_path, [shop, listener]) as world:
        failed = await _ended(world, "order/quick", -1)
        async with asyncio.timeout(60):
            while not (written := await _events(world, FAILED)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        (event,) = written
        assert event.topic == "events"
        assert (event.id, event.key) == (failed, failed)
        queries = await world.fold("i.db")
        run = queries.run(failed)
        queries.close()
        assert run is not None
        assert event.internal_id == announcement_id(FAILED, failed, run.run.ended_ms)
        assert [_data(e)["run_id"] for e in await _events(world, FINISHED)].count(failed) == 1
        # What the history would have made of the same end, were it not written.
        index = Index(tmp_path / "i.db")
        index._db.execute(
            "INSERT INTO announced VALUES ((SELECT max(n) FROM announced) / 1048576 * 1048576 + 7, ?, 1)", (failed,)
        )
        index.close()
        made = next(e for e in await _events(world, FAILED) if not e.topic)
        assert _data(made) == _data(event)
        assert (made.id, made.key, made.name) == (event.id, event.key, event.name)


async def test_pages_of_written_and_derived_events_leave_none_out(tmp_path: Path) -> None:
    async with open_world("memory", tmp_path) as world:
        for n in range(12):
            await _ended(world, "order/quick", n if n % 3 else -1)
        whole = await _events(world)
        assert len(whole) == len({event.internal_id for event in whole}) == 12 + 12 + 4
        for limit in (1, 3, 7):
            assert await _events(world, limit=limit) == whole


async def test_they_are_forgotten_with_their_runs(tmp_path: Path) -> None:
    async with open_world("memory", tmp_path) as world:
        await _ended(world, "order/quick", 4)
        await world.stop()
        index = Index(tmp_path / "i.db")
        while index.forget(1 << 42):
            pass
        index.close()
        assert await _events(world) == []


@pytest.mark.parametrize("id", ["", "x", "01MCC5RM000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"])
async def test_an_id_that_is_none_finds_nothing(tmp_path: Path, id: str) -> None:
    Index(tmp_path / "i.db").close()
    queries = Queries(tmp_path / "i.db")
    assert queries.event(id) is None
    queries.close()
