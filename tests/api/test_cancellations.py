"""Cancelling many runs over HTTP: the runs that are meant, a listing with how far it is, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import pytest

from millstream.api.door.seeds import SEED_HEADER
from tests.api.door import SOON_S, World, make_shop, open_world

PATH = "/v1/cancellations"
ALL = {"function_id": "shop-fulfil", "started_before": "now"}
NEVER = "01M83166TFPXY6W1PP2C82TPXR"


def iso(at_ms: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000))


async def listed(world: World, id: str, state: str = "done") -> Any:
    """The cancellation, once the door lists it in this state."""
    async with asyncio.timeout(SOON_S):
        while True:
            rows = (await world.call("GET", PATH))[1]["data"]
            for row in rows:
                if (row["id"], row["state"]) == (id, state):
                    return row
            await asyncio.sleep(0.01)


async def test_runs_that_fit_are_cancelled_and_the_others_go_on(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        meant = [(await world.started(then="wait", shop=1))[1] for _ in range(3)]
        (_, other) = await world.started(then="wait", shop=2)
        wanted = {
            "app_id": "shop",
            "function_id": "fulfil",
            "started_after": iso(time.time() * 1000 - 60_000),
            "started_before": "now",
            "if": "event.data.shop == 1",
            "reason": "a wrong price list",
        }
        status, answer, response = await world.call("POST", PATH, json=wanted)
        assert status == 200, answer
        shown = answer["data"]
        assert (shown["function_id"], shown["if"], shown["reason"]) == ("shop-fulfil", wanted["if"], wanted["reason"])
        assert response.headers["X-Millstream-Position"]
        for run in meant:
            ended = await world.shown(run, "Cancelled")
            assert ended["error"]["message"] == f"cancellation {shown['id']}: a wrong price list"
        row = await listed(world, shown["id"])
        assert (row["looked_at"], row["cancelled"], row["lanes"]) == (4, 3, {"all": 1, "over": 1, "stopped": 0})
        assert row["started_before"] == shown["started_before"] and row["ended_at"]
        assert (await world.shown(other, "Sleeping"))["status"] == "Running"


async def test_the_same_request_sent_again_is_the_same_cancellation(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        await world.started(then="wait")
        seed = {SEED_HEADER: f"{time.time_ns() // 1_000_000},{base64.b64encode(b'0123456789').decode()}"}
        first = (await world.call("POST", PATH, json=ALL, headers=seed))[1]["data"]
        await listed(world, first["id"])
        (_, later) = await world.started(then="wait")
        assert (await world.call("POST", PATH, json=ALL, headers=seed))[1]["data"] == first
        assert (await world.shown(later, "Sleeping"))["status"] == "Running"
        others = (await world.call("POST", PATH, json=ALL | {"if": "true"}, headers=seed))[1]["data"]
        assert others["id"] != first["id"], "another body is another request"


async def test_a_listing_goes_on_behind_its_cursor_and_the_newest_is_first(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        ids = [(await world.call("POST", PATH, json=ALL))[1]["data"]["id"] for _ in range(3)]
        await listed(world, ids[-1])
        seen, cursor = [], ""
        for _ in range(3):
            page = (await world.call("GET", f"{PATH}?limit=1{cursor and f'&cursor={cursor}'}"))[1]
            seen += [row["id"] for row in page["data"]]
            cursor = page["metadata"]["cursor"] or ""
        assert sorted(seen) == sorted(ids) and seen == sorted(seen, reverse=True) and not cursor
        assert (await world.call("GET", f"{PATH}?cursor=x"))[0] == 400


async def test_one_that_was_asked_for_can_be_stopped_and_one_that_never_was_cannot(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        id = (await world.call("POST", PATH, json=ALL))[1]["data"]["id"]
        status, answer, _ = await world.call("DELETE", f"{PATH}/{id}")
        assert (status, answer["data"]) == (200, {"id": id, "state": "stopping"})
        status, answer, _ = await world.call("DELETE", f"{PATH}/{NEVER}")
        assert status == 404 and f"no cancellation {NEVER}" in answer["error"]
        assert (await world.call("DELETE", f"{PATH}/x"))[0] == 400


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"started_before": ""}, 400, "started_before is required"),
        ({"started_before": "2099-01-01T00:00:00Z"}, 400, "started_before must be in the past"),
        ({"started_before": "yesterday"}, 400, "Invalid started_before"),
        ({"started_after": "2099-01-01T00:00:00Z"}, 400, "started_after must be before started_before"),
        ({"function_id": "lost"}, 404, "function 'lost' not found. Known functions: shop-fulfil."),
        ({"app_id": "other"}, 404, "function 'shop-fulfil' of app 'other' not found"),
        ({"if": "event.data.n =="}, 400, "is not valid"),
        ({"if": "event.dta.n == 1"}, 400, "which no event has"),
        ({"startet_after": "2026-01-01"}, 400, "unknown field `startet_after`"),
        ({"reason": "x" * 256}, 400, "a reason must be text of 255 characters"),
        ({"function_id": 7}, 400, "Expected `str`"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_a_sentence(
    tmp_path: Path, changed: dict[str, Any], status: int, said: str
) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        got, answer, _ = await world.call("POST", PATH, json=ALL | changed)
        assert (got, said in answer["error"]) == (status, True), answer


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"function_id": "\xff"}'])
async def test_what_is_no_request_is_refused(tmp_path: Path, body: bytes) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        headers = {"Content-Type": "application/json"}
        status, answer, _ = await world.call("POST", PATH, data=body, headers=headers)
        assert (status, answer["error"].startswith("cancellation refused: ")) == (400, True), answer


async def test_asking_and_stopping_need_a_key_and_looking_none(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()], event_keys=frozenset({"K"})) as world:
        assert (await world.call("POST", PATH, json=ALL))[0] == 401
        assert (await world.call("DELETE", f"{PATH}/{NEVER}"))[0] == 401
        assert (await world.call("GET", PATH))[0] == 200
        assert (await world.call("POST", PATH, json=ALL, headers={"Authorization": "Bearer K"}))[0] == 200
