"""An invocation that flow control does not start: what the caller, the client and the command are told."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path

import pytest

from millstream import App, Client, Context, NotStarted, Singleton
from millstream.api.door.seeds import SEED_HEADER
from millstream.cli.work.functions import invoke
from millstream.config import Settings
from millstream.model.facts import RunStarted, SingletonKept
from tests.api.door import open_world

SLUG = "desk-copy"


def make_desk(mode: str) -> App:
    """One run at a time, which takes a day."""
    desk = App("desk")

    @desk.function(on="desk/asked", singleton=Singleton(mode))
    async def copy(ctx: Context) -> None:
        await ctx.step.sleep("long", "1d")

    return desk


async def test_a_skipped_invocation_is_a_conflict_that_names_the_gate(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_desk("skip")]) as world:
        _, first, _ = await world.call("POST", f"/invoke/{SLUG}", json={})
        seed = {SEED_HEADER: f"{time.time_ns() // 1_000_000},{base64.b64encode(b'0123456789').decode()}"}
        for _ in range(2):
            status, answer, _ = await world.call("POST", f"/invoke/{SLUG}?wait=1s", json={}, headers=seed)
            assert (status, answer["status"]) == (409, 409)
            assert answer["error"].startswith(f"function '{SLUG}' was not started: singleton: run {first['run_id']} is")
        with pytest.raises(NotStarted, match=r"singleton: run .* is open"):
            await Client(world.served.url).invoke(SLUG, {}, timeout="10s")
        with pytest.raises(NotStarted, match=r"singleton: run .* is open"):
            await asyncio.to_thread(invoke, Settings({"url": world.served.url}, {}), SLUG, None, until_it_ends=False)
        assert sum(isinstance(fact, RunStarted) for fact in world.facts) == 1


async def test_a_kept_invocation_is_answered_at_once_with_the_run_that_may_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_world(tmp_path, apps=[make_desk("latest")]) as world:
        _, first, _ = await world.call("POST", f"/invoke/{SLUG}", json={})
        seed = {SEED_HEADER: f"{time.time_ns() // 1_000_000},{base64.b64encode(b'0123456789').decode()}"}
        answers = [(await world.call("POST", f"/invoke/{SLUG}?wait=1s", json={}, headers=seed))[1] for _ in range(2)]
        assert answers[0] == answers[1]
        assert (answers[0]["status"], answers[0]["kept"]) == (202, True)
        assert sum(isinstance(fact, SingletonKept) for fact in world.facts) == 1
        assert (await world.call("DELETE", f"/v1/runs/{first['run_id']}"))[0] == 200
        started = await world.fact(lambda fact: isinstance(fact, RunStarted) and fact.run == answers[0]["run_id"])
        assert started.events == (answers[0]["id"],)
        with pytest.raises(NotStarted, match="keeps this start until that is over, as run"):
            await Client(world.served.url).invoke(SLUG, {}, timeout="10s")
        settings = Settings({"url": world.served.url}, {})
        assert await asyncio.to_thread(invoke, settings, SLUG, None, until_it_ends=False) == 0
        assert "until the open run is over" in capsys.readouterr().out
        with pytest.raises(NotStarted, match="millstream runs watch"):
            await asyncio.to_thread(invoke, settings, SLUG, None, until_it_ends=True)
