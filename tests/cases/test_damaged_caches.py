"""What is only a cache heals by itself: no damage of it stops the server, loses a run, or leaves reads at 503."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.cases.server import Server
from tests.disks import flip

Fresh = Callable[..., Server]


def history_process(server: Server) -> int:
    """The process that folds."""
    assert server.process is not None
    children = subprocess.run(
        ["ps", "--ppid", str(server.process.pid), "-o", "pid=,args="], capture_output=True, text=True
    )
    found = [line.split()[0] for line in children.stdout.splitlines() if "millstream.history" in line]
    return int(found[0]) if found else 0


def shown(server: Server, event: str) -> bool:
    return bool(server.runs_of(event))


def test_a_killed_history_is_started_again_and_runs_go_on_meanwhile(fresh: Fresh) -> None:
    server = fresh()
    first = server.until("a history", lambda: history_process(server))
    for _ in range(2):
        os.kill(server.until("a history", lambda: history_process(server)), signal.SIGKILL)
        assert server.does("cases/sequence")["status"] == "Completed"
    assert server.until("another history", lambda: history_process(server)) != first
    assert "millstream_history_deaths_total 2.0" in server.metrics()
    assert server.output.read_text().count("history process ended") == 2
    assert server.stop() == 0


@pytest.mark.parametrize("at", [0, 18, 100, 3 * 8_192 + 5])
def test_a_damaged_history_is_folded_anew(fresh: Fresh, tmp_path: Path, at: int) -> None:
    server = fresh()
    event = server.send("cases/sequence")
    server.ended(event)
    server.stop()
    flip(tmp_path / "data" / "history.db", at)
    server.start()
    assert server.ended(event)["status"] == "Completed"
    assert server.does("cases/sequence")["status"] == "Completed"
    assert server.output.read_text().count("history moved aside") == 1
    assert (tmp_path / "data" / "history.db.damaged").exists()


def test_a_history_damaged_under_a_running_server_is_folded_anew(fresh: Fresh, tmp_path: Path) -> None:
    server = fresh()
    event = server.send("cases/sequence")
    server.ended(event)
    index = tmp_path / "data" / "history.db"
    with index.open("r+b") as file:
        file.truncate(8_192)
    index.with_name("history.db-wal").write_bytes(b"")
    assert server.does("cases/sequence")["status"] == "Completed"
    assert server.ended(event)["status"] == "Completed"
    server.until("it was moved aside", lambda: "history moved aside" in server.output.read_text())


def test_damaged_stores_are_built_anew_and_every_run_ends(fresh: Fresh, tmp_path: Path) -> None:
    server = fresh(flags=("--lanes", "2"))
    rng = Random(14)
    events = [server.send("cases/sleep", {"pad": rng.randbytes(2_000).hex()}) for _ in range(60)]
    server.until("they sleep", lambda: all(shown(server, event) for event in events))
    server.until("a flush", lambda: _logged_bytes(tmp_path / "data" / "state") > 300_000)
    server.stop()
    server.start()  # The log of each store becomes a file of rows.
    server.kill()
    tables = sorted((tmp_path / "data" / "state").glob("*/*.sst"))
    assert {table.parent.name for table in tables} == {"0", "1"}
    for table in tables:
        for part in range(1, 40):
            flip(table, table.stat().st_size * part // 45)
    server.start()
    for event in events:
        assert server.ended(event)["status"] == "Completed"
    assert server.does("cases/sequence")["status"] == "Completed"
    server.stop()
    said = server.output.read_text()
    assert "lane store moved aside" in said
    assert "dead letter" not in said
    assert "refused" not in said


def _logged_bytes(state: Path) -> int:
    return sum(path.stat().st_size for path in state.glob("*/*.log"))


def test_the_length_of_the_history_may_be_changed(fresh: Fresh, tmp_path: Path) -> None:
    server = fresh()
    event = server.send("cases/long-sleep")
    for flags in (("--history", "48h"), ("--history", "2h"), ()):
        server.stop()
        server.flags = flags
        server.start()
    assert server.ended(event)["status"] == "Completed"
