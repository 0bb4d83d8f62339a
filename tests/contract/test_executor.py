"""Do all executors mean the same? One suite, in this process, in child processes and over HTTP from both, in real time.

Some promises are of a body that lives between its steps: its pauses, its ``finally``, what it finds later by itself. An
app over HTTP is led over its steps anew in every call, so those are not asked of it (the mark ``not_over_http``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from millstream.model.effects import Execute
from millstream.model.facts import (
    DispatchLost,
    DispatchParked,
    DispatchUnparked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    SleepEnded,
    StepAttemptFailed,
    StepCompleted,
)
from millstream.model.run_requests import CancelRun
from tests.contract.executor_stage import Scene, Stage

R = TypeVar("R")
Play = Callable[[Callable[[Scene], Awaitable[R]]], R]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "stage" in metafunc.fixturenames:
        is_for_all = metafunc.definition.get_closest_marker("not_over_http") is None
        kinds = ["local", "children", *(["endpoint", "endpoint-children"] if is_for_all else [])]
        metafunc.parametrize("stage", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    opened = Stage(request.param)
    yield opened
    opened.close()


@pytest.fixture
def play(stage: Stage, tmp_path: Path) -> Play:
    return lambda scenario: stage.play(tmp_path / "notes", scenario)


def result_of(end: object) -> object:
    assert isinstance(end, RunCompleted), end
    return msgspec.json.decode(end.result)


def test_each_dispatch_has_one_report_that_carries_its_number(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("row")) == ["a", "b", "c"]
        reports = scene.world.reports
        assert [report.dispatch for report in reports] == [1, 2, 3, 4]
        assert scene.world.operations() == [["StepDone a"], ["StepDone b"], ["StepDone c"], ["BodyDone"]]
        assert scene.notes == ["a", "b", "c"]

    play(scenario)


def test_steps_side_by_side_are_found_together_and_each_handed_out(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("side")) == [0, 1, 2, 3, 4] * 2
        found = [f"StepFound one{suffix}" for suffix in ("", ":1", ":2", ":3", ":4")]
        assert scene.world.operations()[0] == found
        numbers = [(report.step, report.dispatch) for report in scene.world.reports]
        assert len(set(numbers)) == len(numbers)

    play(scenario)


def test_many_steps_at_once_end_in_one_result(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("many")) == 200

    play(scenario)


def test_a_failing_step_is_tried_again_under_one_idempotency_key(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        run = await scene.send("flaky")
        assert result_of(await scene.world.end(run)) == 2
        assert scene.notes == [f"{n} {run}:flaky" for n in range(3)]
        assert [fact.error_name for fact in scene.facts(StepAttemptFailed)] == ["ValueError"] * 2
        assert "not yet" in scene.facts(StepAttemptFailed)[0].error_stack

    play(scenario)


@pytest.mark.not_over_http
def test_a_step_is_tried_again_as_its_own_retry_says(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("retrying")) == [2, "FileNotFoundError", "ValueError"]
        assert scene.notes == ["resets 0", "resets 1", "resets 2", "missing 0", "wrong 0"]

    play(scenario)


def test_a_step_without_attempts_left_can_be_caught(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("compensate")) == ["ValueError", "bad failed", "bad", "undone"]

    play(scenario)


def test_non_retriable_and_retry_after_are_passed_on(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        end = await scene.end("final")
        assert isinstance(end, RunFailed) and (end.error_name, end.error_message) == ("NonRetriableError", "never")
        assert scene.notes == ["0", "1"]

    play(scenario)


def test_an_exception_in_the_body_is_an_attempt_of_the_body_and_steps_are_remembered(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("body")) == "once"
        assert scene.notes == ["once", "attempt 0", "attempt 1", "attempt 2"]

    play(scenario)


@pytest.mark.not_over_http
def test_an_attempt_that_takes_too_long_is_stopped(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("slow")) == "StepTimeout"

    play(scenario)


def test_a_plain_handler_runs_its_steps_in_a_thread(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        run = await scene.send("plain")
        assert result_of(await scene.world.end(run)) == [20, 22, run]

    play(scenario)


@pytest.mark.not_over_http
def test_an_idle_body_is_parked_and_led_over_its_steps_again(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("nap")) == "behind"
        assert scene.notes == ["before", "finally", "behind", "finally"]

    play(scenario)


def test_a_run_goes_on_elsewhere_when_its_executor_is_gone(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        run = await scene.send("nap")
        await scene.until(lambda: ["SleepFound nap"] in scene.world.operations())
        scene.world.crash()
        assert result_of(await scene.world.end(run)) == "behind"
        assert scene.notes.count("before") == scene.notes.count("behind") == 1

    play(scenario)


@pytest.mark.not_over_http
def test_a_step_behind_a_foreign_wait_is_reported_by_itself(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        run = await scene.send("behind")
        assert result_of(await scene.world.end(run)) == [None, "late", None]  # "x" ends only once "late" has begun.
        operations = scene.world.operations()
        assert operations.index(["StepFound late"]) < operations.index(["StepDone x"])
        kinds = [type(fact) for fact in scene.world.facts]
        assert kinds.index(StepCompleted) < kinds.index(SleepEnded)
        assert scene.notes == ["late"]

    play(scenario)


async def parked_as_changed(scene: Scene) -> str:
    """A run whose code changed while it slept, parked for that."""
    run = await scene.send("changing")
    await scene.until(lambda: ["SleepFound nap"] in scene.world.operations())
    Path(f"{scene.path}-code").write_text("changed")
    scene.world.crash()
    await scene.until(lambda: scene.facts(DispatchParked))
    return run


@pytest.mark.not_over_http
def test_changed_code_parks_the_run_until_another_code_fits(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        run = await parked_as_changed(scene)
        (parked,) = scene.facts(DispatchParked)
        assert parked.reason.startswith("its code has changed: step 'old'") and "'new'" in parked.reason
        result_of(await scene.end("row"))  # Time for the lane to try again, which it must not.
        assert len(scene.facts(DispatchParked)) == 1 and not scene.facts(DispatchUnparked)

        scene.world.crash()  # Its next owner tries once: the code is still the changed one.
        await scene.until(lambda: len(scene.facts(DispatchParked)) == 2)
        Path(f"{scene.path}-code").write_text("mended")
        scene.world.crash()
        assert result_of(await scene.world.end(run)) is None
        assert scene.notes[0] == "old" and scene.notes.count("old") == 1 and "new" not in scene.notes

    play(scenario)


@pytest.mark.not_over_http
def test_a_run_whose_code_has_changed_can_be_cancelled(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        run = await parked_as_changed(scene)
        scene.world.submit(CancelRun(run, "no more"))
        assert isinstance(await scene.world.end(run), RunCancelled)

    play(scenario)


@pytest.mark.not_over_http
@pytest.mark.parametrize("where", ["body", "step"])
@pytest.mark.parametrize("how", ["await", "gather", "group", "timeout", "nobody"])
def test_a_task_of_a_function_that_exits_ends_neither_the_loop_nor_a_process(play: Play, how: str, where: str) -> None:
    async def scenario(scene: Scene) -> None:
        end = await scene.end("leave", how=how, where=where)
        if how == "nobody":
            assert result_of(end) == "nobody"
        else:
            assert isinstance(end, RunFailed) and (end.error_name, end.error_message) == ("SystemExit", "gone")
        assert not scene.facts(DispatchLost)
        result_of(await scene.end("row"))

    play(scenario)


def test_an_abandoned_run_stops_and_reports_nothing_more(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        run = await scene.send("long")
        await scene.until(lambda: len(scene.notes) == 2)
        reports = len(scene.world.reports)
        scene.world.submit(CancelRun(run, "enough"))
        await scene.until(lambda: len(scene.notes) == 4)
        assert sorted(scene.notes[2:]) == ["x stopped", "y stopped"]
        result_of(await scene.end("row"))  # Whatever was under way has come by now.
        assert all(report.run != run for report in scene.world.reports[reports:])
        assert not scene.world.executor.holds(run, "x", 2)

    play(scenario)


def test_what_is_under_way_is_held_until_it_is_reported(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        executor = scene.world.executor
        run = await scene.send("long")
        assert executor.holds(run, "", 1) and not executor.holds(run, "", 2) and not executor.holds(run, "x", 1)
        await scene.until(lambda: len(scene.notes) == 2)
        assert not executor.holds(run, "", 1)
        assert executor.holds(run, "x", 2) and executor.holds(run, "y", 3)
        executor.start(Execute(run, "suite-long", "x", 0, 2))  # Told twice: begun once.
        executor.start(Execute(run, "suite-long", "y", 0, 9))  # Thought lost, but here it is.
        assert executor.holds(run, "y", 9) and not executor.holds(run, "y", 3)
        result_of(await scene.end("row"))
        assert sorted(note for note in scene.notes if "begun" in note) == ["x begun", "y begun"]

    play(scenario)


def test_close_lets_running_steps_end_and_gives_back_the_rest(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.send("uneven")
        await scene.until(lambda: len(scene.notes) == 2)
        await scene.world.executor.close(4)
        assert ["StepDone short"] in scene.world.operations() and ["StepDone long"] not in scene.world.operations()
        assert [park.step for park in scene.world.parked if park.step] == ["long"]
        assert not scene.world.executor.knows("suite-row")
        await scene.send("row")
        await scene.until(lambda: len([park for park in scene.world.parked if not park.step]) >= 1)
        assert "a" not in scene.notes

    play(scenario)


@pytest.mark.not_over_http
def test_a_drained_executor_keeps_what_runs_and_gives_back_the_rest(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        executor = scene.world.executor
        run = await scene.send("uneven")
        await scene.until(lambda: len(scene.notes) == 2)
        waiting = await scene.send("foreign")
        await scene.until(lambda: executor.holds(waiting, "", 1))
        executor.drain()
        await scene.until(lambda: ["StepDone short"] in scene.world.operations())
        await scene.until(lambda: waiting in [park.run for park in scene.world.parked])
        assert [(out.run, out.step) for out in executor.dispatches()] == [(run, "long")]
        assert executor.executing == 1 and not executor.knows("suite-row")
        executor.start(Execute(run, "suite-uneven", "", 0, 99))  # As a lane might that has not heard of it yet.
        assert (run, 99) in [(park.run, park.dispatch) for park in scene.world.parked]

    play(scenario)


def test_a_function_without_code_is_parked(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        executor = scene.world.executor
        assert executor.knows("suite-row") and not executor.knows("suite-unknown")
        run = await scene.send("nap")
        executor.abandon(run)
        executor.start(Execute(run, "suite-unknown", "", 0, 1))
        assert [(park.run, park.dispatch) for park in scene.world.parked] == [(run, 1)]

    play(scenario)


@pytest.mark.not_over_http  # More than a call holds: the app asks an api, which is not there.
def test_large_results_and_histories_travel(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("large")) == 6_000_000

    play(scenario)


def test_many_runs_at_once_all_end(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        runs = [await scene.send("side") for _ in range(40)]
        for run in runs:
            assert result_of(await scene.world.end(run)) == [0, 1, 2, 3, 4] * 2
        assert not scene.world.executor.full

    play(scenario)
