"""Do bodies end when they should: parked, timed out, abandoned, closed? Does whatever they do then harm nobody?"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from millstream import App, Context, StepError
from millstream.errors import StoreUnavailable
from millstream.execute.local.body import Body
from millstream.execute.local.driver import LocalDriver
from millstream.execute.local.executor import LocalSettings
from millstream.execute.local.op import Op
from millstream.execute.local.open_steps import OpenSteps
from millstream.model.commands import LoseDispatch, Report
from millstream.model.effects import Execute
from millstream.model.facts import RunCompleted, StepAttemptFailed
from millstream.model.operations import StepDone
from millstream.model.rows import StepRow
from millstream.model.run_requests import CancelRun
from tests.execute.harness import World, play


async def note(list_: list[str], word: str) -> str:
    list_.append(word)
    return word


def sleeper(app: App, done: list[str]) -> None:
    @app.function(on="go")
    async def fn(ctx: Context) -> str:
        try:
            await ctx.step.run("a", note, done, "a")
            await ctx.step.sleep("long", "1h")
            return await ctx.step.run("b", note, done, "b")
        finally:
            done.append("finally")


def parts_of_bodies() -> int:
    return sum(type(thing) in (Body, OpenSteps, LocalDriver, Op) for thing in gc.get_objects())


@contextmanager
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("way", ["one after another", "together", "caught", "failed", "parked"])
def test_a_body_leaves_nothing_for_the_garbage_collector(way: str) -> None:
    """Each run has one, with a task and a context: in cycles, 38,000 of them outlived a limit of 10,000."""
    app = App("a")

    @app.function(on="go", retries=0)
    async def fn(ctx: Context) -> str:
        if way == "parked":
            await ctx.step.sleep("long", "1h")
        elif way == "together":
            await asyncio.gather(*(ctx.step.run(f"s{n}", note, [], "a") for n in range(3)))
        elif way == "caught":
            with pytest.raises(StepError):
                await ctx.step.run("bad", fail)
        elif way == "failed":
            await ctx.step.run("bad", fail)
        else:
            await ctx.step.run("first", note, [], "a")
            await ctx.step.run("second", note, [], "b")
        return "end"

    async def fail() -> None:
        raise ValueError("no")

    async def scenario() -> None:
        world = World(app)
        with collector_off():
            runs = [await world.send() for _ in range(10)]
            if way == "parked":
                await asyncio.sleep(5)
                assert parts_of_bodies() == 10 * 4, "a Body, its driver, its open steps and one Op each"
                await asyncio.sleep(20)
            else:
                for run in runs:
                    await world.end(run)
                await asyncio.sleep(1)
            assert world.executor.live == 0
            assert parts_of_bodies() == 0

    play(scenario)


def test_an_idle_body_is_parked_and_comes_back() -> None:
    app, done = App("a"), list[str]()
    sleeper(app, done)

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(5)
        assert world.executor.live == 1
        await asyncio.sleep(10)
        assert world.executor.live == 0
        assert done == ["a", "finally"]
        assert isinstance(await world.end(run), RunCompleted)

    play(scenario)
    assert done == ["a", "finally", "b", "finally"]


def test_above_the_limit_idle_bodies_are_parked() -> None:
    app, done = App("a"), list[str]()
    sleeper(app, done)

    async def scenario() -> None:
        world = World(app, LocalSettings(live_bodies_max=10))
        runs = [await world.send() for _ in range(50)]
        await asyncio.sleep(1)
        assert world.executor.live <= 10
        for run in runs:
            assert isinstance(await world.end(run), RunCompleted)

    play(scenario)
    assert done.count("a") == done.count("b") == 50


def test_above_the_memory_limit_idle_bodies_are_parked() -> None:
    app, done = App("a"), list[str]()
    sleeper(app, done)

    async def scenario() -> None:
        world = World(app, LocalSettings(memory_bytes_max=1))
        await world.send()
        await asyncio.sleep(2)
        assert world.executor.live == 0

    play(scenario)


def test_a_parked_body_that_swallows_the_cancellation_does_no_harm() -> None:
    app, done = App("a"), list[str]()

    @app.function(on="go")
    async def fn(ctx: Context) -> str:
        for _ in range(3):
            try:
                await ctx.step.sleep("long", "1h")
            except BaseException:
                done.append("swallowed")
            else:
                break
        return "end"

    async def scenario() -> None:
        world = World(app)
        assert await world.result() == "end"

    play(scenario)
    assert done == ["swallowed"] * 3


def test_an_attempt_that_takes_too_long_is_stopped_and_tried_again() -> None:
    app, done = App("a"), list[str]()

    @app.function(on="go", step_timeout="30s", retries=1)
    async def fn(ctx: Context) -> str:
        async def hang() -> str:
            done.append("try")
            await asyncio.sleep(60 if len(done) == 1 else 0)
            return "ok"

        return await ctx.step.run("hang", hang)

    async def scenario() -> None:
        world = World(app)
        assert await world.result() == "ok"
        failed = [fact for fact in world.facts if isinstance(fact, StepAttemptFailed)]
        assert [fact.error_name for fact in failed] == ["StepTimeout"] and "step_timeout" in failed[0].error_message

    play(scenario)


@pytest.mark.parametrize("planned", [False, True])
def test_an_attempt_that_will_not_stop_is_given_up(planned: bool) -> None:
    app, done = App("a"), list[str]()

    @app.function(on="go", step_timeout="30s", retries=1)
    async def fn(ctx: Context) -> list[str]:
        async def stubborn() -> str:
            done.append("try")
            while len(done) < 2:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    done_swallowing.append(1)
            return "ok"

        both = [ctx.step.run("stubborn", stubborn)]
        if planned:
            both.append(ctx.step.run("other", note, [], "other"))
        return list(await asyncio.gather(*both))

    done_swallowing = list[int]()

    async def scenario() -> None:
        world = World(app)
        began = world.loop.time()
        result = await world.result()
        assert result == (["ok", "other"] if planned else ["ok"])
        assert world.loop.time() - began < 60

    play(scenario)
    assert done == ["try", "try"] and done_swallowing


def test_a_timed_out_step_without_attempts_left_can_be_caught() -> None:
    app = App("a")

    @app.function(on="go", step_timeout="30s", retries=0)
    async def fn(ctx: Context) -> str:
        try:
            await ctx.step.run("hang", asyncio.sleep, 60)
        except StepError as error:
            await asyncio.sleep(0)  # The stop must not linger in the task.
            return error.name
        return "no"

    async def scenario() -> None:
        assert await World(app).result() == "StepTimeout"

    play(scenario)


def test_a_cancelled_run_stops_at_once_and_reports_nothing_more() -> None:
    app, done = App("a"), list[str]()

    @app.function(on="go")
    async def fn(ctx: Context) -> None:
        async def long() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                done.append("stopped")

        await asyncio.gather(ctx.step.run("x", long), ctx.step.run("y", long))

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(1)
        reports = len(world.reports)
        world.submit(CancelRun(run, "enough"))
        await asyncio.sleep(1)
        assert done == ["stopped", "stopped"] and world.executor.live == 0
        assert len(world.reports) == reports

    play(scenario)


def test_holds_knows_what_is_under_way_and_a_newer_number_takes_its_place() -> None:
    app, calls = App("a"), list[str]()

    @app.function(on="go")
    async def fn(ctx: Context) -> None:
        async def long() -> None:
            calls.append("x")
            await asyncio.sleep(100)

        await ctx.step.run("x", long)

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(1)
        executor = world.executor
        assert executor.holds(run, "", 1) and not executor.holds(run, "", 2) and not executor.holds(run, "x", 1)
        executor.start(Execute(run, "a-fn", "", 0, 1))
        executor.start(Execute(run, "a-fn", "", 0, 7))
        assert executor.holds(run, "", 7)
        await asyncio.sleep(200)
        assert [report.dispatch for report in world.reports][:1] == [7]

    play(scenario)
    assert calls == ["x"]


def test_close_lets_running_steps_end_and_be_reported() -> None:
    app = App("a")

    @app.function(on="go")
    async def fn(ctx: Context) -> None:
        await asyncio.gather(ctx.step.run("short", asyncio.sleep, 2), ctx.step.run("long", asyncio.sleep, 3600))

    async def scenario() -> None:
        world = World(app)
        await world.send()
        await asyncio.sleep(1)
        await world.executor.close(10)
        assert ["StepDone short"] in world.operations() and ["StepDone long"] not in world.operations()
        assert world.executor.live == 0

    play(scenario)


def test_a_branch_cancelled_while_its_step_runs_fails_that_step_for_good() -> None:
    app, stopped = App("a"), list[str]()

    @app.function(on="go")
    async def fn(ctx: Context) -> str:
        async def long() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                stopped.append("long")

        tasks = [
            asyncio.create_task(ctx.step.run("long", long)),
            asyncio.create_task(ctx.step.run("quick", asyncio.sleep, 1)),
        ]
        _, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return await ctx.step.run("after", note, stopped, "after")

    async def scenario() -> None:
        world = World(app)
        assert await world.result() == "after"
        assert world.operations().count(["StepErrored long"]) == 1

    play(scenario)
    assert stopped == ["long", "after"]


def test_user_timeouts_around_a_step_are_answered() -> None:
    app = App("a")

    @app.function(on="go")
    async def fn(ctx: Context) -> str:
        try:
            async with asyncio.timeout(5):
                await ctx.step.run("slow", asyncio.sleep, 3600)
        except TimeoutError:
            return await ctx.step.run("plan b", note, [], "b")
        return "no"

    async def scenario() -> None:
        world = World(app)
        assert await world.result() == "b"

    play(scenario)


def test_a_step_whose_late_answer_was_taken_while_it_ran_gets_that_answer_with_the_others() -> None:
    """Seed 10513: its branch was given the result between the attempt's end and its next wait, and hung for ever."""
    app = App("a")

    async def work(length_s: float, word: str) -> str:
        await asyncio.sleep(length_s)
        return word

    @app.function(on="go")
    async def fn(ctx: Context) -> list[str]:
        return list(await asyncio.gather(ctx.step.run("a", work, 2, "again"), ctx.step.run("b", work, 1, "b")))

    async def scenario() -> object:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(0.1)
        row = world.step(run, "a")
        assert row is not None
        world.submit(LoseDispatch(run, "a", row.dispatch))
        world.submit(Report(run, "a", 0, row.dispatch, (StepDone("a", "a", b'"late"', world.now_ms()),)))
        async with asyncio.timeout(10):
            end = await world.end(run)
        assert isinstance(end, RunCompleted), end
        return end.result

    assert play(scenario) == b'["late","b"]'


def test_a_body_whose_rows_cannot_be_read_for_a_while_answers_when_they_can() -> None:
    """Seed 390: the check at the end of a turn raised, and nobody looked at that body again."""
    app = App("a")

    async def work(length_s: float) -> float:
        await asyncio.sleep(length_s)
        return length_s

    @app.function(on="go")
    async def fn(ctx: Context) -> list[float]:
        return list(await asyncio.gather(*(ctx.step.run(f"s{n}", work, n) for n in (1, 2, 3))))

    class Troubled(World):
        refusals = 3

        def step(self, run: str, step: str) -> StepRow | None:
            if self.refusals:
                self.refusals -= 1
                raise StoreUnavailable("no more files may be opened")
            return super().step(run, step)

    async def scenario() -> object:
        world = Troubled(app)
        run = await world.send()
        async with asyncio.timeout(20):
            end = await world.end(run)
        assert world.refusals == 0, "nobody has asked for a row"
        assert isinstance(end, RunCompleted), end
        return end.result

    assert play(scenario) == b"[1,2,3]"


def test_a_body_whose_attempt_is_given_up_while_it_is_out_begins_afresh() -> None:
    """Its dispatch is given back: nobody else would ever answer it."""
    app, cancelled = App("a"), list[int]()

    async def stubborn() -> str:
        for _ in range(100):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(1)
        return "never"

    @app.function(on="go", step_timeout="30s")
    async def fn(ctx: Context) -> list[str]:
        return list(await asyncio.gather(ctx.step.run("a", stubborn), ctx.step.run("b", note, [], "b")))

    async def scenario() -> object:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(0.1)
        row = world.step(run, "a")
        assert row is not None
        world.submit(LoseDispatch(run, "a", row.dispatch))
        world.submit(Report(run, "a", 0, row.dispatch, (StepDone("a", "a", b'"late"', world.now_ms()),)))
        async with asyncio.timeout(100):
            end = await world.end(run)
        assert isinstance(end, RunCompleted), end
        return end.result

    assert play(scenario) == b'["late","b"]' and cancelled


def test_a_step_that_a_replay_has_not_come_to_is_given_back_when_another_will_not_stop() -> None:
    """The body is given up with what its replay was still to hand out; nobody else would ever answer that."""
    app, entered, ran, told = App("a"), list[int](), list[str](), list[int]()

    async def stubborn() -> str:
        for _ in range(100):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                told.append(1)
        return "never"

    async def boom() -> None:
        await asyncio.sleep(1)
        raise ValueError("the first body ends while its steps run")

    @app.function(on="go", step_timeout="30s", retries=2)
    async def fn(ctx: Context) -> str:
        entered.append(1)
        if len(entered) == 1:
            tasks = [
                asyncio.create_task(ctx.step.run("a", stubborn)),
                asyncio.create_task(ctx.step.run("b", asyncio.sleep, 0)),
                asyncio.create_task(ctx.step.run("c", asyncio.sleep, 1e9)),
            ]
            await tasks[1]
            await boom()
        if len(entered) == 2:
            await asyncio.sleep(1_000)  # Something of its own, before it asks for what is recorded.
        return await ctx.step.run("c", note, ran, "c")

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(20)
        row = world.step(run, "c")
        assert row is not None and len(entered) == 2, (row, entered)
        world.executor._bodies[run].steps.running.pop("c").task.cancel()
        world.submit(LoseDispatch(run, "c", row.dispatch))
        await asyncio.sleep(100)
        parked = [park.step for park in world.parked]
        assert told and "c" in parked and "" in parked, world.parked
        assert all(park.given_back or park.reason for park in world.parked), "no code is missing"

    play(scenario)


def test_a_step_run_apart_keeps_no_drained_executor_busy_for_ever() -> None:
    """Its number comes from the lane, which is another worker's by then."""
    app = App("a")

    @app.function(on="go")
    async def fn(ctx: Context) -> list[object]:
        async def later() -> object:
            await asyncio.sleep(0.5)
            return await ctx.step.run("b", note, [], "b")

        beside = asyncio.create_task(later())
        return [await ctx.step.run("a", asyncio.sleep, 30), await beside]

    async def scenario() -> None:
        world = World(app)
        await world.send()
        await asyncio.sleep(0.1)
        world.submit = lambda command: None  # type: ignore[method-assign]  # Nothing is decided here any more.
        world.executor.drain()
        await asyncio.sleep(20)
        assert world.operations() == [["StepFound a", "StepFound b"]] and world.executor.executing == 1
        await asyncio.sleep(20)
        assert world.executor.executing == 0

    play(scenario)
