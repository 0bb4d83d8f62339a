"""``--executors 2``: functions run in processes of their own, and neither computing nor dying there hurts the rest."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.cases.server import WAIT_S, Server
from tests.cases.test_callbacks import begun

Fresh = Callable[..., Server]
FLAGS = ("--executors", "2")
FOR_EVER_S = 3_600


def computing(server: Server) -> int:
    return server.notes.read_text().count("computing")


def executors(server: Server) -> list[int]:
    """Their processes, by what the server has logged."""
    return [int(pid) for pid in re.findall(r'"executor up".*?"pid":(\d+)', server.output.read_text())]


def test_while_a_function_computes_the_server_and_other_runs_go_on(fresh: Fresh) -> None:
    server = fresh(flags=FLAGS)
    event = server.send("cases/compute", {"length_s": FOR_EVER_S})
    server.until("the computation", lambda: computing(server))
    for _ in range(5):  # What waited for the computation would wait for ever.
        assert server.does("cases/sequence")["output"] == {"sum": 4}
    assert server.run_of(event)["status"] == "Running"
    Path(f"{server.notes}-enough").touch()
    assert server.ended(event)["output"] > 0


def test_kill_9_of_an_executor_in_a_step_runs_that_step_once_more_and_nothing_else(fresh: Fresh) -> None:
    server = fresh(flags=FLAGS)
    event = server.send("cases/interrupted")
    run = server.run_of(event)["run_id"]
    server.until("the step", lambda: f"working {run}" in server.notes.read_text())
    found = re.search(rf"working {run} (\d+)", server.notes.read_text())
    assert found is not None and server.process is not None
    killed = int(found[1])
    assert killed != server.process.pid
    os.kill(killed, signal.SIGKILL)
    ended = server.ended(event)
    assert ended["status"] == "Completed" and ended["output"][0] == killed != ended["output"][1]
    notes = server.notes.read_text()
    assert (notes.count(f"before {run}"), notes.count(f"working {run}")) == (1, 2)
    (work,) = [step for step in ended["steps"] if step["id"] == "work"]
    assert [a["attempt"] for a in work["attempts"]] == [0], "a lost hand-out uses up no attempt"
    assert "executor died" in server.output.read_text()


def test_executors_end_with_their_server_also_when_it_is_killed(fresh: Fresh) -> None:
    server = fresh(flags=FLAGS)
    server.send("cases/compute", {"length_s": FOR_EVER_S})
    server.until("the computation", lambda: computing(server))
    server.until("both executors", lambda: len(executors(server)) == 2)
    pids = executors(server)
    server.kill()
    ends = time.monotonic() + WAIT_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < ends, "an executor has outlived its server"
        time.sleep(0.02)


def test_sigterm_lets_steps_end_and_stops_every_executor(fresh: Fresh) -> None:
    server = fresh(flags=FLAGS)
    event = server.send("cases/compute", {"length_s": 1})
    server.until("the computation", lambda: computing(server))
    assert server.stop() == 0
    server.start()
    assert server.ended(event)["output"] > 0
    assert computing(server) == 1, "a step that had time to end was run again"


def test_a_callback_survives_a_kill_of_its_server_and_so_does_what_was_posted_to_it(fresh: Fresh) -> None:
    server = fresh(flags=FLAGS)
    first, path = begun(server, think="3s")
    second, plain = begun(server, "cases/plain-approval")
    assert server.ask("POST", path, "kept")[0] == 200
    server.kill()
    server.start()
    assert server.ask("POST", path, "second")[0] == 410
    assert server.ask("POST", plain, "later")[0] == 200
    assert (server.ended(first)["output"]["answer"], server.ended(second)["output"]) == ("kept", "later")
