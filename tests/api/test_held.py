"""Held runs over HTTP: resumed or let fail, once; and a sentence where nothing is held."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest

from millstream import App, Context
from millstream.api.door.seeds import SEED_HEADER
from millstream.model.facts import HeldResumed, StepHeld
from tests.api.door import World, open_world

KEY = {"Authorization": "Bearer K"}
NOBODY = "01M83166TFPXY6W1PP2C82TPXR"


def make_bank(closed: list[int]) -> App:
    bank = App("bank")

    def ask() -> str:
        if closed:
            raise ConnectionError("closed")
        return "paid"

    @bank.function(on="shop/paid", retries=0, on_exhausted="hold")
    async def transfer(ctx: Context) -> str:
        return await ctx.step.run("ask", ask)

    return bank


async def held(world: World) -> str:
    """A run that is held."""
    _, run = await world.started()
    await world.fact(lambda fact: isinstance(fact, StepHeld) and fact.run == run)
    return run


async def test_a_held_run_is_shown_resumed_and_completed(tmp_path: Path) -> None:
    closed = [1]
    async with open_world(tmp_path, apps=[make_bank(closed)]) as world:
        run = await held(world)
        shown = await world.shown(run, "Held")
        assert (shown["status"], shown["reason"]) == ("Running", "step 'ask' failed for good: ConnectionError: closed")
        assert [step["status"] for step in shown["steps"]] == ["held"]
        (listed,) = (await world.call("GET", "/api/runs?status=held"))[1]["data"]
        assert listed["run_id"] == run and listed["state"] == "Held"
        page = (await world.call("GET", "/?status=held"))[1]
        assert run in page and "ConnectionError: closed" in page
        closed.clear()
        status, answer, response = await world.call("POST", f"/api/runs/{run}/resume", json={})
        assert (status, answer["data"]) == (200, {"run_id": run, "outcome": "resumed"})
        assert "X-Millstream-Position" in response.headers
        assert (await world.shown(run, "Completed"))["output"] == "paid"


async def test_a_held_run_is_let_fail(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_bank([1])]) as world:
        run = await held(world)
        status, answer, _ = await world.call("POST", f"/api/runs/{run}/fail", json={})
        assert (status, answer["data"]["outcome"]) == (200, "failed")
        shown = await world.shown(run, "Failed")
        assert shown["error"]["message"] == "closed"
        assert [(step["status"], len(step["attempts"])) for step in shown["steps"]] == [("failed", 1)]


async def test_a_request_whose_answer_was_lost_is_answered_the_same_again(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_bank([1])]) as world:
        run = await held(world)
        seed = {SEED_HEADER: f"{time.time_ns() // 1_000_000},{base64.b64encode(b'0123456789').decode()}"}
        answers = [await world.call("POST", f"/api/runs/{run}/resume", json={}, headers=seed) for _ in range(2)]
        assert [status for status, _, _ in answers] == [200, 200]
        assert len([fact for fact in world.facts if isinstance(fact, HeldResumed)]) == 1


@pytest.mark.parametrize("how", ["resume", "fail"])
async def test_what_is_not_held_is_a_conflict_and_what_is_not_there_is_not_found(tmp_path: Path, how: str) -> None:
    async with open_world(tmp_path, apps=[make_bank([])]) as world:
        _, run = await world.started()
        await world.shown(run, "Completed")
        status, answer, _ = await world.call("POST", f"/api/runs/{run}/{how}", json={})
        assert status == 409 and "is not held: it is over, Completed" in answer["error"]
        assert (await world.call("POST", f"/api/runs/{NOBODY}/{how}", json={}))[0] == 404
        assert (await world.call("POST", f"/api/runs/x/{how}", json={}))[0] == 400


async def test_deciding_asks_for_a_key(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_bank([1])], event_keys=("K",)) as world:
        run = await held(world)
        assert (await world.call("POST", f"/api/runs/{run}/fail", json={}))[0] == 401
        assert (await world.call("POST", f"/api/runs/{run}/fail", json={}, headers=KEY))[0] == 200
