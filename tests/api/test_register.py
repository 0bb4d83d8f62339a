"""An app registers over HTTP, and is an app of the group from then on: its functions start, change, and go."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from millstream.api.apps import registry
from millstream.apps.functions_topic import Known, read_known
from millstream.log.memory.log import MemoryLog
from millstream.log.port import Log
from millstream.model.facts import CronArmed, CronDisarmed, RunStarted
from tests.api.door import World, make_shop, open_world
from tests.api.sdk_apps import sdk_app

SENT: dict[str, dict[str, Any]] = json.loads((Path(__file__).parents[1] / "wire" / "registrations.json").read_text())
URL = "http://127.0.0.1:1/api/inngest"


def registration(*names: str, app: str = "raw", url: str = URL, **options: Any) -> dict[str, Any]:
    """An app with functions that start on an event of their name; all have these options."""
    functions = [
        {
            "id": f"{app}-{name}",
            "name": name,
            "triggers": [{"event": f"raw/{name}"}],
            "steps": {"step": {"runtime": {"type": "http", "url": f"{url}?fnId={app}-{name}&stepId=step"}}},
        }
        | options
        for name in names
    ]
    return {"appname": app, "url": url, "sdk": "py:v0.5.19", "framework": "x", "functions": functions}


async def register(world: World, body: Any, **headers: str) -> tuple[int, Any]:
    status, answer, _ = await world.call("POST", "/fn/register", json=body, headers=headers)
    return status, answer


async def listed(world: World) -> dict[str, Any]:
    rows = (await world.call("GET", "/api/apps"))[1]["data"]
    return {row["id"]: row for row in rows}


async def test_it_is_answered_as_sdks_expect_and_only_a_change_is_one(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        first = await register(world, registration("f"))
        again = await register(world, registration("f"))
        changed = await register(world, registration("f", "g"))
        assert [answer["modified"] for _, answer in (first, again, changed)] == [True, False, True]
        assert {(status, answer["ok"], answer["app_id"]) for status, answer in (first, again, changed)} == {
            (200, True, first[1]["app_id"])
        }
        assert first[1]["sync_id"] == again[1]["sync_id"] != changed[1]["sync_id"]
        assert await world.log.end_offset("shop.functions", 0) == 2, "what has not changed writes nothing"


@pytest.mark.parametrize("sdk", ["py", "js"])
async def test_what_the_sdks_send_is_taken_and_listed(tmp_path: Path, sdk: str) -> None:
    async with open_world(tmp_path) as world:
        status, _ = await register(world, SENT[sdk])
        assert status == 200
        row = (await listed(world))[f"wire {sdk}"]
        assert (row["url"], row["sdk"]) == (SENT[sdk]["url"], SENT[sdk]["sdk"])
        assert len(row["functions"]) == len(SENT[sdk]["functions"])
        functions = (await world.call("GET", "/dev"))[1]["functions"]
        step = {"id": "step", "name": "step", "retries": 0}
        uri = f"http://127.0.0.1:3000/api/inngest?fnId=wire+{sdk}-three&stepId=step"
        assert next(f["steps"] for f in functions if f["slug"] == f"wire {sdk}-three") == [step | {"uri": uri}]


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        (registration("f", triggers=[{"cron": "nonsense"}]), {}, "At least one function is invalid: "),
        (registration("f", triggers=[{"event": "x", "expression": "((("}]), {}, "At least one function is invalid: "),
        (registration("f", throttle={"limit": 1, "period": "1s", "key": "((("}), {}, "throttle's key"),
        (registration("f", cancel=[{"event": "x", "if": "((("}]), {}, "cancel_on 'x'"),
        (registration("f", steps={}), {}, "At least one function is invalid: "),
        (registration("f") | {"sdk": "js:v3.50.0"}, {}, "CVE-2026-42047"),
        ({}, {}, "Invalid request: "),
        (registration("f"), {"X-Inngest-Expected-Server-Kind": "cloud"}, "Expected server kind dev, got cloud"),
    ],
)
async def test_what_cannot_be_is_refused_with_the_reason_and_nothing_is_stored(
    tmp_path: Path, body: Any, headers: dict[str, str], error: str
) -> None:
    async with open_world(tmp_path) as world:
        status, answer = await register(world, body, **headers)
        assert (status, answer["status"], answer["data"]) == (400, 400, None)
        assert error in answer["error"]
        assert await world.log.end_offset("shop.functions", 0) == 0


async def test_a_function_that_vanished_starts_no_more_its_cron_stops_and_its_open_run_stays(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        cron = {"triggers": [{"event": "raw/f"}, {"cron": "0 0 1 1 *"}]}
        assert (await register(world, registration("f", **cron)))[0] == 200
        assert (await world.fact(lambda fact: isinstance(fact, CronArmed))).function == "raw-f"
        await world.call("POST", "/e/K", json={"name": "raw/f"})
        run = (await world.fact(lambda fact: isinstance(fact, RunStarted))).run

        assert (await register(world, registration("g")))[1]["modified"] is True
        assert (await world.fact(lambda fact: isinstance(fact, CronDisarmed))).function == "raw-f"
        await world.call("POST", "/e/K", json=[{"name": "raw/f"}, {"name": "raw/g"}])
        started = await world.fact(lambda fact: isinstance(fact, RunStarted) and fact.run != run)
        assert started.function == "raw-g", "the event of the archived function came first and started nothing"
        shown = await world.shown(run, "Running")
        assert shown["function_id"] == "raw-f"


async def test_an_event_sent_after_the_answer_starts_the_function(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        for number in range(20):
            await register(world, registration(f"f{number}"))
            await world.call("POST", "/e/K", json={"name": f"raw/f{number}"})
        for number in range(20):
            await world.fact(lambda fact, slug=f"raw-f{number}": getattr(fact, "function", "") == slug)


async def test_apps_are_known_after_a_restart(tmp_path: Path) -> None:
    log = MemoryLog()
    async with open_world(tmp_path, log) as world:
        await register(world, registration("f"))
        async with open_world(tmp_path / "later", log) as later:
            assert (await listed(later))["raw"]["functions"] == ["raw-f"]
            assert (await register(later, registration("f")))[1]["modified"] is False


async def test_an_app_with_code_in_a_worker_keeps_its_id_and_its_functions(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        status, answer = await register(world, registration("f", app="shop"))
        assert (status, answer["status"]) == (409, 409)
        assert "has its code in a worker" in answer["error"] and "apps remove shop" in answer["error"]
        status, answer = await register(world, registration("f") | {"functions": _slugs("shop-fulfil")})
        assert status == 409 and "'shop-fulfil' is one of app 'shop'" in answer["error"]


def _slugs(*slugs: str) -> list[dict[str, Any]]:
    [made] = registration("f")["functions"]
    return [made | {"id": slug} for slug in slugs]


async def test_two_apps_that_claim_one_id_are_refused_with_both_addresses_while_the_first_answers(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path) as world:
        server = world.served.url
        async with sdk_app(server) as first, sdk_app(server, functions=("other",)) as second:
            assert (await first.put())[0] == 200
            answer = (await second.put())[1]
            assert answer["status"] == 409
            assert first.url in answer["error"] and second.url in answer["error"]
            assert (await listed(world))["sdk"]["functions"] == ["sdk-hello"]
            assert (await first.put())[1]["modified"] is False
        async with sdk_app(server, functions=("other",)) as moved:
            assert (await moved.put())[1]["modified"] is True
            assert (await listed(world))["sdk"]["url"] == moved.url


async def test_two_apps_that_two_servers_take_at_one_moment_are_told_apart_by_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has read the topic before the other writes: neither could know."""
    both_have_read = asyncio.Barrier(2)

    async def reads(log: Log, group: str) -> Known:
        known = await read_known(log, group)
        if waits:
            await both_have_read.wait()
        return known

    waits = True
    monkeypatch.setattr(registry, "read_known", reads)
    log = MemoryLog()
    async with (
        open_world(tmp_path / "1", log) as one,
        open_world(
            tmp_path / "2",
            log,
        ) as two,
        sdk_app(one.served.url) as first,
        sdk_app(two.served.url, functions=("other",)) as second,
    ):
        answers = dict(zip((first, second), await asyncio.gather(first.put(), second.put()), strict=True))
        (winner,) = [app for app, (_, answer) in answers.items() if answer.get("modified") is True]
        (refused,) = [answer for _, answer in answers.values() if answer.get("status") == 409]
        assert first.url in refused["error"] and second.url in refused["error"]
        waits = False
        assert (await winner.put())[1]["modified"] is False
        for world in (one, two):
            assert (await listed(world))["sdk"]["url"] == winner.url


async def test_the_same_functions_at_a_second_address_are_the_same_app(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, sdk_app(world.served.url) as second:
        async with sdk_app(world.served.url) as first:
            await first.put()
            assert (await second.put())[1]["modified"] is False
            assert (await listed(world))["sdk"]["url"] == first.url
        assert (await second.put())[1]["modified"] is True
        assert (await listed(world))["sdk"]["url"] == second.url, "the first is gone"


async def test_another_app_on_the_first_address_does_not_answer_for_it(tmp_path: Path) -> None:
    """Dev servers that are started in another order swap their ports."""
    async with open_world(tmp_path) as world:
        server = world.served.url
        async with sdk_app(server) as first:
            await first.put()
            port = int(first.url.split(":")[2].split("/")[0])
        async with sdk_app(server, id="another", port=port), sdk_app(server, functions=("new",)) as moved:
            assert (await moved.put())[1]["modified"] is True
            assert (await listed(world))["sdk"]["url"] == moved.url
            assert "another" not in await listed(world), "it was only asked"


async def test_names_of_this_machine_are_one_address(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await register(world, registration("f"))
        other = registration("f", url=URL.replace("127.0.0.1", "localhost"))
        assert (await register(world, other))[1]["modified"] is False


async def test_a_removed_app_starts_nothing_and_comes_back_when_it_registers(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await register(world, registration("f"))
        status, body, _ = await world.call("DELETE", f"/fn/remove?url={URL}")
        assert (status, body) == (200, "")
        assert await listed(world) == {}
        assert (await world.call("DELETE", f"/fn/remove?url={URL}"))[0] == 404
        assert (await register(world, registration("f")))[1]["modified"] is True
        assert (await world.call("DELETE", "/api/apps/raw"))[1]["data"]["functions"] == ["raw-f"]
        assert (await world.call("DELETE", "/api/apps/raw"))[0] == 404


async def test_a_web_page_can_neither_register_nor_remove(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        page = {"Origin": "https://evil.example"}
        assert (await register(world, registration("f"), **page))[0] == 403
        text = json.dumps(registration("f"))
        status, *_ = await world.call("POST", "/fn/register", data=text, headers={"Content-Type": "text/plain"})
        assert status == 403
        assert (await world.call("DELETE", f"/fn/remove?url={URL}", headers=page))[0] == 403
        assert await world.log.end_offset("shop.functions", 0) == 0


async def test_combinations_that_mean_nothing_are_carried_out_since_their_app_was_written_so(tmp_path: Path) -> None:
    """Refused in Python; an app over HTTP has them from a server that takes them."""
    options = {"debounce": {"period": "1s"}, "rateLimit": {"limit": 2, "period": "1h"}}
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        assert (await register(world, registration("f", **options)))[0] == 200
        await world.call("POST", "/e/K", json=[{"name": "raw/f", "data": {"n": n}} for n in range(4)])
        started = await world.fact(
            lambda fact: getattr(fact, "function", "") == "raw-f" and isinstance(fact, RunStarted)
        )
        events = {event.internal_id: event for event in await world.stored()}
        assert json.loads(events[started.events[0]].data) == {"n": 1}, "the last that the rate limit has let through"
