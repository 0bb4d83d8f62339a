"""Do steps run once, in the right place, and is every dispatch answered?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
import pytest

from millstream import (
    App,
    Context,
    Event,
    NonRetriableError,
    RetryAfterError,
    StepError,
    current,
)
from millstream.model.facts import RunCompleted, StepAttemptFailed
from tests.execute.harness import World, play


@dataclass
class Charge:
    id: str
    cents: int


async def charge(cents: int, *, id: str) -> Charge:
    return Charge(id, cents)


async def charges() -> list[Charge]:
    return [Charge("c2", 7)]


async def calls_nothing() -> None:
    return None


class Calls(list[object]):
    """Step functions that note that they were called."""

    def of(self, value: object, *, failures: int = 0, takes_s: float = 0, raises: type[BaseException] = ValueError):
        async def step() -> object:
            self.append(value)
            if takes_s:
                await asyncio.sleep(takes_s)
            if self.count(value) <= failures:
                raise raises(f"{value} failed")
            return value

        return step


def test_steps_in_a_row_run_inline_with_one_report_each() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> list[object]:
        return [await ctx.step.run(f"s{i}", calls.of(i)) for i in range(3)]

    async def scenario() -> None:
        world = World(app)
        assert await world.result() == [0, 1, 2]
        assert world.operations() == [["StepDone s0"], ["StepDone s1"], ["StepDone s2"], ["BodyDone"]]

    play(scenario)
    assert calls == [0, 1, 2]


def test_a_step_id_used_again_gets_an_index() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> list[object]:
        first = [await ctx.step.run("x", calls.of(i)) for i in range(3)]
        return [*first, await ctx.step.run("x:3", calls.of(3)), await ctx.step.run("x", calls.of(4))]

    async def scenario() -> None:
        world = World(app)
        assert await world.result() == [0, 1, 2, 3, 4]
        assert [r.operations[0].step for r in world.reports[:-1]] == ["x", "x:1", "x:2", "x:3", "x:4"]

    play(scenario)


@pytest.mark.parametrize("nested", [False, True])
def test_gathered_steps_are_found_together_and_handed_out_on_their_own(nested: bool) -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        async def pair(name: str) -> list[object]:
            return list(await asyncio.gather(*(ctx.step.run(f"{name}{i}", calls.of(f"{name}{i}")) for i in range(2))))

        if nested:
            return await asyncio.gather(pair("a"), pair("b"))
        return await pair("a")

    async def scenario() -> None:
        world = World(app)
        result = await world.result()
        assert result == ([["a0", "a1"], ["b0", "b1"]] if nested else ["a0", "a1"])
        names = ["a0", "a1", "b0", "b1"] if nested else ["a0", "a1"]
        assert world.operations()[0] == [f"StepFound {name}" for name in names]
        assert len(calls) == len(names)

    play(scenario)


def test_branches_of_a_task_group_go_on_on_their_own() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> list[object]:
        async def branch(name: str) -> list[object]:
            return [await ctx.step.run(f"{name}.{i}", calls.of(f"{name}.{i}")) for i in range(2)]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(branch(name)) for name in "ab"]
        return [*tasks[0].result(), *tasks[1].result(), await ctx.step.run("last", calls.of("last"))]

    async def scenario() -> None:
        world = World(app)
        assert await world.result() == ["a.0", "a.1", "b.0", "b.1", "last"]
        assert world.operations()[-2:] == [["StepDone last"], ["BodyDone"]]

    play(scenario)
    assert calls.count("last") == 1 and len(calls) == 5


def test_one_step_in_a_task_of_its_own_runs_inline() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        return await asyncio.create_task(ctx.step.run("only", calls.of(1)))

    async def scenario() -> None:
        world = World(app)
        assert await world.result() == 1
        assert world.operations() == [["StepDone only"], ["BodyDone"]]

    play(scenario)


def test_a_task_made_before_a_step_and_awaited_after_it_gets_its_step() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> list[object]:
        side = asyncio.create_task(ctx.step.run("side", calls.of("side")))
        return [await ctx.step.run("main", calls.of("main", takes_s=1)), await side]

    async def scenario() -> None:
        world = World(app)
        assert await world.result() == ["main", "side"]
        assert world.operations()[0] == ["StepDone main", "StepFound side"]

    play(scenario)
    assert sorted(map(str, calls)) == ["main", "side"]


def test_a_failing_step_is_tried_again_with_its_own_counter() -> None:
    app, seen = App("a"), []

    @app.function(on="go", retries=3)
    async def fn(ctx: Context) -> int:
        async def flaky() -> int:
            seen.append((current().attempt, current().idempotency_key))
            if len(seen) < 3:
                raise ValueError("not yet")
            return len(seen)

        await ctx.step.run("fine", calls_nothing)
        return await ctx.step.run("flaky", flaky)

    async def scenario() -> str:
        world = World(app)
        run = await world.send()
        assert msgspec.json.decode((await world.end(run)).result) == 3
        failed = [fact for fact in world.facts if isinstance(fact, StepAttemptFailed)]
        assert [fact.error_name for fact in failed] == ["ValueError", "ValueError"]
        assert "flaky" in failed[0].error_stack and "execute/local/op.py" not in failed[0].error_stack
        return run

    run = play(scenario)
    assert seen == [(i, f"{run}:flaky") for i in range(3)]


def test_a_step_without_attempts_left_raises_step_error_which_the_body_may_catch() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go", retries=1)
    async def fn(ctx: Context) -> list[str]:
        try:
            await ctx.step.run("bad", calls.of("bad", failures=9))
        except StepError as error:
            return [error.name, str(error), error.step, str(await ctx.step.run("undo", calls.of("undo")))]
        return []

    async def scenario() -> None:
        assert await World(app).result() == ["ValueError", "bad failed", "bad", "undo"]

    play(scenario)
    assert calls == ["bad", "bad", "undo"]


def test_a_step_error_nobody_catches_ends_the_run_without_another_attempt() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go", retries=1)
    async def fn(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step.run("bad", calls.of("bad", failures=9)))

    async def scenario() -> None:
        failed = await World(app).failure()
        assert (failed.error_name, failed.error_message) == ("ValueError", "bad failed")

    play(scenario)
    assert calls == ["bad", "bad"]


def test_non_retriable_errors_end_at_once_and_retry_after_is_passed_on() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> None:
        async def later() -> None:
            calls.append(current().attempt)
            if len(calls) == 1:
                raise RetryAfterError("busy", 90)
            raise NonRetriableError("never")

        await ctx.step.run("later", later)

    async def scenario() -> None:
        world = World(app)
        failed = await world.failure()
        assert failed.error_name == "NonRetriableError"
        first = next(fact for fact in world.facts if isinstance(fact, StepAttemptFailed))
        assert first.retry_at_ms - first.started_at_ms == 90_000

    play(scenario)
    assert calls == [0, 1]


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_a_step_cannot_end_the_worker(raised: type[BaseException]) -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go", retries=0)
    async def fn(ctx: Context) -> None:
        await ctx.step.run("bad", calls.of("bad", failures=9, raises=raised))

    async def scenario() -> None:
        failed = await World(app).failure()
        assert failed.error_name == raised.__name__

    if raised is not GeneratorExit:  # Python itself gives that one a meaning.
        play(scenario)


def test_an_exception_in_the_body_is_another_attempt_of_the_body_and_steps_are_not_run_again() -> None:
    app, calls, attempts = App("a"), Calls(), []

    @app.function(on="go", retries=2)
    async def fn(ctx: Context) -> object:
        attempts.append(ctx.attempt)
        value = await ctx.step.run("once", calls.of("once"))
        if len(attempts) < 3:
            raise RuntimeError("body")
        return value

    async def scenario() -> None:
        assert await World(app).result() == "once"

    play(scenario)
    assert calls == ["once"] and attempts == [0, 1, 2]


def test_results_are_given_back_as_decoded_from_their_json_in_the_declared_type() -> None:
    app, types = App("a"), []

    @app.function(on="go")
    async def fn(ctx: Context) -> dict[str, object]:
        async def pair() -> tuple[int, int]:
            return (1, 2)

        charged = await ctx.step.run("charge", charge, 5, id="c1")
        plain = await ctx.step.run("pair", pair)
        types.extend([type(charged), type(plain), type((await ctx.step.run("list", charges))[0])])
        return {"charge": charged, "pair": plain}

    async def scenario() -> None:
        assert await World(app).result() == {"charge": {"id": "c1", "cents": 5}, "pair": [1, 2]}

    play(scenario)
    assert types == [Charge, list, Charge]


def test_a_result_that_is_not_json_fails_at_once_naming_the_field() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> None:
        async def bad() -> object:
            calls.append(1)
            return {"orders": [{"ok": 1}, {"handle": object()}]}

        await ctx.step.run("bad", bad)

    async def scenario() -> None:
        failed = await World(app).failure()
        assert failed.error_name == "UnserialisableResult"
        assert "$.orders[1].handle is a object" in failed.error_message

    play(scenario)
    assert len(calls) == 1


def test_a_result_above_the_limit_fails_the_step_with_the_sizes() -> None:
    app = App("a")

    @app.function(on="go")
    async def fn(ctx: Context) -> None:
        async def big() -> str:
            return "x" * (4 * 1024 * 1024)

        await ctx.step.run("big", big)

    async def scenario() -> None:
        failed = await World(app).failure()
        assert "at most 4194304 bytes, got 4194306" in failed.error_message

    play(scenario)


def test_a_step_inside_a_step_is_refused() -> None:
    app = App("a")

    @app.function(on="go")
    async def fn(ctx: Context) -> None:
        async def outer() -> None:
            await asyncio.gather(ctx.step.sleep("inner", 1))

        await ctx.step.run("outer", outer)

    async def scenario() -> None:
        assert "steps do not nest" in (await World(app).failure()).error_message

    play(scenario)


def test_sleeps_sends_and_publishes_are_steps_of_their_own() -> None:
    app = App("a")

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        await ctx.step.sleep("nap", "90s")
        ids = await ctx.step.send_event("tell", [Event("told", {"n": 1}, id="mine"), Event("told")])
        await ctx.step.publish("out", "topic", "key", {"a": 1})
        await ctx.step.sleep_until("past", "2001-01-01T00:00:00Z")
        return ids

    async def scenario() -> None:
        world = World(app)
        began = world.loop.time()
        ids = await world.result()
        assert isinstance(ids, list) and ids[0] == "mine" and len(ids) == 2
        assert world.loop.time() - began == pytest.approx(90, abs=1)
        assert world.operations() == [
            ["SleepFound nap"], ["SendFound tell"], ["PublishFound out"], ["SleepFound past"], ["BodyDone"],
        ]  # fmt: skip

    play(scenario)


def test_foreign_waits_between_steps_keep_the_body_out_until_it_does_something() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        await asyncio.sleep(30)
        await ctx.step.run("a", calls.of("a"))

        async def slow() -> object:
            await asyncio.sleep(0.5)
            return await ctx.step.run("late", calls.of("late"))

        return await asyncio.gather(ctx.step.run("b", calls.of("b")), slow())

    async def scenario() -> None:
        world = World(app)
        assert await world.result() == ["b", "late"]
        assert world.operations()[:2] == [["StepDone a"], ["StepFound b", "StepFound late"]]

    play(scenario)


def test_a_branch_that_waits_for_a_primitive_we_do_not_know_delays_an_answer_and_loses_nothing() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        gate = asyncio.get_running_loop().create_future()

        async def opener() -> None:
            gate.set_result(await ctx.step.run("open", calls.of("open")))
            await ctx.step.run("beside", calls.of("beside"))

        opening = asyncio.create_task(opener())
        through = await gate
        await opening
        return [through, await ctx.step.run("after", calls.of("after"))]

    async def scenario() -> None:
        assert await World(app).result() == ["open", "after"]

    play(scenario)


def test_events_and_locks_between_branches_delay_nothing() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        opened = asyncio.Event()

        async def waiter() -> object:
            await opened.wait()
            return await ctx.step.run("second", calls.of("second"))

        async def opener() -> object:
            first = await ctx.step.run("first", calls.of("first"))
            opened.set()
            return first

        return await asyncio.gather(waiter(), opener())

    async def scenario() -> None:
        world = World(app)
        began = world.loop.time()
        assert await world.result() == ["second", "first"]
        assert world.loop.time() == began

    play(scenario)


def test_a_body_in_try_finally_may_run_steps_in_the_finally() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go", retries=0)
    async def fn(ctx: Context) -> None:
        try:
            await ctx.step.run("bad", calls.of("bad", failures=9))
        finally:
            await ctx.step.run("clean", calls.of("clean"))

    async def scenario() -> None:
        assert (await World(app).failure()).error_message == "bad failed"

    play(scenario)
    assert calls == ["bad", "clean"]


def test_a_function_this_process_lacks_is_parked() -> None:
    app = App("a")

    @app.function(on="go")
    async def fn(ctx: Context) -> None: ...

    async def scenario() -> None:
        world = World(app)
        world.executor._functions.clear()
        await world.send()
        await asyncio.sleep(1)
        assert [(park.step, park.given_back) for park in world.parked] == [("", False)]
        assert not world.executor.knows("a-fn")

    play(scenario)


def test_typed_events_are_decoded_and_a_misfit_fails_the_run_at_once_naming_the_field() -> None:
    app = App("a")

    @app.function(on="go")
    async def fn(ctx: Context[Order]) -> int:
        assert isinstance(ctx.event.data, Order)
        return ctx.event.data.cents

    async def scenario() -> None:
        world = World(app)
        assert await world.result({"cents": 5, "more": 1}) == 5
        failed = await world.failure({"cents": "5"})
        assert failed.error_name == "NonRetriableError" and "$.cents" in failed.error_message
        assert "millstream/sdk" not in failed.error_stack, "our own frames help nobody"

    play(scenario)


@dataclass
class Order:
    cents: int


def test_many_steps_at_once_end_in_one_result() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> int:
        return sum(await asyncio.gather(*(ctx.step.run("n", calls.of(1)) for _ in range(200))))

    async def scenario() -> None:
        world = World(app)
        assert isinstance(await world.end(await world.send()), RunCompleted)
        assert len(world.reports[0].operations) == 200

    play(scenario)
    assert len(calls) == 200


def late_branch(ctx: Context, calls: Calls, name: str = "late"):
    async def branch() -> object:
        await asyncio.sleep(0.4)
        await asyncio.sleep(30)
        return await ctx.step.run(name, calls.of(name))

    return branch()


def test_a_step_behind_a_foreign_wait_does_not_wait_for_the_steps_beside_it() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        return await asyncio.gather(
            ctx.step.run("x", calls.of("x", takes_s=3_600)),
            ctx.step.run("y", calls.of("y", takes_s=3_600)),
            late_branch(ctx, calls),
        )

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(32)
        assert calls == ["x", "y", "late"]
        assert world.operations() == [["StepFound x", "StepFound y"], ["StepFound late"], ["StepDone late"], []]
        assert isinstance(await world.end(run), RunCompleted)

    play(scenario)
    assert calls == ["x", "y", "late"]


def test_a_step_behind_a_foreign_wait_does_not_wait_for_one_that_runs_inline() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        beside = asyncio.create_task(late_branch(ctx, calls))
        return [await ctx.step.run("long", calls.of("long", takes_s=3_600)), await beside]

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(34)
        assert calls == ["long", "late"]
        assert world.operations()[0] == ["StepFound long", "StepFound late"]
        end = await world.end(run)
        assert isinstance(end, RunCompleted) and msgspec.json.decode(end.result) == ["long", "late"]

    play(scenario)
    assert calls == ["long", "late"]


def test_a_step_behind_a_foreign_wait_does_not_wait_for_a_sleep() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        return await asyncio.gather(ctx.step.sleep("day", "24h"), late_branch(ctx, calls))

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(60)
        assert calls == ["late"]
        assert world.executor.live == 0, "with nothing foreign left, it is parked as ever"
        assert isinstance(await world.end(run), RunCompleted)

    play(scenario)
    assert calls == ["late"]


def test_sleeps_and_sends_behind_a_foreign_wait_are_told_too() -> None:
    app = App("a")

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        async def beside() -> list[str]:
            await asyncio.sleep(30)
            await ctx.step.sleep("nap", 5)
            return await ctx.step.send_event("tell", Event("told", id="mine"))

        return await asyncio.gather(ctx.step.sleep("day", "24h"), beside())

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(60)
        assert ["SleepFound nap"] in world.operations() and ["SendFound tell"] in world.operations()
        end = await world.end(run)
        assert isinstance(end, RunCompleted) and end.result == b'[null,["mine"]]'

    play(scenario)


def test_a_foreign_wait_beside_a_sleep_is_given_up_after_its_time_and_begun_again() -> None:
    app, begun = App("a"), list[str]()

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        async def beside() -> None:
            begun.append("wait")
            await asyncio.sleep(1_000 if len(begun) == 1 else 1)

        return await asyncio.gather(ctx.step.sleep("day", "24h"), beside())

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(500)
        assert world.executor.live == 1
        await asyncio.sleep(200)
        assert world.executor.live == 0
        assert isinstance(await world.end(run), RunCompleted)

    play(scenario)
    assert begun == ["wait", "wait"]


def test_a_step_that_was_parted_with_and_fails_is_tried_again() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go", retries=2)
    async def fn(ctx: Context) -> object:
        beside = asyncio.create_task(late_branch(ctx, calls))
        return [await ctx.step.run("long", calls.of("long", takes_s=40, failures=1)), await beside]

    async def scenario() -> None:
        world = World(app)
        end = await world.end(await world.send())
        assert isinstance(end, RunCompleted) and msgspec.json.decode(end.result) == ["long", "late"]
        assert world.operations()[0] == ["StepFound long", "StepFound late"]
        assert [fact.attempt for fact in world.facts if isinstance(fact, StepAttemptFailed)] == [0]

    play(scenario)
    assert calls == ["long", "late", "long"]


@pytest.mark.parametrize("failures", [0, 1])
def test_a_step_that_ends_between_being_parted_with_and_handed_out_is_reported_then(failures: int) -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go", retries=2)
    async def fn(ctx: Context) -> object:
        beside = asyncio.create_task(late_branch(ctx, calls))
        return [await ctx.step.run("long", calls.of("long", takes_s=40, failures=failures)), await beside]

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(20)
        submit, held = world.submit, list[object]()
        world.submit = held.append  # A log that takes nothing for a while.
        await asyncio.sleep(40)
        assert calls[0] == "long" and len(held) == 1 and world.executor.busy
        world.submit = submit
        submit(held[0])
        end = await world.end(run)
        assert isinstance(end, RunCompleted) and msgspec.json.decode(end.result) == ["long", "late"]

    play(scenario)
    assert sorted(map(str, calls)) == sorted(["long", "late"] + ["long"] * failures)


def test_a_crash_behind_a_foreign_wait_replays_to_the_same_end() -> None:
    app, calls = App("a"), Calls()

    @app.function(on="go")
    async def fn(ctx: Context) -> object:
        return await asyncio.gather(ctx.step.sleep("day", "24h"), late_branch(ctx, calls))

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(40)
        world.crash()
        end = await world.end(run)
        assert isinstance(end, RunCompleted) and end.result == b'[null,"late"]'

    play(scenario)
    assert calls == ["late"]
