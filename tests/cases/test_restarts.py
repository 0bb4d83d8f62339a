"""Stopped, killed, started with other code: a run goes on where it was."""

from __future__ import annotations

import os
import re
import shutil
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cases.server import Server

Fresh = Callable[..., Server]
OPEN = "Running"


def app_file(folder: Path, text: str) -> str:
    """A module of its own, beside the data, for a case that changes its code; the target to load."""
    (folder / "changing.py").write_text(textwrap.dedent(text))
    return "changing:app"


def test_a_sleeping_run_survives_kill_9_and_its_step_is_not_redone(fresh: Fresh) -> None:
    server = fresh()
    event = server.send("cases/long-sleep")
    run = server.run_of(event)["run_id"]
    server.until("the sleep", lambda: len(server.run(run)["steps"]) == 2)
    server.kill()
    server.start()
    assert server.ended(event)["output"] == "kept"
    assert server.notes.read_text().count(f"slept {run}") == 1


def test_losing_the_local_store_and_the_index_loses_nothing(fresh: Fresh) -> None:
    server = fresh()
    event = server.send("cases/long-sleep")
    done = server.does("cases/sequence")
    run = server.run_of(event)["run_id"]
    server.until("the sleep", lambda: len(server.run(run)["steps"]) == 2)
    server.kill()
    shutil.rmtree(server.data / "state")
    for index in server.data.glob("history.db*"):
        index.unlink()
    server.start()
    assert server.ended(event)["output"] == "kept"
    again = server.until("the old run", lambda: server.get(f"/v1/runs/{done['run_id']}")[0] == 200 and done)
    assert again["output"] == {"sum": 4}


def test_sigterm_ends_in_good_order(fresh: Fresh) -> None:
    server = fresh()
    server.does("cases/sequence")
    assert server.stop() == 0


def test_a_second_server_on_the_same_data_is_refused(fresh: Fresh) -> None:
    server = fresh()
    other = Server(server.data)
    with pytest.raises(AssertionError, match=re.compile(f"the server ended.*{server.process.pid}", re.DOTALL)):
        other.start()


def test_a_step_that_changes_the_working_directory_leaves_the_data_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = Server(Path("data"), flags=("--executors", "0"))
    server.notes, server.output = tmp_path / "notes", tmp_path / "output"
    server.notes.touch()
    try:
        server.start(cwd=tmp_path)
        moved = server.does("cases/chdir")
        for _ in range(3):
            server.send("cases/nobody", {"much": "x" * 1_000_000})
        assert server.does("cases/sequence")["output"] == {"sum": 4}
        server.kill()
        server.start(cwd=tmp_path)
        assert server.does("cases/sequence")["output"] == {"sum": 4}
        assert server.run(moved["run_id"])["status"] == "Completed"
    finally:
        server.close()


def test_a_child_that_a_step_forked_keeps_neither_the_port_nor_the_data(fresh: Fresh) -> None:
    server = fresh()
    child = server.does("cases/fork", {"length_s": 120})["output"]
    try:
        server.kill()
        server.start(port=server.port)
        assert server.does("cases/sequence")["output"] == {"sum": 4}
        os.kill(child, 0)  # It lives still.
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_run_whose_code_has_changed_is_parked_and_goes_on_when_its_step_is_back(fresh: Fresh, tmp_path: Path) -> None:
    done = tmp_path / "done"
    whole = f"""
        from pathlib import Path
        from millstream import App, Context
        app = App("changing")
        def note(what):
            with Path("{done}").open("a") as file:
                file.write(what + " ")
            return what
        @app.function(on="change/it", retries=0)
        async def change(ctx: Context):
            first = await ctx.step.run("old-name", note, "first")
            await ctx.step.sleep("nap", "1s")
            while Path("{tmp_path}/held").exists():
                await __import__("asyncio").sleep(0.05)
            return [first, await ctx.step.run("last", note, "last")]
    """
    (tmp_path / "held").touch()  # However late this test looks: the run is open until its code has changed.
    target = app_file(tmp_path, whole)
    server = fresh(target)
    event = server.send("change/it")
    run = server.run_of(event)["run_id"]
    server.until("the sleep", lambda: len(server.run(run)["steps"]) == 2)
    server.kill()
    app_file(tmp_path, whole.replace("old-name", "new-name"))
    server.start()
    server.until("parked", lambda: server.run(run)["state"] == "Parked")
    seen = server.run(run)
    assert seen["reason"].startswith("its code has changed: step 'old-name'") and "'new-name'" in seen["reason"]
    assert seen["status"] == "Running" and "parked" in [notice["kind"] for notice in seen["notices"]]
    assert [found["run_id"] for found in server.get("/api/runs?status=parked")[1]["data"]] == [run]
    assert "its code has changed" in server.get("/?status=Parked")[1]
    server.until("the log line", lambda: "open runs wait since their code has changed" in server.output.read_text())
    metric = 'millstream_runs_with_changed_code{function="changing-change"} 1.0'
    server.until("the metric", lambda: metric in server.metrics())

    server.stop()
    app_file(tmp_path, whole)
    (tmp_path / "held").unlink()
    server.start()
    ended = server.ended(event)
    assert ended["status"] == "Completed" and ended["output"] == ["first", "last"]
    assert done.read_text().split() == ["first", "last"]
    server.until("the metric to go", lambda: metric not in server.metrics())


def test_a_run_whose_code_is_gone_is_kept_until_it_is_back(fresh: Fresh, tmp_path: Path) -> None:
    whole = """
        import asyncio
        from pathlib import Path
        from millstream import App, Context
        app = App("changing")
        @app.function(on="keep/it")
        async def keep(ctx: Context):
            await ctx.step.sleep("nap", "2s")
            while not Path("{may_end}").exists():
                await asyncio.sleep(0.05)
            return "back"
    """
    may_end = tmp_path / "may-end"
    whole = whole.replace("{may_end}", str(may_end))
    without = """
        from millstream import App
        app = App("changing")
    """
    server = fresh(app_file(tmp_path, whole))
    event = server.send("keep/it")
    run = server.run_of(event)["run_id"]
    server.until("the sleep", lambda: len(server.run(run)["steps"]) == 1)
    server.kill()
    app_file(tmp_path, without)
    server.start()
    server.until("the end of the sleep", lambda: server.run(run)["steps"][0]["status"] == "completed")
    assert server.run(run)["status"] == OPEN
    server.stop()
    app_file(tmp_path, whole)
    may_end.touch()
    server.start()
    assert server.ended(event)["output"] == "back"
