"""What only child processes do: die, be started again, block alone, and say so."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from millstream.errors import ConfigError, OperatorError
from millstream.execute.processes.children import ChildrenExecutor
from millstream.execute.processes.pool import Pool, PoolSettings
from millstream.model.facts import DispatchLost, DispatchParked, RunCompleted, RunFailed
from millstream.model.limits import DISPATCHES_LOST_MAX
from tests.contract.executor_stage import LOCAL, Scene, Stage

R = TypeVar("R")
Play = Callable[[Callable[[Scene], Awaitable[R]]], R]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("millstream.execute.processes.pool.BACKOFF_MAX_S", 0.2)
        opened = Stage("children")
        yield opened
        opened.close()


@pytest.fixture
def play(stage: Stage, tmp_path: Path) -> Play:
    def run(scenario: Callable[[Scene], Awaitable[R]]) -> R:
        async def from_rest(scene: Scene) -> R:
            assert stage.pool is not None
            await scene.until(lambda: all(child.up for child in stage.pool.children))
            return await scenario(scene)

        return stage.play(tmp_path / "notes", from_rest)

    return run


def result_of(end: object) -> object:
    assert isinstance(end, RunCompleted), end
    return msgspec.json.decode(end.result)


def test_a_run_stays_with_one_process_and_runs_are_spread(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        runs = [await scene.send("process") for _ in range(20)]
        pids = [result_of(await scene.world.end(run)) for run in runs]
        assert all(len(set(of_run)) == 1 for of_run in pids)
        assert len({of_run[0] for of_run in pids}) == 2
        assert os.getpid() not in {of_run[0] for of_run in pids}

    play(scenario)


def test_code_that_computes_blocks_neither_the_lane_nor_the_other_process(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        burning = await scene.send("burn")  # Until it is told: whatever waited for it would wait for ever.
        await scene.until(lambda: "burning" in scene.notes)
        for _ in range(10):
            assert result_of(await scene.end("row")) == ["a", "b", "c"]
        assert not scene.world.ends[burning].done()
        Path(f"{scene.path}-enough").touch()
        result_of(await scene.world.end(burning))

    play(scenario)


def test_what_a_killed_process_held_is_lost_and_handed_out_again(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("die", times=1)) == "survived"
        assert len(scene.world.lost) == 1
        (lost,) = scene.facts(DispatchLost)
        assert lost.lost == 1
        assert scene.notes == ["died", "survived"]

    play(scenario)


def test_a_step_that_kills_its_process_each_time_fails_as_worker_lost(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.core.runs.retry.LOST_DELAYS_MS", (0, 50))

    async def scenario(scene: Scene) -> None:
        end = await scene.end("die", times=99)
        assert isinstance(end, RunFailed) and end.error_name == "WorkerLost", end
        assert len(scene.notes) == DISPATCHES_LOST_MAX + 1

    play(scenario)


def test_the_others_go_on_while_one_process_is_gone(play: Play, stage: Stage) -> None:
    async def scenario(scene: Scene) -> None:
        assert stage.pool is not None
        os.kill(stage.pool.children[0].pid, signal.SIGKILL)
        for _ in range(10):
            assert result_of(await scene.end("row")) == ["a", "b", "c"]
        await scene.until(lambda: all(child.up for child in stage.pool.children))

    play(scenario)


def test_with_no_process_left_dispatches_wait_for_the_next(play: Play, stage: Stage) -> None:
    async def scenario(scene: Scene) -> None:
        assert stage.pool is not None
        for child in stage.pool.children:
            os.kill(child.pid, signal.SIGKILL)
        await scene.until(lambda: not stage.pool.up)
        assert scene.world.executor.full
        run = await scene.send("row")
        assert scene.world.executor.holds(run, "", 1)
        assert result_of(await scene.world.end(run)) == ["a", "b", "c"]
        assert scene.world.lost == [] and not scene.world.executor.full

    play(scenario)


def test_a_process_that_died_very_often_is_started_again(play: Play, stage: Stage) -> None:
    async def scenario(scene: Scene) -> None:
        assert stage.pool is not None
        child, *_ = stage.pool.children
        child._failures = 5_000  # Some hours of it.
        dead = child.pid
        os.kill(dead, signal.SIGKILL)
        await scene.until(lambda: child.up and child.pid != dead)

    play(scenario)


def test_a_step_that_blocks_for_longer_than_its_timeout_costs_its_process(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        run = await scene.send("block")
        await scene.until(lambda: scene.notes)
        Path(f"{scene.path}-survive").touch()
        assert result_of(await scene.world.end(run)) == "through"
        assert len(scene.world.lost) == 1

    play(scenario)


def test_steps_that_block_one_after_another_are_each_given_their_time(play: Play) -> None:
    async def scenario(scene: Scene) -> None:
        assert result_of(await scene.end("brief")) == 8  # 3.2 s without a breath; each of them may take one.
        assert scene.world.lost == [] and len(scene.notes) == 8

    play(scenario)


def test_a_silent_process_is_killed(play: Play, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code in C that holds the interpreter: nothing in that process can do anything about it."""
    monkeypatch.setattr("millstream.execute.processes.pool.SILENCE_EXTRA_S", 0.5)
    monkeypatch.setattr(ChildrenExecutor, "step_time_ms", lambda self, child: 500 * child.dispatches)

    async def scenario(scene: Scene) -> None:
        assert stage.pool is not None
        run = await scene.send("long")
        await scene.until(lambda: len(scene.notes) == 2)
        (busy,) = [child for child in stage.pool.children if child.dispatches]
        os.kill(busy.pid, signal.SIGSTOP)
        await scene.until(lambda: len(scene.world.lost) == 2)
        assert {lost.run for lost in scene.world.lost} == {run}

    play(scenario)


def test_a_process_that_has_loaded_the_code_anew_is_given_what_the_code_had_changed_for(
    play: Play, stage: Stage
) -> None:
    async def scenario(scene: Scene) -> None:
        assert stage.pool is not None
        run = await scene.send("changing")
        await scene.until(lambda: ["SleepFound nap"] in scene.world.operations())
        Path(f"{scene.path}-code").write_text("changed")
        scene.world.crash()
        await scene.until(lambda: scene.facts(DispatchParked))
        Path(f"{scene.path}-code").write_text("mended")
        os.kill(stage.pool.children[0].pid, signal.SIGKILL)
        result_of(await scene.world.end(run))

    play(scenario)


def test_the_environment_that_the_server_sets_later_reaches_all_processes(play: Play, stage: Stage) -> None:
    async def scenario(scene: Scene) -> None:
        assert stage.pool is not None
        stage.pool.put_environ({"SUITE_TOLD": "told"})
        assert result_of(await scene.end("environ")) == "told"
        for child in stage.pool.children:
            os.kill(child.pid, signal.SIGKILL)
        await scene.until(lambda: not stage.pool.up)
        assert result_of(await scene.end("environ")) == "told"

    play(scenario)


def test_logger_lines_of_functions_go_to_the_servers_standard_error(
    play: Play, stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scenario(scene: Scene) -> str:
        assert stage.pool is not None
        for child in stage.pool.children:
            os.kill(child.pid, signal.SIGKILL)  # So that they begin with the standard error of this test.
        await scene.until(lambda: not stage.pool.up)
        run = await scene.send("logs")
        result_of(await scene.world.end(run))
        return run

    assert f"heard in step of {play(scenario)}" in capfd.readouterr().err


def test_a_process_ends_with_its_parent_however_busy_it_is(tmp_path: Path) -> None:
    """``kill -9`` of the worker, while a child computes."""
    stage = Stage("children", executors=1)

    async def scenario(scene: Scene) -> int:
        assert stage.pool is not None
        (child,) = stage.pool.children
        await scene.send("block")
        await scene.until(lambda: scene.notes)
        pid = child.pid
        os.close(child._alive)  # What the kernel does for a process that is killed.
        child._alive = -1
        await scene.until(lambda: scene.world.lost)
        return pid

    pid = stage.play(tmp_path / "notes", scenario)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    stage.close()


def test_apps_that_cannot_be_loaded_are_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_app.py").write_text("raise ValueError('no settings')\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    async def scenario() -> None:
        pool = Pool(PoolSettings(executors=2, targets=("broken_app:app",), local=LOCAL))
        with pytest.raises(OperatorError, match=r"broken_app\.py:1: ValueError: no settings"):
            await pool.start()
        assert all(child.pid == 0 for child in pool.children)

    asyncio.run(scenario())


def test_code_that_cannot_be_loaded_any_more_is_said_once_and_its_runs_are_parked_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = tmp_path / "edited_app.py"
    good = "from tests.contract.executor_app import app\n"
    module.write_text(good)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("tests.contract.executor_stage.TARGET", "edited_app:app")
    monkeypatch.setattr("millstream.execute.processes.pool.BACKOFF_MAX_S", 0.2)
    stage = Stage("children", executors=1)

    async def scenario(scene: Scene) -> None:
        assert stage.pool is not None
        (child,) = stage.pool.children
        module.write_text("import gone_away\n")
        os.kill(child.pid, signal.SIGKILL)
        await scene.until(lambda: stage.pool.broken)
        assert not scene.world.executor.knows("suite-row")
        run = await scene.send("row")
        await scene.until(lambda: scene.world.parked)
        await asyncio.sleep(1)  # Another try to load it would have been said by then.
        assert [park.run for park in scene.world.parked] == [run]
        said = [r for r in caplog.records if r.getMessage() == "executor refused"]
        assert len(said) == 1 and "gone_away" in said[0].fields["why"]
        module.write_text(good)
        assert result_of(await scene.world.end(run)) == ["a", "b", "c"]

    with caplog.at_level(logging.INFO):
        stage.play(tmp_path / "notes", scenario)
    stage.close()


@pytest.mark.parametrize(("executors", "targets"), [(0, ("a:b",)), (257, ())])
def test_a_pool_of_nothing_is_refused(executors: int, targets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        PoolSettings(executors=executors, targets=targets)
