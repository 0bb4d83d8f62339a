"""A read is as of the position it asks for, or says that the history is not there yet (lanes.md rule 29)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from millstream.history.index import Folded, Index
from millstream.model.commands import CancelRun
from millstream.model.facts import RunCancelled, RunCompleted, RunStarted
from millstream.model.ids import run_id
from tests.api.door import NOW_MS, World, open_world
from tests.api.test_runs import _lane

EVENT = "01M83166TFPXY6W1PP2C82TPXR"
RUN = run_id(NOW_MS, EVENT, "shop-fulfil", "", lane=0, lanes=1)


async def _started(world: World) -> int:
    return await world.decided(RunStarted(RUN, "shop-fulfil", (EVENT,), "", 0))


@pytest.mark.parametrize("path", [f"/v1/runs/{RUN}", "/api/runs", "/v1/events", f"/v1/events/{EVENT}/runs"])
async def test_a_read_waits_for_the_position_it_asks_for_and_never_answers_with_what_was(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path) as world:
        await _started(world)
        await world.fold()
        offset = await world.decided(RunCompleted(RUN, "shop-fulfil", 1, b"1"))
        with monkeypatch.context() as patch:
            patch.setattr("millstream.api.reads.FOLDED_WAIT_S_MAX", 0.1)
            status, answer, response = await world.call("GET", f"{path}?after=0:{offset}")
            assert status == 503, answer
            assert response.headers["Retry-After"] == "1"
            assert (await world.call("GET", path))[0] == 200
        asking = asyncio.ensure_future(world.call("GET", f"{path}?after=0:{offset}"))
        await asyncio.sleep(0.1)
        assert not asking.done()
        await world.fold()
        status, answer, _ = await asking
        assert status == 200
        if path.startswith("/v1/runs"):
            assert answer["data"]["status"] == "Completed"


@pytest.mark.parametrize("after", ["x", "1", "0:", ":0", "0:-1", "1:0", "0:0:0", "0:" + "9" * 30, "²:0"])
async def test_a_position_that_is_none_is_a_400(tmp_path: Path, after: str) -> None:
    async with open_world(tmp_path) as world:
        assert (await world.call("GET", f"/api/runs?after={after}"))[0] == 400


async def test_an_answer_names_the_position_of_what_it_did(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await _started(world)
        answers = {CancelRun: lambda m: ((RunCancelled(m.run, "shop-fulfil", "no"),), {"status": "cancelled"})}
        lane = asyncio.ensure_future(_lane(world, answers, []))
        status, _, response = await world.call("DELETE", f"/v1/runs/{RUN}")
        assert status == 200
        position = response.headers["X-Millstream-Position"]
        status, answer, _ = await world.call("GET", f"/v1/runs/{RUN}?after={position}")
        assert (status, answer["data"]["status"]) == (200, "Cancelled")
        lane.cancel()


async def test_many_who_wait_cost_one_question_at_a_time(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        asking = [asyncio.ensure_future(world.call("GET", "/api/runs?after=0:41")) for _ in range(300)]
        await asyncio.sleep(0.2)
        index = Index(world.index)
        index.go_on_from(Folded("shop.journal", 0, 42), (), upto=0)
        index.close()
        assert {status for status, _, _ in await asyncio.gather(*asking)} == {200}
