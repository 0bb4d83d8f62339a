"""Signals over HTTP: to the run that waits, once, and a sentence where none does."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest

from millstream import App, Context
from millstream.api.door.seeds import SEED_HEADER
from millstream.model.facts import SignalAwaited
from tests.api.door import World, open_world

JSON = {"Content-Type": "application/json"}
KEY = {"Authorization": "Bearer K"}


def make_desk() -> App:
    desk = App("desk")

    @desk.function(on="shop/paid")
    async def approve(ctx: Context) -> Any:
        return await ctx.step.wait_for_signal("approved", ctx.event.data["signal"], timeout="1h")

    return desk


async def awaited(world: World, signal: str) -> str:
    """Start a run that waits for the signal; its id, once its home knows."""
    await world.send(signal=signal)
    return str((await world.fact(lambda f: isinstance(f, SignalAwaited) and f.signal == signal)).run)


async def test_a_signal_reaches_the_run_that_waits_for_it_and_only_once(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        run = await awaited(world, "order-7")
        sent = {"signal": "order-7", "data": {"by": "Ada", "amount": 12.50}}
        status, answer, _ = await world.call("POST", "/v1/signals", json=sent)
        assert (status, answer["data"]) == (200, {"run_id": run})
        assert answer["metadata"]["fetched_at"]
        assert (await world.shown(run, "Completed"))["output"] == sent["data"]
        status, answer, _ = await world.call("POST", "/v1/signals", json=sent)
        assert (status, answer["status"], answer["data"]) == (404, 404, None)
        assert "no run waits for the signal 'order-7'" in answer["error"]


async def test_a_signal_without_data_brings_null(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        run = await awaited(world, "go")
        assert (await world.call("POST", "/v1/signals", json={"signal": "go"}))[0] == 200
        assert (await world.shown(run, "Completed"))["output"] is None


async def test_a_signal_whose_answer_was_lost_is_answered_the_same_again(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()]) as world:
        run = await awaited(world, "go")
        seed = {SEED_HEADER: f"{time.time_ns() // 1_000_000},{base64.b64encode(b'0123456789').decode()}"}
        answers = [await world.call("POST", "/v1/signals", json={"signal": "go"}, headers=seed) for _ in range(2)]
        assert [(status, answer["data"]) for status, answer, _ in answers] == [(200, {"run_id": run})] * 2
        assert (await world.call("POST", "/v1/signals", json={"signal": "other"}, headers=seed))[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"signal": 7}',
        b'{"signal": ""}',
        b'{"signal": "x", "data": }',
        b'{"signal": "x", "data": 1e400}',
        b'{"signal": "x", "data": "\\ud800"}',
        b'{"signal": "\xff"}',
        b'{"signal": "x", "data": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"signal": "' + b"x" * 1_025 + b'"}',
    ],
)
async def test_what_is_no_signal_is_refused_with_a_sentence(tmp_path: Path, body: bytes) -> None:
    async with open_world(tmp_path) as world:
        status, answer, _ = await world.call("POST", "/v1/signals", data=body, headers=JSON)
        assert (status, answer["error"].startswith("signal refused: ")) == (400, True), answer


async def test_a_signal_needs_the_key_that_invoking_needs(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk()], event_keys=frozenset({"K"})) as world:
        await awaited(world, "go")
        assert (await world.call("POST", "/v1/signals", json={"signal": "go"}))[0] == 401
        assert (await world.call("POST", "/v1/signals", json={"signal": "go"}, headers=KEY))[0] == 200
