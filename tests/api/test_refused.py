"""What a lane could not decide is answered with its reason, never as "not found" (lanes.md rule 22)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from millstream.core import nouns
from millstream.model import limits
from millstream.model.commands import AcceptEvent, BackfillFunction, CancelScan, InvokeFunction
from millstream.model.facts import CommandRefused
from millstream.model.run_requests import CancelRun
from tests.api.door import FULFIL, SOON_S, make_shop, open_world

SCAN = "01JQ0000000000000000000000"


@pytest.mark.parametrize(
    ("kind", "method", "path", "body"),
    [
        (InvokeFunction, "POST", f"/invoke/{FULFIL}", {}),
        (CancelRun, "DELETE", "/v1/runs/{run}", None),
        (BackfillFunction, "POST", f"/api/functions/{FULFIL}/backfill", {"topic": "events"}),
        (CancelScan, "DELETE", f"/api/scans/{SCAN}", None),
    ],
)
async def test_a_request_that_the_lane_refuses_is_a_400_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, method: str, path: str, body: Any
) -> None:
    def undecided(tables: Any, command: Any, now_ms: int) -> list[Any]:
        raise ZeroDivisionError("a bug of a lane")

    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(then="wait")
        monkeypatch.setitem(nouns.DECIDE, kind, undecided)
        status, answer, _ = await world.call(method, path.format(run=run), json=body)
        assert status == 400, answer
        assert "refused" in answer["error"] and "a bug of a lane" in answer["error"]


async def test_an_event_that_the_lane_refuses_shows_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def undecided(tables: Any, command: Any, now_ms: int) -> list[Any]:
        raise ZeroDivisionError("a bug of a lane")

    async with open_world(tmp_path, apps=[make_shop()]) as world:
        monkeypatch.setitem(nouns.DECIDE, AcceptEvent, undecided)
        later = {"name": "shop/paid", "ts": limits.EVENT_TS_MAX_MS - 1}  # One that starts at once takes a quicker way.
        event = (await world.call("POST", "/e/K", json=later))[1]["ids"][0]
        await world.fact(lambda fact: isinstance(fact, CommandRefused))
        found: list[Any] = []
        async with asyncio.timeout(SOON_S):
            while not found:
                await asyncio.sleep(0.01)
                found = (await world.call("GET", f"/v1/events/{event}"))[1].get("data", {}).get("notices")
        assert [notice["kind"] for notice in found] == ["refused"]
        assert "a bug of a lane" in found[0]["reason"]
