"""A read is as of the position it asks for, or says that the history is not there yet (lanes.md rule 29)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.api.door import make_shop, open_world


@pytest.mark.parametrize("path", ["/v1/runs/{run}", "/api/runs", "/v1/events", "/v1/events/{event}/runs"])
async def test_a_read_waits_for_the_position_it_asks_for_and_never_answers_with_what_was(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path, apps=[make_shop()], follows=False) as world:
        event, run = await world.started(then="wait")
        await world.fold()
        path = path.format(event=event, run=run)
        with monkeypatch.context() as patch:
            patch.setattr("millstream.api.reading.reads.FOLDED_WAIT_S_MAX", 0.1)
            _, _, response = await world.call("DELETE", f"/v1/runs/{run}")
            after = response.headers["X-Millstream-Position"]
            status, answer, response = await world.call("GET", f"{path}?after={after}")
            assert status == 503, answer
            assert response.headers["Retry-After"] == "1"
            assert (await world.call("GET", path))[0] == 200
        asking = asyncio.ensure_future(world.call("GET", f"{path}?after={after}"))
        await asyncio.sleep(0.1)
        assert not asking.done()
        await world.fold()
        status, answer, _ = await asking
        assert status == 200
        if path.startswith("/v1/runs"):
            assert answer["data"]["status"] == "Cancelled"


@pytest.mark.parametrize("after", ["x", "1", "0:", ":0", "0:-1", "1:0", "0:0:0", "0:" + "9" * 30, "²:0"])
async def test_a_position_that_is_none_is_a_400(tmp_path: Path, after: str) -> None:
    async with open_world(tmp_path) as world:
        assert (await world.call("GET", f"/api/runs?after={after}"))[0] == 400


async def test_an_answer_names_the_position_of_what_it_did(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(then="wait")
        status, _, response = await world.call("DELETE", f"/v1/runs/{run}")
        assert status == 200
        position = response.headers["X-Millstream-Position"]
        status, answer, _ = await world.call("GET", f"/v1/runs/{run}?after={position}")
        assert (status, answer["data"]["status"]) == (200, "Cancelled")


async def test_many_who_wait_cost_one_question_at_a_time(tmp_path: Path) -> None:
    """More than may wait for the index: if each asked for itself, most would be turned away."""
    async with open_world(tmp_path, apps=[make_shop()], follows=False) as world:
        _, run = await world.started(then="wait")
        last = await world.log.end_offset("shop.journal", 0) - 1
        asking = [asyncio.ensure_future(world.call("GET", f"/v1/runs/{run}?after=0:{last}")) for _ in range(300)]
        await asyncio.sleep(0.2)
        assert not any(one.done() for one in asking)
        await world.fold()
        assert {status for status, _, _ in await asyncio.gather(*asking)} == {200}
