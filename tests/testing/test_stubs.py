"""Stubs: do they stand in for a step's function, and for nothing else?"""

from __future__ import annotations

import pytest

from millstream import App, Context, Event, NonRetriableError, StepError
from millstream.testing import NotAsExpected, TestApp, sequence
from tests.testing import shop

ORDER = Event("order/placed", {"order": 1})


def one_step(retries: int = 4) -> App:
    app = App("a")

    @app.function(on="go", retries=retries)
    async def buy(ctx: Context) -> object:
        try:
            paid = await ctx.step.run("charge", shop.charge, 5)
        except StepError as error:
            return f"{error.name}: {error}"
        return paid.id

    @app.function(on="again")
    async def loop(ctx: Context) -> list[int]:
        return [(await ctx.step.run("charge", shop.charge, n)).id for n in range(3)]

    return app


async def test_a_value_stands_in_for_the_result_and_has_the_type_the_function_declares() -> None:
    async with TestApp(one_step()) as t:
        stub = t.stub("charge", {"id": 7})
        run = await t.send(Event("go"))
        assert run.result == 7
        assert run.steps["charge"].result == {"id": 7}
        assert stub.calls == [((5,), {})]


async def test_an_exception_is_retried_as_any_other_until_the_attempts_are_used_up() -> None:
    async with TestApp(one_step(retries=2)) as t:
        t.stub("charge", ValueError("declined"))
        run = await t.send(Event("go"))
        step = run.steps["charge"]
        assert (step.status, step.attempts) == ("retrying", 1)
        assert step.error is not None
        assert (step.error.name, step.error.message) == ("ValueError", "declined")
        await t.advance("1h")
        assert run.steps["charge"].attempts == 3
        assert run.result == "ValueError: declined"


async def test_a_final_exception_is_tried_once() -> None:
    async with TestApp(one_step()) as t:
        t.stub("charge", NonRetriableError)
        run = await t.send(Event("go"))
        assert run.steps["charge"].attempts == 1


async def test_a_sequence_answers_one_call_after_another() -> None:
    async with TestApp(one_step()) as t:
        t.stub("charge", sequence([TimeoutError("slow"), lambda n: {"id": n + 1}]))
        run = await t.send(Event("go"))
        await t.advance("1m")
        assert run.result == 6
        assert run.steps["charge"].attempts == 2
        assert run.steps["charge"].error is None


async def test_a_sequence_that_is_too_short_fails_the_step_and_says_so() -> None:
    async with TestApp(one_step()) as t:
        t.stub("charge", sequence([{"id": 1}]))
        run = await t.send(Event("again"))
        assert run.status == "Failed"
        assert run.error is not None
        assert "called 2 times, but its sequence has 1 replies" in run.error.message


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_callable_is_given_the_arguments_of_the_step(is_async: bool) -> None:
    async def later(order: int) -> dict[str, int]:
        return {"id": order + 1}

    async with TestApp(one_step()) as t:
        t.stub("charge", later if is_async else lambda order: {"id": order + 1})
        assert (await t.send(Event("go"))).result == 6
        assert (await t.send(Event("again"))).result == [1, 2, 3]


async def test_a_stub_for_one_function_leaves_the_others_alone() -> None:
    async with TestApp(one_step()) as t:
        t.stub("charge", {"id": 7}, function="buy")
        assert (await t.send(Event("go"))).result == 7
        assert (await t.send(Event("again"))).result == [0, 10, 20]
        with pytest.raises(NotAsExpected, match="'sell' is not there"):
            t.stub("charge", function="sell")


async def test_a_plain_handler_is_stubbed_too() -> None:
    async with TestApp(shop.make()) as t:
        t.stub("page", sequence(["a", "b"]))
        assert (await t.send(Event("report/wanted"))).result == ["a", "b"]
    assert shop.calls == []


async def test_a_stub_that_is_never_reached_is_an_error_that_names_the_steps_there_were() -> None:
    async def misspelt() -> None:
        async with TestApp(one_step()) as t:
            t.stub("chrage", {"id": 7})
            await t.send(Event("go"))

    with pytest.raises(NotAsExpected, match=r"never reached: 'chrage'. The functions ran these steps: 'charge'"):
        await misspelt()


async def test_a_stub_that_may_be_missed_says_so_and_a_failed_test_hides_no_error_behind_it() -> None:
    async with TestApp(one_step()) as t:
        t.stub("refund", optional=True)

    async def fails() -> None:
        async with TestApp(one_step()) as t:
            t.stub("charge", {"id": 7})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()


async def test_the_app_itself_is_left_as_it_was() -> None:
    app = one_step()
    async with TestApp(app) as t:
        t.stub("charge", {"id": 7})
        await t.send(Event("go"))
    async with TestApp(app) as t:
        assert (await t.send(Event("go"))).result == 50
