"""Reading back, cancelling, invoking, and the page: on a real port, the journal written as a lane writes it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from millstream.log.port import Produced
from millstream.model.commands import CancelRun, InvokeFunction
from millstream.model.facts import RunCancelled, RunCompleted, RunFailed, RunStarted, StepAttemptFailed, StepCompleted
from millstream.model.ids import run_id, ulid
from millstream.model.messages import Reply
from millstream.wire.messages import decode_inbox, encode_reply
from tests.api.door import GROUP, NOW_MS, World, open_world

UNKNOWN = ulid(NOW_MS, b"0123456789")


async def _one_run(world: World, name: str = "shop/paid") -> tuple[str, str]:
    """An event posted and a run started by it: (event id, run id)."""
    event = (await world.call("POST", "/e/K", json={"name": name, "data": {"n": 1}}))[1]["ids"][0]
    run = run_id(NOW_MS, event, "shop-fulfil", "", lane=0, lanes=1)
    await world.decided(RunStarted(run, "shop-fulfil", (event,), "", 0))
    return event, run


async def _lane(world: World, answers: dict[type, Any], asked: list[Any]) -> None:
    """Answers requests as a lane does, from the inbox to the replies; leaves the first one unanswered."""
    reader, writer = world.log.reader(f"{GROUP}.inbox", 0, 0), world.log.writer(f"{GROUP}.replies", 0)
    while True:
        for record in await reader.read(max_records=10, max_bytes=1 << 20, wait_s=5):
            message = decode_inbox(record.value or b"").message
            asked.append(message)
            facts, said = answers[type(message)](message)
            offset = await world.decided(*facts)
            reply = Reply(message.request, 0, offset, json.dumps(said).encode())
            await world.fold()
            await writer.append([Produced(encode_reply(reply))])


async def test_a_run_is_read_back_with_its_steps_and_attempts(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        event, run = await _one_run(world)
        await world.decided(
            StepAttemptFailed(run, "s1", "charge", 0, 1, "ValueError", "no <b>card</b>", "", NOW_MS, NOW_MS + 9),
            StepCompleted(run, "s1", "charge", "run", 1, 2, b'{"id":7}', NOW_MS, True),
            RunCompleted(run, "shop-fulfil", 3, b'{"ok":true}'),
        )
        await world.fold()
        status, answer, _ = await world.call("GET", f"/v1/runs/{run}")
        assert status == 200
        data = answer["data"]
        assert (data["status"], data["output"], data["event_id"]) == ("Completed", {"ok": True}, event)
        (step,) = data["steps"]
        assert (step["name"], step["status"], step["output"]) == ("charge", "completed", {"id": 7})
        assert [attempt["status"] for attempt in step["attempts"]] == ["failed", "completed"]
        assert step["attempts"][0]["error"]["message"] == "no <b>card</b>"
        _, runs, _ = await world.call("GET", f"/v1/events/{event}/runs")
        assert [one["run_id"] for one in runs["data"]] == [run]
        status, page, response = await world.call("GET", "/")
        assert status == 200
        assert "no &lt;b&gt;card&lt;/b&gt;" in page
        assert "<b>card" not in page
        assert "script-src 'nonce-" in response.headers["Content-Security-Policy"]


async def test_events_are_listed_and_found_by_either_id(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        posted = [{"name": f"a/{n % 2}", "data": {"n": n}, "id": f"mine-{n}"} for n in range(5)]
        ids = (await world.call("POST", "/e/K", json=posted))[1]["ids"]
        await world.fold()
        _, listed, _ = await world.call("GET", "/v1/events?name=a/0&limit=2")
        assert [event["data"]["n"] for event in listed["data"]] == [4, 2]
        _, rest, _ = await world.call("GET", f"/v1/events?name=a/0&cursor={listed['metadata']['cursor']}")
        assert [event["data"]["n"] for event in rest["data"]] == [0]
        for asked in (ids[3], "mine-3"):
            status, found, _ = await world.call("GET", f"/v1/events/{asked}")
            assert (status, found["data"]["internal_id"], found["data"]["id"]) == (200, ids[3], "mine-3")
        after = "2027-01-01T00:00:00Z"
        assert (await world.call("GET", f"/v1/events?received_after={after}"))[1]["data"] == []


async def test_what_is_not_there_is_a_404_and_what_is_wrong_a_400(tmp_path: Path) -> None:
    expected = {
        f"/v1/events/{UNKNOWN}": 404,
        f"/v1/events/{UNKNOWN}/runs": 200,
        "/v1/events/nonsense/runs": 404,
        f"/v1/runs/{UNKNOWN}": 404,
        "/v1/runs/nonsense": 400,
        "/v1/events?received_after=nonsense": 400,
        "/v1/events?limit=0": 400,
        "/api/runs?status=Odd": 400,
        "/api/runs?cursor=x": 400,
        "/nothing": 404,
    }
    async with open_world(tmp_path) as world:
        got = {path: (await world.call("GET", path))[0] for path in expected}
        assert got == expected


async def test_runs_are_filtered_and_paged_without_a_gap(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        runs = [(await _one_run(world))[1] for _ in range(7)]
        await world.decided(RunFailed(runs[2], "shop-fulfil", 0, "ValueError", "no", ""))
        await world.fold()
        seen: list[str] = []
        path = "/api/runs?status=running&function=shop-fulfil&limit=2"
        while path:
            _, answer, _ = await world.call("GET", path)
            seen += [run["run_id"] for run in answer["data"]]
            cursor = answer["metadata"]["cursor"]
            path = f"/api/runs?status=running&function=shop-fulfil&limit=2&cursor={cursor}" if cursor else ""
        assert seen == [run for run in reversed(runs) if run != runs[2]]
        _, failed, _ = await world.call("GET", "/api/runs?status=failed,cancelled")
        assert [(run["run_id"], run["output"]["message"]) for run in failed["data"]] == [(runs[2], "no")]
        assert (await world.call("GET", f"/api/runs?to={NOW_MS}"))[1]["data"] == []


async def test_a_cancelled_run_is_seen_as_cancelled_at_once_and_twice_is_no_error(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        _, run = await _one_run(world)
        open_runs = {run}

        def cancel(message: CancelRun) -> tuple[list[Any], dict[str, str]]:
            if message.run not in open_runs:
                return [], {"status": "not_open", "run": message.run}
            open_runs.remove(message.run)
            return [RunCancelled(message.run, "shop-fulfil", message.reason)], {
                "status": "cancelled",
                "run": message.run,
            }

        lane = asyncio.create_task(_lane(world, {CancelRun: cancel}, []))
        for _ in range(2):
            status, answer, _ = await world.call("DELETE", f"/v1/runs/{run}")
            assert (status, answer["data"]["status"]) == (200, "Cancelled")
        assert (await world.call("GET", f"/v1/runs/{run}"))[1]["data"]["status"] == "Cancelled"
        assert (await world.call("DELETE", f"/v1/runs/{UNKNOWN}"))[0] == 404
        lane.cancel()


async def test_an_invoked_function_answers_with_its_run_and_an_unknown_one_with_404(tmp_path: Path) -> None:
    def invoke(message: InvokeFunction) -> tuple[list[Any], dict[str, str]]:
        if message.function != "shop-fulfil":
            return [], {"status": "unknown_function", "function": message.function}
        run = run_id(NOW_MS, message.event.internal_id, message.function, message.request, lane=0, lanes=1)
        started = RunStarted(run, message.function, (message.event.internal_id,), message.request, 0)
        return [started], {"status": "started", "run": run}

    async with open_world(tmp_path) as world:
        asked: list[Any] = []
        lane = asyncio.create_task(_lane(world, {InvokeFunction: invoke}, asked))
        status, answer, _ = await world.call("POST", "/invoke/shop-fulfil", json={"data": {"a": 1}})
        assert (status, answer["status"]) == (200, 200)
        assert (await world.call("GET", f"/v1/runs/{answer['run_id']}"))[1]["data"]["event_id"] == answer["id"]
        data = json.loads(asked[0].event.data)
        assert (asked[0].event.name, data["a"]) == ("inngest/function.invoked", 1)
        assert data["_inngest"]["fn_id"] == "shop-fulfil"
        assert (await world.call("POST", "/invoke/nobody", json={"data": {}}))[0] == 404
        assert (await world.call("POST", "/invoke/shop-fulfil", json={"data": 5}))[0] == 400
        lane.cancel()


async def test_health_metrics_dev_and_an_empty_page(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        assert (await world.call("GET", "/health"))[1] == {"status": 200, "message": "OK"}
        assert (await world.call("GET", "/dev"))[1]["functions"] == []
        assert "curl -X POST" in (await world.call("GET", "/"))[1]
        await world.call("POST", "/e/K", json=[{"name": "a"}] * 3)
        metrics = (await world.call("GET", "/metrics"))[1]
        assert "millstream_events_received_total 3.0" in metrics
