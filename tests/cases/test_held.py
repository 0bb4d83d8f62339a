"""``on_exhausted="hold"`` on a real server: held, shown, resumed and let fail; over restarts, too."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from tests.cases.server import WAIT_S, Server


def held(server: Server, **data: object) -> str:
    """A run that waits for an operator."""
    run = str(server.run_of(server.send("cases/held", data))["run_id"])
    server.until("the hold", lambda: server.run(run)["state"] == "Held")
    return run


def ended(server: Server, run: str) -> dict:
    return dict(server.until("the end", lambda: (r := server.run(run))["status"] in ("Completed", "Failed") and r))


def test_a_held_run_is_let_fail_and_its_failure_handler_is_told_only_then(server: Server) -> None:
    run, caught = held(server), held(server, caught=True)
    (ask,) = [step for step in server.run(run)["steps"] if step["id"] == "ask"]
    assert ask["status"] == "held" and len(ask["attempts"]) == 2
    listed = server.get("/api/runs?status=Held&function=cases-held")[1]["data"]
    assert {run, caught} <= {one["run_id"] for one in listed}
    server.until("the metric", lambda: re.search(r'runs_held{function="cases-held"} [1-9]', server.metrics()))
    assert "failure-handler cases-held" not in server.notes.read_text()
    for one in (run, caught):
        assert server.ask("POST", f"/api/runs/{one}/fail", {})[0] == 200
    assert ended(server, run)["status"] == "Failed"
    assert ended(server, caught)["output"] == "without: closed"
    wanted = "failure-handler cases-held closed"
    server.until("the failure handler's note", lambda: wanted in server.notes.read_text())


def test_a_hold_outlives_kill_9_and_a_resumed_step_runs_in_any_executor(
    fresh: Callable[..., Server], tmp_path: Path
) -> None:
    server = fresh(flags=("--executors", "2"))
    run = held(server)
    server.kill()
    server.start()
    ends = time.monotonic() + WAIT_S
    while server.run(run)["state"] != "Held":
        assert time.monotonic() < ends
    Path(f"{server.notes}-opened").touch()
    assert server.ask("POST", f"/api/runs/{run}/resume", {})[0] == 200
    assert ended(server, run)["output"] == f"paid by {run}"
    assert server.notes.read_text().count(f"before {run}") == 1, "what is recorded runs once"
    assert server.ask("POST", f"/api/runs/{run}/resume", {})[0] == 409
