"""A door that was told to stop says so, answers on for the delay, and leads those who keep connections elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from millstream.api.door.door import DOOR
from millstream.api.door.leaving import leave
from tests.api.door import open_world

LONG_S = 60.0
EVENT = {"name": "shop/paid", "data": {}}


async def test_it_is_ready_no_more_and_takes_events_until_the_delay_is_over(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        assert (await world.call("GET", "/readyz"))[0] == 200
        leaving = asyncio.create_task(leave(world.served.runner.app[DOOR], LONG_S))
        await asyncio.sleep(0)  # It begins.
        status, answer, _ = await world.call("GET", "/readyz")
        assert (status, answer["waits_for"]) == (503, "its end: it was told to stop")
        assert (await world.call("GET", "/livez"))[0] == 200
        for _ in range(3):
            assert (await world.call("POST", "/e/key", json=EVENT))[0] == 200
        assert not leaving.done()
        leaving.cancel()


async def test_each_answer_ends_its_connection_from_then_on(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        paths = ("/livez", "/api/runs", "/nothing/there")
        for path in paths:
            assert "Connection" not in (await world.call("GET", path))[2].headers
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(leave(world.served.runner.app[DOOR], LONG_S), 0.01)
        for path in paths:
            assert (await world.call("GET", path))[2].headers["Connection"] == "close"


async def test_without_a_delay_it_is_left_at_once(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await asyncio.wait_for(leave(world.served.runner.app[DOOR], 0.0), LONG_S)
        assert (await world.call("GET", "/readyz"))[0] == 503
