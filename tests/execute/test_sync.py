"""Do plain functions, as handlers and as steps, work like coroutines, in threads that never hold anybody up?"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from itertools import accumulate

import pytest

from millstream import App, Context, Event, StepError, SyncContext, current
from millstream.execute.local.blocking import LoopWatch
from millstream.execute.local.executor import LocalSettings
from millstream.execute.local.threads import Threads, Unwound
from millstream.model.facts import RunCompleted, SleepEnded, SleepStarted
from tests.execute.harness import World, play_in_real_time


def test_a_plain_handler_runs_its_steps_in_order() -> None:
    app, threads = App("a"), set[str]()

    def charge(cents: int) -> dict[str, object]:
        threads.add(threading.current_thread().name)
        return {"cents": cents, "key": current().idempotency_key}

    async def mail() -> str:
        return "mailed"

    @app.function(on="go")
    def fn(ctx: SyncContext) -> list[object]:
        charged = ctx.step.run("charge", charge, 5)
        ids = ctx.step.send_event("tell", Event("told"))
        ctx.step.sleep("nap", 0.05)
        return [charged, ctx.step.run("mail", mail), len(ids), ctx.event.data]

    async def scenario() -> None:
        world = World(app)
        run = await world.send({"n": 1})
        end = await world.end(run)
        assert isinstance(end, RunCompleted), end
        assert end.result == b'[{"cents":5,"key":"' + run.encode() + b':charge"},"mailed",1,{"n":1}]'
        assert [len(report.operations) for report in world.reports] == [1] * 5
        await world.executor.close(0)

    play_in_real_time(scenario)
    assert threads == {"millstream-step"}


def test_a_parked_plain_handler_is_unwound_and_comes_back() -> None:
    app, seen = App("a"), list[str]()

    @app.function(on="go")
    def fn(ctx: SyncContext) -> str:
        try:
            ctx.step.run("a", lambda: seen.append("a"))
            ctx.step.sleep("nap", 2)
        except Exception:
            seen.append("an Exception")
            raise
        except Unwound:
            seen.append("unwound")
            raise
        return "end"

    async def scenario() -> None:
        world = World(app, LocalSettings(park_after_s=0.5, handler_threads_max=1))
        end = await world.end(await world.send())
        assert isinstance(end, RunCompleted) and end.result == b'"end"'

    play_in_real_time(scenario)
    assert seen == ["a", "unwound"]


def test_a_step_error_reaches_a_plain_handler() -> None:
    app = App("a")

    def bad() -> None:
        raise StopIteration("odd")

    @app.function(on="go", retries=0)
    def fn(ctx: SyncContext) -> str:
        try:
            ctx.step.run("bad", bad)
        except StepError as error:
            return error.name
        return "no"

    async def scenario() -> None:
        assert await World(app).result() == "StopIteration"

    play_in_real_time(scenario)


def test_more_plain_handlers_than_threads_all_end() -> None:
    app = App("a")

    @app.function(on="go")
    def fn(ctx: SyncContext) -> int:
        ctx.step.sleep("nap", 0.3)
        return ctx.step.run("one", lambda: 1)

    async def scenario() -> None:
        world = World(app, LocalSettings(handler_threads_max=2, step_threads_max=2))
        runs = [await world.send() for _ in range(30)]
        for run in runs:
            assert isinstance(await world.end(run), RunCompleted)
        asleep = accumulate(type(fact) is SleepStarted or -(type(fact) is SleepEnded) for fact in world.facts)
        assert max(asleep) > 2, "a thread was held while its handler slept"

    play_in_real_time(scenario)


def test_a_plain_step_that_hangs_is_reported_and_its_thread_released() -> None:
    app, gate = App("a"), threading.Event()

    @app.function(on="go", retries=0, step_timeout=0.2)
    async def fn(ctx: Context) -> list[object]:
        try:
            await ctx.step.run("hang", gate.wait, 30)
        except StepError as error:
            return [error.name, await ctx.step.run("next", lambda: 1)]
        return []

    async def scenario() -> None:
        world = World(app, LocalSettings(step_threads_max=1))
        assert await world.result() == ["StepTimeout", 1]

    play_in_real_time(scenario)
    gate.set()


def test_step_tools_for_threads_refuse_to_block_the_loop() -> None:
    app = App("a")

    @app.function(on="go", retries=0)
    def fn(ctx: SyncContext) -> None:
        async def step() -> None:
            ctx.step.sleep("nap", 1)

        ctx.step.run("outer", step)

    async def scenario() -> None:
        failed = await World(app).failure()
        assert "async def handler(ctx: Context)" in failed.error_message

    play_in_real_time(scenario)


def test_a_pool_never_runs_more_than_its_size() -> None:
    async def scenario() -> None:
        pool, running, most = Threads("t", 3), [0], [0]
        lock = threading.Lock()

        def work() -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.01)
            with lock:
                running[0] -= 1

        await asyncio.gather(*(pool.run(work) for _ in range(20)))
        assert most[0] <= 3
        pool.close()

    play_in_real_time(scenario)


def test_a_step_that_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    app = App("a")

    @app.function(on="go")
    async def fn(ctx: Context) -> None:
        async def grind() -> None:
            time.sleep(0.5)  # noqa: ASYNC251 - the mistake this is about

        await ctx.step.run("grind", grind)

    def said() -> list[str]:
        return [record.getMessage() for record in caplog.records if "blocked" in record.message]

    async def scenario() -> None:
        watch = LoopWatch(after_s=0.1)
        watch.start()
        world = World(app)
        await world.end(await world.send())
        async with asyncio.timeout(60):
            while not said():  # noqa: ASYNC110 - the watch is a thread
                await asyncio.sleep(0.02)
        watch.stop()

    with caplog.at_level(logging.WARNING):
        play_in_real_time(scenario)
    assert any("function=a-fn" in line and "step=grind" in line for line in said())
