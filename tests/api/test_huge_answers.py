"""Answers are bounded in bytes: pages end early, long values are cut, and the whole of each can be had."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millstream import App, Context
from millstream.model import limits
from tests.api.door import World, open_world

ANSWER_BYTES_MAX = limits.RUN_BYTES_SHOWN_MAX + (2 << 20)
MB = 1_000_000


def make_huge() -> App:
    huge = App("huge")

    @huge.function(on="huge/run")
    async def run(ctx: Context) -> str:
        return "é" + "x" * int(ctx.event.data["size"])

    @huge.function(on="huge/steps")
    async def steps(ctx: Context) -> int:
        for number in range(5):
            await ctx.step.run(f"step/{number}", lambda: "y" * 3 * MB)
        await ctx.step.run("small", lambda: "z")
        return 1

    return huge


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, apps=[make_huge()]) as opened:
        yield opened


async def runs(world: World, count: int, size: int) -> list[str]:
    """Runs whose results have a size, all ended."""
    found = []
    for _ in range(count):
        sent = (await world.call("POST", "/e/K", json={"name": "huge/run", "data": {"size": size}}))[1]["ids"][0]
        run = (await world.fact(lambda fact, sent=sent: sent in getattr(fact, "events", ()))).run  # type: ignore[misc]
        await world.shown(run, "Completed")
        found.append(run)
    return found


async def pages(world: World, path: str) -> list[list[dict[str, Any]]]:
    """Every page of a listing; none larger than an answer may be."""
    found, cursor = [], ""
    while True:
        _, answer, response = await world.call("GET", f"{path}{cursor}")
        assert int(response.headers["Content-Length"]) < ANSWER_BYTES_MAX
        found.append(answer["data"])
        if not answer["metadata"]["cursor"]:
            return found
        cursor = f"&cursor={answer['metadata']['cursor']}"


async def test_a_long_output_is_cut_in_listings_and_can_be_had_whole(world: World) -> None:
    (run,) = await runs(world, 1, 3 * MB)
    ((listed,),) = await pages(world, "/api/runs?limit=10")
    cut = listed["output_cut"]
    assert listed["output"] is None and cut["bytes"] == 3 * MB + 4 and cut["begins"].startswith('"éxxx')
    status, whole, _ = await world.call("GET", cut["whole"])
    assert status == 200 and json.loads(whole) == "é" + "x" * 3 * MB
    assert (await world.call("GET", f"/v1/runs/{run}"))[1]["data"]["output"] == json.loads(whole), "one fits an answer"
    text = str((await world.call("GET", "/"))[1])
    assert len(text) < 100_000 and f"/v1/runs/{run}/output" in text


async def test_a_page_ends_early_where_its_values_are_large(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_BYTES_MAX", 130_000)
    made = await runs(world, 7, 60_000)
    found = await pages(world, "/api/runs?limit=200")
    assert [len(page) for page in found] == [2, 2, 2, 1]
    assert [run["run_id"] for page in found for run in page] == made[::-1]
    assert all(len(run["output"]) == 60_001 for page in found for run in page)
    events = await pages(world, "/v1/events?limit=200")
    assert len(events) > 3, "ends of runs are among them, with results"
    named = [event for page in events for event in page if event["name"] == "huge/run"]
    assert len(named) == 7 and len({event["internal_id"] for page in events for event in page}) == 14


async def test_events_are_cut_in_listings_and_whole_by_themselves(world: World) -> None:
    data = {"text": "x" * 2 * MB}
    ids = [(await world.call("POST", "/e/K", json={"name": "large", "data": data}))[1]["ids"][0] for _ in range(5)]
    while len(found := await pages(world, "/v1/events?name=large")) != 1 or len(found[0]) != 5:
        pass
    assert [event["internal_id"] for event in found[0]] == ids[::-1]
    for event in found[0]:
        assert event["data"] is None and event["data_cut"]["begins"].startswith('{"text":')
        assert (await world.call("GET", event["data_cut"]["whole"]))[1]["data"]["data"] == data


async def test_a_run_whose_steps_are_huge_shows_those_that_fit(world: World) -> None:
    sent = (await world.call("POST", "/e/K", json={"name": "huge/steps"}))[1]["ids"][0]
    run = (await world.fact(lambda fact: sent in getattr(fact, "events", ()))).run
    shown = await world.shown(run, "Completed")
    cut = [step for step in shown["steps"] if step.get("output_cut")]
    assert len(cut) == 3 and len(shown["steps"]) == 6
    assert [step["output"] for step in shown["steps"] if step["name"] == "small"] == ["z"] and shown["output"] == 1
    for step in cut:
        whole = (await world.call("GET", step["output_cut"]["whole"]))[1]
        assert json.loads(whole) == "y" * 3 * MB
    assert (await world.call("GET", f"/v1/runs/{run}/output?step=none"))[0] == 404


async def test_the_runs_of_an_event_have_pages(world: World) -> None:
    (run,) = await runs(world, 1, 10)
    event = (await world.call("GET", f"/v1/runs/{run}"))[1]["data"]["event_id"]
    status, answer, _ = await world.call("GET", f"/v1/events/{event}/runs?limit=1")
    assert status == 200 and [one["run_id"] for one in answer["data"]] == [run]
    assert answer["metadata"]["cursor"] is None and answer["data"][0]["output"] == "é" + "x" * 10
