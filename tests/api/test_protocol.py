"""What only the SDKs' protocol asks: jobs, functions of apps, the old cancel, and what is taken and not kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

from millstream import App, Concurrency, Context
from millstream.model.ids import hash16
from tests.api.door import FULFIL, make_shop, open_world
from tests.api.test_runs import UNKNOWN


def make_busy() -> App:
    """Steps that are not over, each in another way."""
    busy = App("busy")

    @busy.function(on="busy/steps", retries=0, on_exhausted="hold")
    async def steps(ctx: Context) -> None:
        """A sleep, a wait and a step that is held, side by side."""

        def bad() -> None:
            raise ValueError("no luck")

        await asyncio.gather(
            ctx.step.sleep("nap", "1d"),
            ctx.step.wait_for_signal("news", "news", timeout="2d"),
            ctx.step.run("bad", bad),
        )

    @busy.function(on="busy/body", retries=0, on_exhausted="hold")
    async def body(ctx: Context) -> None:
        """The body itself is held."""
        raise ValueError("no luck")

    @busy.function(on="busy/queue", concurrency=Concurrency(1))
    async def queue(ctx: Context) -> None:
        """One at a time."""
        await ctx.step.run("long", lambda: asyncio.sleep(3600))

    return busy


async def test_jobs_are_what_of_an_open_run_is_still_to_be_done(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_busy(), make_shop()]) as world:

        async def jobs(name: str, status: str) -> tuple[str, list[tuple[str, str, int, bool]]]:
            sent = (await world.call("POST", "/e/K", json={"name": name, "data": {}}))[1]["ids"][0]
            run = (await world.fact(lambda fact: sent in getattr(fact, "events", ()))).run
            await world.shown(run, status)
            _, answer, _ = await world.call("GET", f"/v1/runs/{run}/jobs")
            rows = [(job["kind"], job["status"], job["attempt"], job["at"] is not None) for job in answer["data"]]
            if name == "busy/steps":
                assert {job["JobID"] for job in answer["data"]} == {
                    hash16(run, step).hex() for step in ("nap", "news", "bad")
                }
            return run, rows

        _, rows = await jobs("busy/steps", "Held")
        expected = [("run", "held", 1), ("sleep", "sleeping", 0), ("wait_for_signal", "waiting", 0)]
        assert sorted(rows) == [(*row, True) for row in expected]
        assert (await jobs("busy/body", "Held"))[1] == [("body", "held", 1, True)]
        first, rows = await jobs("busy/queue", "Running")
        assert [row[0] for row in rows] == ["body"]
        _, rows = await jobs("busy/queue", "Queued")
        assert [row[0] for row in rows] == ["body"]
        await world.call("DELETE", f"/v0/runs/{first}")
        assert (await world.call("GET", f"/v1/runs/{first}/jobs"))[1]["data"] == []
        assert (await world.call("GET", f"/v1/runs/{UNKNOWN}/jobs"))[0] == 404
        assert (await world.call("GET", "/v1/runs/x/jobs"))[0] == 400


async def test_functions_of_an_app_are_those_that_are_registered(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop(), App("a b/c")]) as world:
        status, functions, _ = await world.call("GET", "/v1/apps/shop/functions")
        assert (status, [(one["id"], one["app_id"], one["name"]) for one in functions]) == (
            200,
            [(FULFIL, "shop", "fulfil")],
        )
        assert functions[0]["config"]["triggers"] == [{"event": "shop/paid"}]
        assert (await world.call("GET", "/v1/apps/a%20b%2Fc/functions"))[1] == []
        status, answer, _ = await world.call("GET", "/v1/apps/other/functions")
        assert (status, answer["error"]) == (404, "app 'other' not found. Known apps: a b/c, shop.")


async def test_the_old_cancel_is_the_cancel(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(then="wait")
        status, answer, _ = await world.call("DELETE", f"/v0/runs/{run}")
        assert (status, answer["data"]["status"]) == (200, "Cancelled")
        assert (await world.call("DELETE", f"/v0/runs/{UNKNOWN}"))[0] == 404


async def test_what_is_taken_and_not_kept_says_so_and_gives_its_bytes_back(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        for path in (f"/v1/runs/{UNKNOWN}/metadata", "/v1/traces/userland"):
            for body in (b"", b'{"metadata":[]}', b"\x0a\xff", b"a" * 3_000_000):
                status, answer, _ = await world.call("POST", path, data=body)
                assert (status, answer["status"], "not kept" in answer["message"]) == (202, 202, True)
            assert (await world.call("POST", path, data=b"a" * 5_000_000))[0] == 413
        assert (await world.call("POST", "/v1/runs/nonsense/metadata", json={}))[0] == 400
        metrics = (await world.call("GET", "/metrics"))[1]
        assert "millstream_ingest_bytes_under_way 0.0" in metrics
