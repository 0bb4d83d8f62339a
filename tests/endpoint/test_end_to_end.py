"""A real server, an app of the unmodified Python SDK on FastAPI in a process of its own: does every tool work?

One server and one app for all tests of this file, on one loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream import App, Context, Event
from millstream.dev import DevSettings
from millstream.execute.endpoint.endpoints import EndpointSettings
from millstream.model.facts import BodyAttemptFailed, DispatchParked, WaitStarted
from millstream.wire.signing import SigningKeys
from tests.endpoint.stage import PythonApp, Server, spec, until

FUNCTIONS = (
    *("row", "none", "nap", "wait", "wait-long", "child", "parent", "side", "flaky"),
    *("caught", "uncaught", "body", "hang", "big"),
)
Scenario = Callable[[Server, PythonApp], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    folder: Path = tmp_path_factory.mktemp("endpoint")
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        app, server = PythonApp(folder / "notes"), Server(folder / "data")

        async def begin() -> None:
            await app.start()
            await server.__aenter__()
            await server.register(spec(app.url, FUNCTIONS))

        async def one(scenario: Scenario) -> None:
            app.notes_path.unlink(missing_ok=True)
            await scenario(server, app)

        runner.run(begin())
        try:
            yield lambda scenario: runner.run(one(scenario))
        finally:
            runner.run(server.__aexit__())
            runner.run(app.kill())


def test_three_steps_run_once_each_in_their_order(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        assert await server.result("row") == ["a", "b", "c"]
        assert app.notes == ["a", "b", "c"]

    play(scenario)


def test_a_function_without_steps_sees_its_event_and_run(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        run = await server.send("none", n=1, text="ä€😀", deep={"a": [1.5, None]})
        end: Any = await server.end(run)
        assert json.loads(end.result) == {"data": {"n": 1, "text": "ä€😀", "deep": {"a": [1.5, None]}}, "id": run}

    play(scenario)


def test_a_sleep(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        assert await server.result("nap") == "awake"

    play(scenario)


def test_a_wait_gets_the_event_that_fits(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        run = await server.send("wait", id=5)
        await until(lambda: any(fact.run == run for fact in server.of(WaitStarted)))
        await server.client.send([Event("reply", {"id": 4}), Event("reply", {"id": 5, "answer": True})])
        end: Any = await server.end(run)
        assert json.loads(end.result) == {"id": 5, "answer": True}

    play(scenario)


def test_a_wait_for_what_never_comes_gets_nothing(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        assert await server.result("wait-long") is True

    play(scenario)


def test_an_invoke_gets_the_result_the_error_or_the_end_of_its_time(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        assert await server.result("parent") == [
            {"got": 7},
            ["NonRetriableError", "child says no"],
            ["InngestInvokeTimeoutError", "Timed out waiting for invoked function to complete"],
        ]

    play(scenario)


@pytest.mark.parametrize("race", [False, True])
def test_steps_side_by_side_run_once_each(play: Play, race: bool) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        run = await server.send("side", race=race)
        end: Any = await server.end(run)
        assert json.loads(end.result) == ["a.2", "b.2"]
        assert sorted(app.notes) == ["a.1", "a.2", "b.1", "b.2"]
        if not race:  # The body is called when both groups are through: first, between, and last.
            assert end.dispatch == 7 and set(app.notes[:2]) == {"a.1", "b.1"}
        assert app.notes.index("a.1") < app.notes.index("a.2") and app.notes.index("b.1") < app.notes.index("b.2")

    play(scenario)


def test_a_step_that_fails_is_tried_again_alone(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        assert await server.result("flaky") == 2
        assert app.notes == ["flaky 0", "flaky 1", "flaky 2"]

    play(scenario)


def test_a_step_that_failed_for_good_can_be_caught(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        assert await server.result("caught") == "undone after ValueError: no luck"

    play(scenario)


def test_a_run_fails_with_the_error_object_of_its_sdk(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        failed = await server.failure("uncaught")
        assert (failed.error_name, failed.error_message) == ("ValueError", "no luck")
        assert "raise ValueError" in failed.error_stack and failed.error_more == b'{"code":"step_errored"}'
        again = await server.failure("body")
        assert (again.error_name, again.error_message) == ("NonRetriableError", "never")
        assert app.notes == ["body 0", "body 1"]

    play(scenario)


def test_many_runs_at_once_all_end(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        runs = [await server.send("row") for _ in range(50)]
        ends: list[Any] = [await server.end(run) for run in runs]
        assert all(json.loads(end.result) == ["a", "b", "c"] for end in ends)
        assert sorted(app.notes) == sorted("abc" * 50)

    play(scenario)


def test_large_results_travel(play: Play) -> None:
    async def scenario(server: Server, app: PythonApp) -> None:
        assert await server.result("big", bytes=1_000_000, steps=3) == 3_000_000

    play(scenario)


async def test_runs_wait_for_their_app_over_a_restart_of_the_server(tmp_path: Path) -> None:
    app = PythonApp(tmp_path / "notes")
    async with Server(tmp_path / "data") as server:
        await server.register(spec(app.url, FUNCTIONS))
        runs = [await server.send("row") for _ in range(5)]
        await until(lambda: len(server.of(DispatchParked)) == 5)
    async with Server(tmp_path / "data") as again:
        await until(lambda: again.dev.worker is not None and again.dev.worker.ready)
        async with app:
            ends: list[Any] = [await again.end(run) for run in runs]
        assert all(json.loads(end.result) == ["a", "b", "c"] for end in ends)


async def test_a_process_runs_its_own_functions_beside_those_of_apps_over_http(tmp_path: Path) -> None:
    own = App("own")

    @own.function(on="home")
    async def home(ctx: Context) -> str:
        return await ctx.step.run("here", lambda: "here")

    server = Server(tmp_path / "data", apps=[own])
    async with PythonApp(tmp_path / "notes") as app, server:
        await server.register(spec(app.url, FUNCTIONS))
        assert await server.result("home") == "here" and await server.result("row") == ["a", "b", "c"]


KEY = "signkey-test-" + "ab" * 16
OTHER = "signkey-test-" + "cd" * 16


@pytest.mark.parametrize("key", [KEY, OTHER])
async def test_signed_calls_are_taken_with_either_key(tmp_path: Path, key: str) -> None:
    async with PythonApp(tmp_path / "notes", env=signed(key)) as app, server_with(tmp_path, KEY, OTHER) as server:
        await server.register(spec(app.url, FUNCTIONS))
        assert await server.result("row", number=1.0, text="ä😀") == ["a", "b", "c"]
        failed = await server.failure("uncaught")
        assert failed.error_name == "ValueError"


async def test_an_app_with_another_key_is_waited_for(tmp_path: Path) -> None:
    async with PythonApp(tmp_path / "notes", env=signed(KEY)) as app, server_with(tmp_path, OTHER) as server:
        await server.register(spec(app.url, FUNCTIONS))
        run = await server.send("row")
        await until(lambda: server.of(DispatchParked))
        assert not app.notes and not server.of(BodyAttemptFailed)
        await app.kill()
        async with PythonApp(tmp_path / "notes", app.port, env=signed(OTHER)):
            end = await server.end(run)
            assert end.result == b'["a", "b", "c"]'  # type: ignore[union-attr]


def signed(key: str) -> dict[str, str]:
    """The environment of an app in production."""
    return {"INNGEST_SIGNING_KEY": key, "INNGEST_DEV": "0"}


def server_with(folder: Path, *keys: str) -> Server:
    """A server that signs."""
    return Server(folder / "data", DevSettings(endpoints=EndpointSettings(keys=SigningKeys.of(*keys))))
