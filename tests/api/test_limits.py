"""Limits over HTTP: shown, set without a deploy, reset; refused with a sentence where that cannot be."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest

from millstream import App, Concurrency, Context, RateLimit, Throttle
from millstream.api.door.seeds import SEED_HEADER
from millstream.model.facts import GateOpened, LimitsSeen
from tests.api.door import World, open_world

KEY = {"Authorization": "Bearer K"}
LIMITS = "/api/functions/bank-transfer/limits"
BOTH = "/api/functions/bank-both/limits"


def make_bank() -> App:
    bank = App("bank")

    @bank.function(on="shop/paid", concurrency=Concurrency(1, per="run"), throttle=Throttle(100, "1s", burst=50))
    async def transfer(ctx: Context) -> None:
        await ctx.step.sleep("long", "1d")

    @bank.function(
        on="bank/both",
        concurrency=[Concurrency(2, key="event.data.customer"), Concurrency(20, key="'smtp'", scope="env")],
        rate_limit=RateLimit(5, "1h"),
    )
    async def both(ctx: Context) -> None: ...

    @bank.function(on="bank/free")
    async def free(ctx: Context) -> None: ...

    return bank


async def put(world: World, body: dict[str, Any], path: str = LIMITS, **more: Any) -> tuple[int, Any]:
    status, answer, _ = await world.call("PUT", path, json=body, **more)
    return status, answer["data"] if status == 200 else answer["error"]


async def shown(world: World, path: str = LIMITS) -> Any:
    return (await world.call("GET", path))[1]["data"]


def overrides(answer: Any) -> dict[str, Any]:
    return {one["option"]: one["override"] for one in answer["limits"] if one["override"]}


async def test_what_queues_passes_at_once_and_what_is_set_is_shown_until_it_is_reset(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_bank()]) as world:
        for _ in range(3):
            await world.started()

        def passed() -> int:
            return sum(isinstance(fact, GateOpened) and "/runs/" in fact.place for fact in world.facts)

        await world.fact(lambda fact: passed() == 1)
        status, answer = await put(world, {"concurrency": 3, "by": "ada"})
        assert status == 200 and overrides(answer) == {"concurrency": {"limit": 3}}
        await world.fact(lambda fact: passed() == 3)
        (rule, _) = (await shown(world))["limits"]
        assert rule["declared"] == {"limit": 1} and rule["by"] == "ada" and rule["since"] and rule["request"]
        status, answer = await put(world, {"throttle": {"limit": 10, "period": "1m"}})
        assert overrides(answer) == {
            "concurrency": {"limit": 3},
            "throttle": {"limit": 10, "period": "1m", "burst": 50},
        }, "one that was not named stays, and what was left out is as declared"
        (function,) = [one for one in (await world.call("GET", "/dev"))[1]["functions"] if "overrides" in one]
        assert function["id"] == "bank-transfer" and [one["option"] for one in function["overrides"]] == [
            "concurrency",
            "throttle",
        ]
        assert overrides((await put(world, {"concurrency": None}))[1]).keys() == {"throttle"}
        status, answer, _ = await world.call("DELETE", LIMITS)
        assert status == 200 and overrides(answer["data"]) == {}
        changes = (await shown(world))["changes"]
        assert [change["asked"] for change in changes] == [
            {"concurrency": None, "throttle": None, "rate_limit": None},
            {"concurrency": None},
            {"throttle": {"limit": 10, "period": "1m", "burst": None}},
            {"concurrency": 3},
        ]
        assert changes[-1]["by"] == "ada" and changes[-1]["client"] == "127.0.0.1" and changes[-1]["at"]


async def test_two_rules_take_a_number_each(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_bank()]) as world:
        _, answer = await put(world, {"concurrency": [None, 3]}, BOTH)
        assert [one["override"] for one in answer["limits"]] == [None, {"limit": 3}, None]
        status, why = await put(world, {"concurrency": 3}, BOTH)
        assert status == 400 and "declares 2 concurrency rule(s) and 1 number(s) came" in why
        assert "key 'smtp', scope env" in why


async def test_a_request_whose_answer_was_lost_changes_nothing_twice(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_bank()]) as world:
        seed = {SEED_HEADER: f"{time.time_ns() // 1_000_000},{base64.b64encode(b'0123456789').decode()}"}
        for _ in range(2):
            assert (await put(world, {"concurrency": 3}, headers=seed))[0] == 200
        assert len((await shown(world))["changes"]) == 1
        assert len([fact for fact in world.facts if isinstance(fact, LimitsSeen)]) <= 1


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/api/functions/lost/limits", {"concurrency": 3}, 404, "Known functions: bank-both"),
        ("/api/functions/bank-free/limits", {"concurrency": 3}, 409, "declares no concurrency"),
        (LIMITS, {"rate_limit": {"limit": 3}}, 409, "It declares: concurrency, throttle"),
        (LIMITS, {}, 400, "no limit was named"),
        (LIMITS, {"concurency": 3}, 400, "concurency"),
        (LIMITS, {"concurrency": 0}, 400, "must be 1 to 1,000,000, got 0"),
        (LIMITS, {"concurrency": True}, 400, "got `bool`"),
        (LIMITS, {"concurrency": [3, 3]}, 400, "declares 1 concurrency rule(s) and 2 number(s) came"),
        (LIMITS, {"throttle": {"limit": 3, "period": "soon"}}, 400, "throttle's period refused"),
        (LIMITS, {"throttle": {"limit": 3, "period": 0}}, 400, "must be at least 1s"),
        (LIMITS, {"throttle": {"limit": 3, "period": "30d"}}, 400, "throttle's period must be 1s to 7d, got 30d"),
        (LIMITS, {"throttle": {"limit": 3, "key": "x"}}, 400, "key"),
        (BOTH, {"rate_limit": {"limit": 3, "burst": 2}}, 400, "has no burst"),
        (LIMITS, {"concurrency": 3, "by": "x" * 201}, 400, "by must be text"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_sentence(
    tmp_path: Path, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    async with open_world(tmp_path, apps=[make_bank()], follows=False) as world:
        got, why = await put(world, body, path)
        assert got == status and said in why, why


async def test_reading_and_resetting_a_function_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_bank()], follows=False) as world:
        for method in ("GET", "DELETE"):
            assert (await world.call(method, "/api/functions/lost/limits"))[0] == 404


async def test_changing_limits_asks_for_a_key(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_bank()], follows=False, event_keys=("K",)) as world:
        assert (await put(world, {"concurrency": 3}))[0] == 401
        assert (await world.call("DELETE", LIMITS))[0] == 401
        assert (await world.call("GET", LIMITS))[0] == 200
        assert (await put(world, {"concurrency": 3}, headers=KEY))[0] == 200
