"""Does a body that is led over its recorded steps end where the first one would have?"""

from __future__ import annotations

import asyncio
import random

import pytest

from millstream import App, Context, StepError, current
from millstream.execute.local.executor import LocalSettings
from millstream.model.facts import RunCompleted
from tests.execute.harness import World, play


class Log:
    """What step functions did, outside of the product."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def work(self, name: str, takes_s: float = 0, fails: int = 0) -> str:
        if takes_s:
            await asyncio.sleep(takes_s)
        if current().attempt < fails:
            raise ValueError(name)
        self.done.append(name)
        return name


def test_a_body_that_comes_back_repeats_no_step() -> None:
    app, log = App("a"), Log()

    @app.function(on="go")
    async def fn(ctx: Context) -> list[str]:
        first = await ctx.step.run("first", log.work, "first")
        both = await asyncio.gather(ctx.step.run("a", log.work, "a"), ctx.step.run("b", log.work, "b"))
        await ctx.step.sleep("day", "1d")
        return [first, *both, await ctx.step.run("last", log.work, "last")]

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(60)
        assert world.executor.live == 0  # Parked.
        assert await world.end(run)
        assert log.done == ["first", "a", "b", "last"]

    play(scenario)


def test_a_race_ends_in_a_replay_as_it_ended_the_first_time() -> None:
    app, log = App("a"), Log()

    @app.function(on="go")
    async def fn(ctx: Context) -> list[str]:
        slow = asyncio.create_task(ctx.step.run("slow", log.work, "slow", 30))
        fast = asyncio.create_task(ctx.step.run("fast", log.work, "fast", 10))
        done, _ = await asyncio.wait({slow, fast}, return_when=asyncio.FIRST_COMPLETED)
        winner = done.pop().result()
        await ctx.step.sleep(f"after {winner}", "1h")
        return [winner, await slow, await fast]

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(300)
        world.crash()
        end = await world.end(run)
        assert isinstance(end, RunCompleted) and end.result == b'["fast","slow","fast"]'
        assert log.done == ["fast", "slow"]

    play(scenario)


def test_a_cancelled_branch_is_no_changed_code() -> None:
    app, log = App("a"), Log()

    @app.function(on="go")
    async def fn(ctx: Context) -> str:
        tasks = {
            asyncio.create_task(ctx.step.sleep("limit", "1h")),
            asyncio.create_task(ctx.step.run("work", log.work, "work", 5)),
        }
        _, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await ctx.step.sleep("pause", "2h")
        return await ctx.step.run("last", log.work, "last")

    async def scenario() -> None:
        world = World(app)
        run = await world.send()
        await asyncio.sleep(60)
        world.crash()
        end = await world.end(run)
        assert isinstance(end, RunCompleted), end
        assert log.done == ["work", "last"]

    play(scenario)


def changed(before: str, after: str) -> tuple[App, App]:
    """An app and its next version: each letter is a step; the sleep is ``-``."""
    versions = []
    for code in (before, after):
        app = App("a")

        @app.function(on="go")
        async def fn(ctx: Context, code: str = code) -> None:
            for letter in code:
                if letter == "-":
                    await ctx.step.sleep("-", "1h")
                else:
                    await ctx.step.run(letter, Log().work, letter)

        versions.append(app)
    return versions[0], versions[1]


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [("ab-c", "b-c", "step 'a'"), ("ab-c", "ax-c", "step 'b'"), ("ab-c", "", "step 'a'"), ("a-b", "ab", "step '-'")],
)
def test_changed_code_parks_the_run_naming_the_step_until_the_code_fits_again(
    before: str, after: str, named: str
) -> None:
    old, new = changed(before, after)

    async def scenario() -> None:
        world = World(old)
        run = await world.send()
        await asyncio.sleep(60)
        world.crash(new)
        await asyncio.sleep(30 * 86_400)
        (parked,) = world.parked
        assert parked.reason.startswith("its code has changed: ") and named in parked.reason
        assert world.executor.live == 0
        world.executor.add_app(old)
        assert isinstance(await world.end(run), RunCompleted)

    play(scenario)


def test_each_step_under_way_is_parked_with_the_body_that_changed_and_runs_once_when_it_fits() -> None:
    """Two steps fail and wait for their next attempt; the next code asks for one of them only."""
    log, versions = Log(), []
    for names in ("ab", "b"):
        app = App("a")

        @app.function(on="go", id="fn", retries=4)
        async def fn(ctx: Context, names: str = names) -> list[str]:
            return await asyncio.gather(*(ctx.step.run(name, log.work, name, 0, 1) for name in names))

        versions.append(app)
    old, new = versions

    async def scenario() -> None:
        world = World(old, retry_interval_ms=60_000)
        run = await world.send()
        await asyncio.sleep(5)
        world.crash(new)
        await asyncio.sleep(86_400)
        assert sorted(park.step for park in world.parked) == ["a", "b"] and log.done == []
        assert all("step 'a' of kind 'run' is recorded and was not asked for" in park.reason for park in world.parked)
        world.executor.add_app(old)
        assert isinstance(await world.end(run), RunCompleted)
        assert sorted(log.done) == ["a", "b"]

    play(scenario)


def test_code_that_grows_at_its_end_goes_on() -> None:
    old, new = changed("a-", "a-bc")

    async def scenario() -> None:
        world = World(old)
        run = await world.send()
        await asyncio.sleep(60)
        world.crash(new)
        assert isinstance(await world.end(run), RunCompleted)

    play(scenario)


def test_a_step_of_another_kind_under_the_same_id_parks_the_run() -> None:
    old, new = App("a"), App("a")

    @old.function(on="go", id="fn")
    async def first(ctx: Context) -> None:
        await ctx.step.run("x", Log().work, "x")
        await ctx.step.sleep("y", "1h")

    @new.function(on="go", id="fn")
    async def second(ctx: Context) -> None:
        await ctx.step.sleep("x", "1h")

    async def scenario() -> None:
        world = World(old)
        run = await world.send()
        await asyncio.sleep(60)
        world.crash(new)
        await asyncio.sleep(86_400)
        (parked,) = world.parked
        assert "step 'x' is recorded as one of kind 'run', and the code asks for kind 'sleep'" in parked.reason
        world.crash(old)
        assert isinstance(await world.end(run), RunCompleted)

    play(scenario)


def test_a_failure_between_replayed_steps_is_no_changed_code() -> None:
    app, log, tries = App("a"), Log(), []

    @app.function(on="go", retries=3)
    async def fn(ctx: Context) -> str:
        tries.append(1)
        await asyncio.sleep(3)  # Foreign, and longer than an answer is held.
        if len(tries) == 2:
            raise ConnectionError("foreign")
        await ctx.step.run("a", log.work, "a")
        await ctx.step.sleep("nap", "1h")
        return "ok"

    async def scenario() -> None:
        world = World(app)
        end = await world.end(await world.send())
        assert isinstance(end, RunCompleted), end

    play(scenario)
    assert log.done == ["a"]


def test_the_logger_is_silent_during_replay(caplog: pytest.LogCaptureFixture) -> None:
    app, log = App("a"), Log()

    @app.function(on="go")
    async def fn(ctx: Context) -> None:
        ctx.logger.warning("began")
        await ctx.step.run("a", log.work, "a")
        ctx.logger.warning("slept")
        await ctx.step.sleep("nap", "1h")
        ctx.logger.warning("woke")

    async def scenario() -> None:
        world = World(app)
        await world.end(await world.send())

    play(scenario)
    assert [record.message for record in caplog.records if "millstream.functions" in record.name] == [
        "began",
        "slept",
        "woke",
    ]


def program(seed: int, log: Log, app: App) -> None:
    """A random function of nested sequences, groups and races over steps that take time and fail."""

    @app.function(on="go", id="fn", retries=2)
    async def fn(ctx: Context) -> list[object]:
        chance = random.Random(seed)

        async def step(name: str, plan: tuple[float, int, int]) -> object:
            takes_s, fails, kind = plan
            if kind == 0:
                await ctx.step.sleep(name, takes_s * 10)
                return name
            try:
                return await ctx.step.run(name, log.work, name, takes_s, fails)
            except StepError as error:
                return f"{name} gave up: {error.name}"

        def drawn() -> tuple[float, int, int]:
            return chance.choice([0, 0, 1, 7]), chance.choice([0, 0, 0, 1, 9]), chance.choice([0, 1, 1])

        async def block(name: str, depth: int) -> list[object]:
            shape = chance.choice("sgtr") if depth else "s"
            width = chance.randint(1, 3)
            if shape == "s":
                plans = [drawn() for _ in range(width)]
                return [await step(f"{name}.{i}", plan) for i, plan in enumerate(plans)]
            inner = [list_block(f"{name}.{shape}{i}", depth - 1) for i in range(width)]
            if shape == "g":
                return list(await asyncio.gather(*inner))
            if shape == "t":
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one) for one in inner]
                return [task.result() for task in tasks]
            racing = [asyncio.create_task(one) for one in inner]
            await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            first = [i for i, task in enumerate(racing) if task.done()]
            return [first, *(await asyncio.gather(*racing))]

        async def list_block(name: str, depth: int) -> list[object]:
            # Drawn by name, so that the order in which branches run cannot change what they do.
            inner = random.Random(f"{seed}{name}")
            plans = [(inner.choice([0, 1, 7]), inner.choice([0, 0, 1, 9]), inner.choice([0, 1, 1])) for _ in range(2)]
            results = [await step(f"{name}/{i}", plan) for i, plan in enumerate(plans)]
            return results if not depth else [*results, await step(f"{name}/last", plans[0])]

        return [await block(str(i), 2) for i in range(3)]


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_end_the_same_whenever_the_worker_dies(seed: int) -> None:
    chance = random.Random(seed)

    async def scenario(crashes: bool, settings: LocalSettings) -> object:
        log, app = Log(), App("a")
        program(seed, log, app)
        world = World(app, settings)
        run = await world.send()
        while crashes and not world.ends[run].done():
            for _ in range(chance.randint(1, 60)):
                await asyncio.sleep(chance.choice([0, 0, 0, 0.1, 2]))
            world.crash()
            if len([1 for fact in world.facts if type(fact).__name__ == "DispatchLost"]) > 4:
                break  # More would be WorkerLost, lawfully.
        end = await world.end(run)
        assert isinstance(end, RunCompleted), end
        assert world.executor.live == 0
        return end.result if not crashes else None

    calm = play(lambda: scenario(False, LocalSettings()))
    parked = play(lambda: scenario(False, LocalSettings(park_after_s=0.0, live_bodies_max=1)))
    assert parked == calm
    play(lambda: scenario(True, LocalSettings(park_after_s=1)))
