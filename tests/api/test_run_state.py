"""/v0/runs/{id}/actions and /batch: all that is durable when they are asked for, and nothing of a run that is over."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from millstream import App, Batch, Context, StepError
from millstream.api.reading import positions
from millstream.history.index import Index
from millstream.history.service import History
from millstream.model.facts import RunStarted, SleepStarted, StepCompleted
from tests.api.door import FOLLOWS, World, following, make_shop, open_world
from tests.api.test_runs import UNKNOWN


def make_all() -> App:
    """A function with a step of each kind that an SDK remembers, which then waits for ever; and one of batches."""
    every = App("every")

    @every.function(on="every/child", retries=0)
    async def child(ctx: Context) -> dict[str, int]:
        """Ends as it is told."""
        if ctx.event.data.get("fail"):
            raise ValueError("child says no")
        return {"got": 7}

    @every.function(on="every/start", retries=0)
    async def start(ctx: Context) -> None:
        """Every kind, well and not well."""

        def bad() -> None:
            raise KeyError("no luck")

        step = ctx.step
        await step.run("one", lambda: {"a": [1, None, "ü"]})
        await step.run("nothing", lambda: None)
        with contextlib.suppress(StepError):
            await step.run("bad", bad)
        await step.sleep("nap", "1ms")
        await step.wait_for_event("never", event="every/never", timeout="1ms")
        await step.wait_for_event("news", event="every/news", timeout="1d")
        await step.wait_for_signal("silence", "every-silence", timeout="1ms")
        await step.wait_for_signal("say", "every-say", timeout="1d")
        await step.wait_for_signal("hush", "every-hush", timeout="1d")
        await step.invoke("child", child, data={})
        with contextlib.suppress(StepError):
            await step.invoke("failing", child, data={"fail": True})
        with contextlib.suppress(StepError):
            await step.invoke("late", waiting, data={}, timeout="1ms")
        await step.sleep("for ever", "1d")

    @every.function(on="every/waiting")
    async def waiting(ctx: Context) -> None:
        """Does not end."""
        await ctx.step.sleep("for ever", "1d")

    @every.function(on="every/batch", batch=Batch(5, "10s"))
    async def together(ctx: Context) -> None:
        """Does not end."""
        await ctx.step.sleep("for ever", "1d")

    return every


async def state(world: World, run: str, what: str) -> Any:
    """What ``/v0/runs`` answers, 200."""
    status, answer, response = await world.call("GET", f"/v0/runs/{run}/{what}")
    assert (status, response.headers["Content-Type"]) == (200, "application/json"), answer
    return answer


async def test_each_kind_of_step_is_remembered_as_sdks_read_it(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_all()]) as world:
        sent = (await world.call("POST", "/e/K", json={"name": "every/start"}))[1]["ids"][0]
        run = (await world.fact(lambda fact: sent in getattr(fact, "events", ()))).run

        async def is_over(step: str) -> None:
            await world.fact(lambda fact: (getattr(fact, "run", ""), getattr(fact, "step", "")) == (run, step))

        await is_over("news")  # It waits: what is sent now is for it.
        news = {"name": "every/news", "data": {"n": 1}, "id": "n-1", "ts": 1_795_000_000_000}
        await world.call("POST", "/e/K", json=news)
        await is_over("say")
        said = await world.call("POST", "/v1/signals", json={"signal": "every-say", "data": {"ok": True}})
        assert said[0] == 200
        await is_over("hush")
        assert (await world.call("POST", "/v1/signals", json={"signal": "every-hush"}))[0] == 200
        await is_over("for ever")
        steps = await state(world, run, "actions")
        stacks = [steps["bad"]["error"].pop("stack"), steps["failing"]["error"].pop("stack")]
        assert all(stack.startswith("Traceback") for stack in stacks)
        timed_out = "Timed out waiting for invoked function to complete"
        assert steps == {
            "one": {"data": {"a": [1, None, "ü"]}},
            "nothing": {"data": None},
            "bad": {"error": {"name": "KeyError", "message": "'no luck'"}},
            "nap": None,
            "never": None,
            "news": {**news, "user": {}},
            "silence": None,
            "say": {"data": {"signal": "every-say", "data": {"ok": True}}},
            "hush": {"data": {"signal": "every-hush", "data": None}},
            "child": {"data": {"got": 7}},
            "failing": {
                "error": {"name": "ValueError", "message": "child says no", "error": steps["failing"]["error"]["error"]}
            },
            "late": {
                "error": {
                    "name": "InngestInvokeTimeoutError",
                    "message": timed_out,
                    "error": f"InngestInvokeTimeoutError: {timed_out}",
                }
            },
        }
        (event,) = await state(world, run, "batch")
        assert (event.pop("ts") > 0, event) == (True, {"name": "every/start", "data": {}, "id": sent})


async def test_a_batch_has_its_events_in_their_order_and_as_they_were_sent(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_all()]) as world:
        plain = [{"name": "every/batch", "data": {"n": n}, "id": f"{9 - n}", "ts": 1_795_000_000_000} for n in range(4)]
        sent = [*plain, {**plain[0], "data": {}, "id": "0", "user": {"u": 1}, "v": "2"}]
        for event in sent:
            assert (await world.call("POST", "/e/K", json=event))[0] == 200
        run = (await world.fact(lambda fact: len(getattr(fact, "events", ())) == 5)).run
        assert await state(world, run, "batch") == sent


async def test_what_a_lane_has_recorded_is_in_the_answer_however_far_behind_the_history_is(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_all()], follows=False) as world:
        sent = (await world.call("POST", "/e/K", json={"name": "every/start"}))[1]["ids"][0]
        run = (await world.fact(lambda fact: isinstance(fact, RunStarted) and sent in fact.events)).run
        await world.fact(lambda fact: isinstance(fact, StepCompleted) and fact.step == "nothing")
        asked = [asyncio.create_task(state(world, run, what)) for what in ("actions", "batch")]
        async with following(world.log, world.index):
            steps, events = await asyncio.gather(*asked)
        assert steps["nothing"] == {"data": None}
        assert [event["id"] for event in events] == [sent]


async def test_a_history_that_is_behind_makes_a_503_and_never_a_shorter_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions, "AT_END_S", 0.05)
    async with open_world(tmp_path, apps=[make_shop()], follows=False) as world:
        _, run = await world.started(then="wait")
        await world.fold()
        _, later = await world.started(then="wait")
        for id, what in ((run, "actions"), (run, "batch"), (later, "actions")):
            status, answer, response = await world.call("GET", f"/v0/runs/{id}/{what}")
            assert (status, response.headers["Retry-After"]) == (503, "1")
            assert "has not come to the end of lane 0" in answer["error"]


async def test_events_that_the_history_has_not_come_to_are_waited_for(tmp_path: Path) -> None:
    async with open_world(tmp_path, apps=[make_shop()], follows=False) as world:
        sent, run = await world.started(then="wait")
        await world.fact(lambda fact: isinstance(fact, SleepStarted))
        index = Index(world.index)
        history = History(world.log, index, FOLLOWS)
        journal = next(source for source in await history._place_sources() if source.is_journal)
        await history._caught_up(journal)  # The event is not there yet.
        index.close()
        asked = asyncio.create_task(state(world, run, "batch"))
        async with following(world.log, world.index):
            assert [event["id"] for event in await asked] == [sent]


@pytest.mark.parametrize("what", ["actions", "batch"])
async def test_a_run_that_is_over_is_gone_and_an_unknown_one_not_found(tmp_path: Path, what: str) -> None:
    async with open_world(tmp_path, apps=[make_shop()]) as world:
        _, run = await world.started(then="fail")
        await world.shown(run, "Failed")
        status, answer, _ = await world.call("GET", f"/v0/runs/{run}/{what}")
        assert (status, answer["error"]) == (410, f"runtime state is no longer available for runID: {run}")
        assert (await world.call("GET", f"/v0/runs/{UNKNOWN}/{what}"))[0] == 404
        assert (await world.call("GET", f"/v0/runs/nonsense/{what}"))[0] == 400
