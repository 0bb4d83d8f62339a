"""Reading back, cancelling, invoking, and the page: on a real port, of runs that a real lane has run."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from millstream import App, Batch, Concurrency, Context, Debounce, Throttle
from millstream.model.facts import RunStarted
from millstream.model.ids import ulid
from tests.api.door import FULFIL, NOW_MS, make_shop, open_world

UNKNOWN = ulid(NOW_MS, b"0123456789")


async def test_a_run_is_read_back_with_its_steps_and_attempts(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        event, run = await world.started()
        data = await world.shown(run, "Completed")
        assert (data["output"], data["event_id"], data["function_id"]) == ({"ok": True}, event, FULFIL)
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


async def test_a_run_shows_what_it_waits_for_and_whether_it_came(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(then="listen")
        (step,) = (await world.shown(run, "Waiting"))["steps"]
        assert step["waits_for"] == {"events": [{"event": "<news>", "match": "data.then"}]}
        assert (step["status"], step["timed_out"], step["ended_at"]) == ("waiting", False, None)
        assert step["started_at"] < step["wake_at"]
        assert "event &lt;news&gt; (data.then)" in (await world.call("GET", "/"))[1]

        _, run = await world.started(then="give up")
        (step,) = (await world.shown(run, "Completed"))["steps"]
        assert (step["status"], step["timed_out"], step["waits_for"]) == ("completed", True, {"signal": "news"})
        assert ">timed out</td>" in (await world.call("GET", "/"))[1]


async def test_a_run_and_the_one_it_has_invoked_name_each_other(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(then="ask")
        data = await world.shown(run, "Waiting")
        (step,) = data["steps"]
        child = step["waits_for"]["run_id"]
        assert step["waits_for"] == {"function_id": FULFIL, "run_id": child}
        assert (await world.shown(child, "Running"))["parent"] == {"run_id": run, "step": "child"}
        assert "parent" not in data
        page = (await world.call("GET", "/"))[1]
        assert f'<a href="#r{child}">run {child} of {FULFIL}</a>' in page
        assert f'invoked by step child of run <a href="#r{run}">{run}</a>' in page


async def test_the_page_shows_payloads_and_dates_and_its_counters_filter(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(basket="<7 apples>")
        await world.shown(run, "Completed")
        page = str((await world.call("GET", "/"))[1])
        assert "&quot;&lt;7 apples&gt;&quot;" in page
        assert re.search(r'<time class="dim" datetime="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ">\d{4}-\d\d-\d\d ', page)
        links = re.findall(r'<a href="([^"]+)"( aria-current="true")?><small>([^<]+)', page)
        assert [name for _, _, name in links] == ["All runs", "Open runs", "Parked", "Completed", "Failed", "Cancelled"]
        assert [name for _, here, name in links if here] == ["All runs"]
        for path, _, name in links:
            status, filtered, _ = await world.call("GET", path)
            assert status == 200 and (run in filtered) is (name in ("All runs", "Completed")), name
        for path, holds in ((f"/?function={FULFIL}", True), ("/?function=other", False), ("/?event_name=x", False)):
            assert (run in (await world.call("GET", path))[1]) is holds
        assert (await world.call("GET", "/?status=odd"))[0] == 400
        assert "<script>" not in (await world.call("GET", "/?function=%22%3E%3Cscript%3E&cursor=1"))[1]


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
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        runs = [(await world.started(then="fail" if n == 2 else "wait"))[1] for n in range(7)]
        failed = await world.shown(runs[2], "Failed")
        for run in runs[3:]:
            await world.shown(run, "Running")
        seen: list[str] = []
        path = f"/api/runs?status=running&function={FULFIL}&limit=2"
        while path:
            _, answer, _ = await world.call("GET", path)
            seen += [run["run_id"] for run in answer["data"]]
            cursor = answer["metadata"]["cursor"]
            path = f"/api/runs?status=running&function={FULFIL}&limit=2&cursor={cursor}" if cursor else ""
        assert seen == [run for run in reversed(runs) if run != runs[2]]
        _, listed, _ = await world.call("GET", "/api/runs?status=failed,cancelled")
        assert [(run["run_id"], run["output"]["message"]) for run in listed["data"]] == [(runs[2], "no")]
        first = (await world.shown(runs[0], "Running"))["queued_at"]
        assert (await world.call("GET", f"/api/runs?to={first}"))[1]["data"] == []
        assert failed["error"]["name"] == "ValueError"


async def test_a_cancelled_run_is_seen_as_cancelled_at_once_and_twice_is_no_error(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(then="wait")
        for _ in range(2):
            status, answer, _ = await world.call("DELETE", f"/v1/runs/{run}")
            assert (status, answer["data"]["status"]) == (200, "Cancelled")
            assert (await world.call("GET", f"/v1/runs/{run}"))[1]["data"]["status"] == "Cancelled"
        assert (await world.call("DELETE", f"/v1/runs/{UNKNOWN}"))[0] == 404


async def test_cancelling_a_run_that_has_ended_says_how_it_ended(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(then="fail")
        await world.shown(run, "Failed")
        status, answer, _ = await world.call("DELETE", f"/v1/runs/{run}")
        assert (status, answer["data"]["status"]) == (200, "Failed")


async def test_an_invoked_function_answers_with_its_run_and_an_unknown_one_with_404(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        status, answer, _ = await world.call("POST", f"/invoke/{FULFIL}", json={"data": {"a": 1}})
        assert (status, answer["status"]) == (200, 200)
        assert (await world.call("GET", f"/v1/runs/{answer['run_id']}"))[1]["data"]["event_id"] == answer["id"]
        _, event, _ = await world.call("GET", f"/v1/events/{answer['id']}")
        assert (event["data"]["name"], event["data"]["data"]["a"]) == ("inngest/function.invoked", 1)
        assert event["data"]["data"]["_inngest"]["fn_id"] == FULFIL
        assert (await world.shown(answer["run_id"], "Completed"))["output"] == {"ok": True}
        status, refused, _ = await world.call("POST", "/invoke/nobody", json={"data": {}})
        assert (status, FULFIL in refused["error"]) == (404, True)
        assert (await world.call("POST", f"/invoke/{FULFIL}", json={"data": 5}))[0] == 400
        assert sum(isinstance(fact, RunStarted) for fact in world.facts) == 1


async def test_ids_of_apps_and_functions_may_hold_spaces(tmp_path: Path) -> None:
    spaced = App("wire py")

    @spaced.function(on="wire/three", id="my three+3")
    async def three(ctx: Context) -> int:
        """One step."""
        return await ctx.step.run("one", lambda: 3)

    async with open_world(tmp_path, apps=[spaced]) as world:
        slug = "wire py-my three+3"
        path = quote(slug, safe="")
        status, answer, _ = await world.call("POST", f"/invoke/{path}?wait=10s", json={})
        assert (status, answer["data"]["output"]) == (200, 3)
        (listed,) = (await world.call("GET", "/dev"))[1]["functions"]
        assert (listed["slug"], listed["app"]) == (slug, "wire py")
        run = await world.shown(answer["run_id"], "Completed")
        assert run["function_id"] == slug
        for name in ("queues", "limits"):
            assert (await world.call("GET", f"/api/functions/{path}/{name}"))[0] == 200
        status, page, _ = await world.call("GET", f"/?function={path}")
        assert status == 200 and answer["run_id"] in page


async def test_the_functions_that_a_worker_registered_are_listed(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        (function,) = (await world.call("GET", "/dev"))[1]["functions"]
        assert (function["slug"], function["app"], function["retries"]) == (FULFIL, "shop", 1)
        assert function["triggers"] == [{"event": "shop/paid"}]
        assert function["flow"] == {}


async def test_a_function_is_listed_with_the_flow_control_that_it_declares(tmp_path: Path) -> None:
    app = App("shop")

    @app.function(
        on="shop/paid",
        concurrency=[10, Concurrency(2, "'crm'", scope="env")],
        throttle=Throttle(5, "90s"),
        debounce=Debounce("10s", key="event.data.doc"),
        priority="event.data.rank",
    )
    async def mail(ctx: Context) -> None: ...

    @app.function(on="shop/sold", batch=Batch(100, "5s", if_="event.data.n > 1"))
    async def write(ctx: Context) -> None: ...

    async with open_world(tmp_path, apps=[app]) as world:
        functions = (await world.call("GET", "/dev"))[1]["functions"]
        flow = {function["slug"]: function["flow"] for function in functions}
        assert flow["shop-mail"] == {
            "concurrency": [
                {"limit": 10, "scope": "fn", "per": "step"},
                {"limit": 2, "key": "'crm'", "scope": "env", "per": "step"},
            ],
            "throttle": {"limit": 5, "period": "1m30s", "burst": 1},
            "debounce": {"period": "10s", "key": "event.data.doc"},
            "priority": "event.data.rank",
        }
        assert flow["shop-write"] == {"batch": {"max_size": 100, "timeout": "5s", "if": "event.data.n > 1"}}


async def test_health_metrics_dev_and_an_empty_page(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        assert (await world.call("GET", "/health"))[1] == {"status": 200, "message": "OK"}
        assert (await world.call("GET", "/dev"))[1]["functions"] == []
        assert "curl -X POST" in (await world.call("GET", "/"))[1]
        await world.call("POST", "/e/K", json=[{"name": "a"}] * 3)
        metrics = (await world.call("GET", "/metrics"))[1]
        assert "millstream_events_received_total 3.0" in metrics
