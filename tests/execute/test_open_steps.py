"""Do a body's open steps make the moves in the table of ``OpenSteps``, and no step twice?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from millstream.execute.local.op import FOUND, GO, INLINE, REPORTED, RUNNING, Op
from millstream.execute.local.open_steps import CANCEL_GRACE_MS, OpenSteps
from millstream.model.effects import Execute
from millstream.model.operations import SleepFound, StepFound
from millstream.model.rows import Hand, StepRow
from tests.execute.harness import play

Scenario = Callable[[], Awaitable[None]]


def asked(step: str, operation: SleepFound | None = None) -> Op:
    """A step as its coroutine waits for it."""
    task = asyncio.current_task()
    assert task is not None
    op = Op(step, step, "run", task, operation)
    op.wait = asyncio.get_running_loop().create_future()
    return op


def row(step: str, hand: Hand) -> StepRow:
    return StepRow("r", step, step, kind="run", hand=hand, data=b"1")


def test_a_found_step_is_reported_handed_out_and_resolved() -> None:
    async def scenario() -> None:
        steps, op, nap = OpenSteps({}), asked("a"), asked("nap", SleepFound("nap", "nap", 5))
        steps.add_found(op)
        steps.add_found(nap)
        assert op.state is FOUND
        assert steps.take_found() == [StepFound("a", "a"), SleepFound("nap", "nap", 5)]
        assert op.state is nap.state is REPORTED and steps.found == []

        assert steps.hand_out(Execute("r", "f", "a", 2, 7))
        assert op.state is RUNNING and op.wait is not None and op.wait.result() is GO
        assert (op.attempt, op.dispatch, steps.dispatches()) == (2, 7, [("a", 7)])
        assert not steps.hand_out(Execute("r", "f", "a", 2, 8)), "it does not wait: an attempt runs"

        steps.attempt_ended(op)
        assert op.state is REPORTED and steps.running == {}
        op.wait = asyncio.get_running_loop().create_future()
        done = row("a", Hand.DONE)
        assert steps.resolve(done) and op.wait.result() is done
        assert not steps.resolve(done), "the body has it"
        assert [*steps.awaited] == ["nap"]

    play(scenario)


def test_an_inline_step_that_takes_long_is_made_one_that_is_handed_out() -> None:
    async def scenario() -> None:
        steps, op = OpenSteps({}), asked("a")
        steps.add_found(op)
        steps.run_inline(op)
        assert op.state is INLINE and steps.inline is op and steps.found == [] == steps.dispatches()
        assert steps.run_apart(op) == StepFound("a", "a")
        assert op.state is RUNNING and steps.inline is None and steps.attempts() == [op]
        assert steps.dispatches() == [], "its number is not here yet"

    play(scenario)


@pytest.mark.parametrize("state", [FOUND, INLINE])
def test_a_step_that_is_neither_begun_nor_reported_can_be_forsaken(state: object) -> None:
    async def scenario() -> None:
        steps, op = OpenSteps({}), asked("a")
        (steps.add_found if state is FOUND else steps.add_inline)(op)
        steps.forsake(op)
        assert not steps.awaited and not steps.found and steps.inline is None

    play(scenario)


def test_a_reported_step_without_a_row_is_found_anew() -> None:
    async def scenario() -> None:
        steps, waiting, forsaken = OpenSteps({}), asked("a"), asked("b")
        steps.add_found(waiting)
        steps.add_found(forsaken)
        steps.take_found()
        forsaken.wait = None
        assert steps.results("r", lambda run, step: None) == []
        assert steps.found == [waiting] and waiting.state is FOUND
        assert [*steps.awaited] == ["a"], "the body does not wait for the other any more"

    play(scenario)


def test_a_cancelled_attempt_that_does_not_stop_is_overdue_after_its_grace() -> None:
    async def scenario() -> None:
        steps = OpenSteps({})

        async def attempt() -> None:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(1_000)

        op = asked("a")
        op.task = asyncio.create_task(attempt())
        await asyncio.sleep(0)
        steps.add_inline(op)
        op.started_at_ms = 1_000
        assert [*steps.stop_overdue(2_000, 1_000)] == [] and not op.task.cancelling()
        assert [*steps.stop_overdue(2_001, 1_000)] == [] and op.task.cancelling()
        assert [*steps.stop_overdue(2_001 + CANCEL_GRACE_MS, 1_000)] == []
        assert [*steps.stop_overdue(2_002 + CANCEL_GRACE_MS, 1_000)] == [op]
        await op.task

    play(scenario)
