"""``on_exhausted="hold"`` in tests: what a function does that is held, resumed and let fail."""

from __future__ import annotations

import asyncio

import pytest

from millstream import App, Context, Event, NonRetriableError, StepError, SyncContext, Table, Timeouts
from millstream.testing import NotAsExpected, TestApp, sequence

app = App("bank")
told: list[str] = []


async def tell(ctx: Context) -> None:
    told.append(ctx.event.data["error"]["message"])


def ask_bank() -> str:
    raise ConnectionError("the bank is closed")


@app.function(on="transfer", retries=1, backoff=Table(["1m"]), on_exhausted="hold", on_failure=tell)
async def transfer(ctx: Context) -> str:
    first = await ctx.step.run("first", lambda: "noted")
    return f"{first}, {await ctx.step.run('ask', ask_bank)}"


@app.function(on="careful", retries=0, on_exhausted="hold", on_failure=tell)
async def careful(ctx: Context) -> str:
    try:
        return await ctx.step.run("ask", ask_bank)
    except StepError as error:
        return f"without: {error}"


@app.function(on="broken", retries=0, on_exhausted="hold", timeouts=Timeouts(finish="1d"), on_failure=tell)
def broken(ctx: SyncContext) -> str:
    ctx.step.run("first", lambda: None)
    raise NonRetriableError(f"no such account, attempt {ctx.attempt}")


@app.function(on="side-by-side", retries=0, on_exhausted="hold")
async def beside(ctx: Context) -> list[str]:
    async def then(id: str) -> str:
        return await ctx.step.run(f"{id}-then", lambda: id)

    async def branch(id: str) -> str:
        await ctx.step.run(id, ask_bank if id == "b" else lambda: None)
        return await then(id)

    return list(await asyncio.gather(branch("a"), branch("b")))


@pytest.fixture(autouse=True)
def nobody_was_told() -> None:
    told.clear()


async def test_a_held_step_is_tried_again_with_all_its_attempts_and_those_before_are_kept() -> None:
    async with TestApp(app) as t:
        t.stub("ask", sequence([*[ConnectionError("the bank is closed")] * 3, "paid"]))
        run = await t.send(Event("transfer"))
        assert not run.is_held and run.steps["ask"].status == "retrying"
        await t.advance("2m")
        assert run.is_held and run.status == "Running"
        assert (run.steps["ask"].status, run.steps["ask"].attempts, run.steps["ask"].wakes_at) == ("held", 2, None)
        await t.advance("30d")
        assert run.is_held, "it waits for somebody, however long"
        await t.resume(run)
        assert run.steps["ask"].status == "retrying" and run.steps["ask"].attempts == 3
        await t.advance("2m")
        assert run.result == "noted, paid" and not run.is_held and told == []


async def test_an_operator_lets_it_fail_and_the_failure_handler_is_told_only_then() -> None:
    async with TestApp(app) as t:
        run = await t.send(Event("transfer"))
        await t.advance("2m")
        assert told == []
        await t.fail(run)
        assert run.status == "Failed" and run.error is not None and run.error.message == "the bank is closed"
        assert (run.steps["ask"].status, run.steps["ask"].attempts) == ("failed", 2)
        assert told == ["the bank is closed"]


async def test_a_function_may_catch_what_an_operator_lets_fail() -> None:
    async with TestApp(app) as t:
        run = await t.send(Event("careful"))
        await t.fail(run)
        assert run.result == "without: the bank is closed"


async def test_a_body_is_held_too_and_resumed_or_failed() -> None:
    async with TestApp(app) as t:
        run = await t.send(Event("broken"))
        assert run.is_held and run.error is not None and run.error.message == "no such account, attempt 0"
        await t.resume(run)
        assert run.is_held
        await t.fail(run)
        assert run.status == "Failed" and told == ["no such account, attempt 0"]


async def test_what_goes_on_beside_a_held_step_goes_on() -> None:
    async with TestApp(app) as t:
        t.stub("b", sequence([ConnectionError("the bank is closed"), None]))
        run = await t.send(Event("side-by-side"))
        assert run.is_held and run.steps["a-then"].status == "completed"
        await t.resume(run)
        assert run.result == ["a", "b"]


async def test_a_crash_forgets_no_hold_and_a_held_run_is_cancelled_or_timed_out() -> None:
    async with TestApp(app) as t:
        run, other = await t.send(Event("broken")), await t.send(Event("careful"))
        await t.crash()
        assert run.is_held and other.is_held
        await t.cancel(other)
        assert other.status == "Cancelled" and not other.is_held
        await t.advance("1d")
        assert run.status == "Cancelled" and run.error is not None and "timeouts.finish" in run.error.message


async def test_only_what_is_held_can_be_resumed() -> None:
    async with TestApp(app) as t:
        run = await t.send(Event("transfer"))
        with pytest.raises(NotAsExpected, match=r"is not held: no step of it is, nor its body.*ask run retrying"):
            await t.resume(run)
        with pytest.raises(NotAsExpected, match="is not held"):
            await t.fail(run)
