"""Waiting for a run's end over HTTP: answered when it ends, or in time; many who wait cost little."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import pytest

from millstream import App, Context
from millstream.api.door.seeds import SEED_HEADER
from millstream.api.reading import results
from millstream.api.reading.reads import Reads
from millstream.model.facts import RunCompleted, RunStarted, SignalAwaited
from millstream.model.ids import ulid
from tests.api.door import FULFIL, GROUP, NOW_MS, make_shop, open_world

UNKNOWN = ulid(NOW_MS, b"0123456789")


def make_gate() -> App:
    """Runs that wait until the test lets them go."""
    gate = App("gate")

    @gate.function(on="shop/paid")
    async def wait(ctx: Context) -> Any:
        return await ctx.step.wait_for_signal("go", ctx.event.data["signal"], timeout="1h")

    return gate


async def test_a_wait_is_answered_when_the_run_ends(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_gate()]) as world:
        _, run = await world.started(signal="go")
        waiting = asyncio.create_task(world.call("GET", f"/v1/runs/{run}/result?wait=1m"))
        await world.shown(run, "Running")
        await world.fact(lambda fact: isinstance(fact, SignalAwaited))
        assert (await world.call("POST", "/v1/signals", json={"signal": "go", "data": [7]}))[0] == 200
        status, answer, _ = await waiting
        assert (status, answer["status"]) == (200, 200)
        assert answer["data"] == {"run_id": run, "function_id": "gate-wait", "status": "Completed", "output": [7]}
        assert (await world.call("GET", f"/v1/runs/{run}/result"))[1] == answer, "also without a wait, and later"


async def test_a_run_that_is_not_over_is_a_202_after_the_time_asked_for(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_gate()]) as world:
        _, run = await world.started(signal="go")
        await world.shown(run, "Running")
        for query in ("", "?wait=50ms"):
            status, answer, _ = await world.call("GET", f"/v1/runs/{run}/result{query}")
            assert (status, answer["data"]["status"]) == (202, "Running")
            assert "output" not in answer["data"]


async def test_failed_and_cancelled_runs_say_so(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, failed = await world.started(then="fail")
        status, answer, _ = await world.call("GET", f"/v1/runs/{failed}/result?wait=10s")
        assert (status, answer["data"]["status"], answer["data"]["error"]["name"]) == (200, "Failed", "ValueError")
        _, cancelled = await world.started(then="wait")
        await world.call("DELETE", f"/v1/runs/{cancelled}")
        status, answer, _ = await world.call("GET", f"/v1/runs/{cancelled}/result?wait=10s")
        assert (status, answer["data"]["status"], answer["data"]["error"]["name"]) == (200, "Cancelled", "Cancelled")


async def test_a_run_that_is_not_there_is_a_404_and_a_wait_that_is_none_a_400(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        assert (await world.call("GET", f"/v1/runs/{UNKNOWN}/result?wait=1m"))[0] == 404
        assert (await world.call("GET", f"/v1/runs/{UNKNOWN}/result"))[0] == 404
        assert (await world.call("GET", "/v1/runs/nonsense/result"))[0] == 400
        status, answer, _ = await world.call("GET", f"/v1/runs/{UNKNOWN}/result?wait=soon")
        assert (status, '"5m"' in answer["error"]) == (400, True)


async def test_a_history_that_is_behind_is_waited_for_and_does_not_deny_a_run(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()], follows=False) as world:
        _, run = await world.started()
        await world.fact(lambda fact: isinstance(fact, RunCompleted))
        assert (await world.call("GET", f"/v1/runs/{run}/result?wait=300ms"))[0] == 503, "nobody can say yet"
        waiting = asyncio.create_task(world.call("GET", f"/v1/runs/{run}/result?wait=1m"))
        await world.fold()
        status, answer, _ = await waiting
        assert (status, answer["data"]["output"]) == (200, {"ok": True})
        assert (await world.call("GET", f"/v1/runs/{UNKNOWN}/result?wait=1m"))[0] == 404


async def test_an_invocation_that_waits_is_answered_with_the_result(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        status, answer, _ = await world.call("POST", f"/invoke/{FULFIL}?wait=10s", json={"data": {}})
        assert (status, answer["status"], answer["data"]["output"]) == (200, 200, {"ok": True})
        assert answer["data"]["run_id"] == answer["run_id"]
        status, answer, _ = await world.call("POST", f"/invoke/{FULFIL}?wait=50ms", json={"data": {"then": "wait"}})
        assert (status, answer["status"], "data" in answer) == (202, 202, False)
        assert (await world.call("GET", f"/v1/runs/{answer['run_id']}/result"))[0] == 202
        assert (await world.call("POST", f"/invoke/{FULFIL}?wait=soon", json={}))[0] == 400
        assert sum(isinstance(fact, RunStarted) for fact in world.facts) == 2


async def test_an_invocation_that_is_sent_again_starts_one_run(tmp_path: Path) -> None:
    seed = {SEED_HEADER: f"{time.time_ns() // 1_000_000},{base64.b64encode(b'0123456789').decode()}"}
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        asked = [world.call("POST", f"/invoke/{FULFIL}", json={"data": {}}, headers=seed) for _ in range(3)]
        answers = [answer for _, answer, _ in await asyncio.gather(*asked)]
        answers.append((await world.call("POST", f"/invoke/{FULFIL}?wait=10s", json={}, headers=seed))[1])
        assert len({answer["run_id"] for answer in answers}) == len({answer["id"] for answer in answers}) == 1
        assert sum(isinstance(fact, RunStarted) for fact in world.facts) == 1


async def test_many_who_wait_look_together_and_each_gets_its_own_run(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_gate()]) as world:
        runs = [(await world.started(signal=f"go-{n}"))[1] for n in range(20)]
        asked = [world.call("GET", f"/v1/runs/{run}/result?wait=1m") for run in runs for _ in range(4)]
        waiting = asyncio.gather(*asked)
        await world.shown(runs[-1], "Running")
        for n in range(20):
            await world.fact(lambda fact, n=n: isinstance(fact, SignalAwaited) and fact.signal == f"go-{n}")  # type: ignore[misc]
            assert (await world.call("POST", "/v1/signals", json={"signal": f"go-{n}", "data": n}))[0] == 200
        got = [(answer["data"]["run_id"], answer["data"]["output"]) for _, answer, _ in await waiting]
        assert got == [(run, n) for n, run in enumerate(runs) for _ in range(4)]


async def test_no_more_may_wait_than_leaves_connections_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_waits_max", lambda: 1)
    async with open_world(tmp_path, apps=[make_gate()]) as world:
        _, run = await world.started(signal="go")
        await world.shown(run, "Running")
        waiting = [asyncio.create_task(world.call("GET", f"/v1/runs/{run}/result?wait=1s")) for _ in range(3)]
        answered = [
            (status, response.headers.get("Retry-After")) for status, _, response in await asyncio.gather(*waiting)
        ]
        assert sorted(answered, key=str) == [(202, None), (503, "1"), (503, "1")]


async def test_a_run_that_is_over_is_never_shown_without_its_result(tmp_path: Path) -> None:
    """A look sees first that runs are over, and then reads their results: a wait may end in between."""
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        runs = [(await world.started(then=then))[1] for then in ("", "fail")]
        for run in runs:
            assert (await world.call("GET", f"/v1/runs/{run}/result?wait=10s"))[0] == 200
        reads = Reads(world.index)
        read = 0

        async def ask(question: Any) -> Any:
            nonlocal read
            found = await reads.ask(question)
            if isinstance(found, list) and any(seen.result or seen.error for seen in found):
                read += 1
                await asyncio.sleep(0.5)
            return found

        waits = results.Results(ask, world.log, GROUP, lanes=1)
        done, failed = await asyncio.gather(*(waits.result(run, 0.2) for run in runs))
        waits.close()
        reads.close()
        assert read
        assert done is not None and (done.status, done.result) == ("Completed", b'{"ok":true}')
        assert failed is not None and failed.status == "Failed" and b"ValueError" in failed.error


async def test_a_server_that_stops_answers_those_who_wait(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_gate()]) as world:
        _, run = await world.started(signal="go")
        await world.shown(run, "Running")
        waiting = asyncio.create_task(world.call("GET", f"/v1/runs/{run}/result?wait=1m"))
        await asyncio.sleep(0.2)  # Under way; one that is not yet is answered as well.
        began = time.monotonic()
        await world.served.close()
        assert ((await waiting)[0], time.monotonic() - began < 4) == (202, True)
