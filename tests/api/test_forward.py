"""A door without a history of its own: it takes events, and hands reads on to the history role."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from millstream.api.door.door import DoorConfig
from millstream.api.server import build_app
from millstream.api.sockets.serving import serve
from millstream.log.memory.log import MemoryLog
from tests.api.door import FULFIL, GROUP, World, make_shop, open_world
from tests.api.test_runs import UNKNOWN


@contextlib.asynccontextmanager
async def open_both(path: Path, url: str | None = None) -> AsyncIterator[tuple[World, World]]:
    """A history role, and a door beside it that knows its URL (or another)."""
    log = MemoryLog()
    async with open_world(path, log, apps=[make_shop()]) as history:
        config = DoorConfig(log=log, group=GROUP, lanes=1, history_url=history.served.url if url is None else url)
        served = await serve(build_app(config), port=0)
        async with aiohttp.ClientSession() as http:
            yield history, World(log, served, http, history.index, history.facts)
        await served.close()


async def test_a_read_is_answered_as_the_history_answers_it(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (history, door):
        event, run = await door.started(then="wait")
        await history.shown(run, "Running")
        for path in (f"/v1/runs/{run}", "/api/runs?limit=5", f"/v1/events/{event}/runs", f"/v1/runs/{UNKNOWN}"):
            status, body, _ = await door.call("GET", path)
            asked, there, _ = await history.call("GET", path)
            assert status == asked
            assert body["data"] == there["data"]


async def test_what_was_asked_of_a_door_is_shown_by_the_history_when_it_answers(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (history, door):
        _, run = await door.started(then="wait")
        assert (await door.call("DELETE", f"/v1/runs/{run}"))[1]["data"]["status"] == "Cancelled"
        assert (await history.call("GET", f"/v1/runs/{run}"))[1]["data"]["status"] == "Cancelled"


async def test_a_wait_for_an_end_is_answered_by_the_history_when_it_comes(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (history, door):
        _, run = await door.started(then="wait")
        path = f"/v1/runs/{run}/result"
        assert (await door.call("GET", f"{path}?wait=50ms"))[0] == 202
        waiting = asyncio.create_task(door.call("GET", f"{path}?wait=1m"))
        await door.call("DELETE", f"/v1/runs/{run}")
        status, answer, _ = await waiting
        assert (status, answer["data"]["status"], answer["data"]["error"]["name"]) == (200, "Cancelled", "Cancelled")
        assert answer == (await history.call("GET", path))[1]
        assert (await door.call("GET", f"/v1/runs/{UNKNOWN}/result"))[0] == 404
        status, answer, _ = await door.call("POST", f"/invoke/{FULFIL}?wait=10s", json={"data": {}})
        assert (status, answer["data"]["output"]) == (200, {"ok": True})


async def test_a_door_that_stops_lets_go_of_waits_at_the_history(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (_, door):
        _, run = await door.started(then="wait")
        waiting = asyncio.create_task(door.call("GET", f"/v1/runs/{run}/result?wait=1m"))
        await asyncio.sleep(0.2)  # It is under way; one that is not yet is answered as well.
        began = time.monotonic()
        await door.served.close()
        status, answer, _ = await waiting
        assert (status, answer["data"]["status"], time.monotonic() - began < 4) == (202, "Running", True)


async def test_without_a_history_an_invocation_that_waits_says_that_it_has_started(tmp_path: Path) -> None:
    async with open_both(tmp_path, "") as (_, door):
        status, answer, _ = await door.call("POST", f"/invoke/{FULFIL}?wait=10s", json={"data": {}})
        assert (status, answer["status"]) == (202, 202)
        assert (await door.call("GET", f"/v1/runs/{answer['run_id']}/result"))[0] == 503


async def test_events_are_taken_without_any_history(tmp_path: Path) -> None:
    async with open_both(tmp_path, "") as (_, door):
        status, _, _ = await door.call("POST", "/e/key", json={"name": "order/placed"})
        assert status == 200
        assert len(await door.stored()) == 1
        status, body, response = await door.call("GET", "/api/runs")
        assert status == 503
        assert "--history-url" in body["error"]
        assert response.headers["Retry-After"]


async def test_a_history_that_is_not_there_is_a_503_that_says_so(tmp_path: Path) -> None:
    async with open_both(tmp_path, "http://127.0.0.1:1") as (_, door):
        status, body, _ = await door.call("GET", f"/v1/runs/{UNKNOWN}")
        assert status == 503
        assert "http://127.0.0.1:1" in body["error"]


async def test_the_history_says_whether_it_shows_a_record(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (history, door):
        _, run = await door.started(then="wait")
        position = (await door.call("DELETE", f"/v1/runs/{run}"))[2].headers["X-Millstream-Position"]
        lane, _, offset = position.partition(":")
        status, body, _ = await door.call("GET", f"/api/folded?lane={lane}&offset={offset}")
        assert (status, body["data"]) == (200, {"folded": True})
        status, body, _ = await history.call("GET", "/api/folded?lane=x&offset=1")
        assert status == 400


async def test_probes_say_that_it_lives_and_is_ready(tmp_path: Path) -> None:
    async with open_both(tmp_path) as (history, door):
        for world in (history, door):
            for path in ("/livez", "/readyz", "/health"):
                assert (await world.call("GET", path))[0] == 200
            assert "millstream_build_info" in (await world.call("GET", "/metrics"))[1]
