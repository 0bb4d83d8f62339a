"""Limits over kill -9 and rebalances, measured from outside: never exceeded, nobody stuck, nothing lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases.server import WAIT_S, Server
from tests.chaos.functions import LEDGER_VARIABLE
from tests.chaos.limited import read, write_gone
from tests.chaos.limits import FUNCTIONS_OF, Posted, judge, unfinished
from tests.kafka.broker import Broker
from tests.kafka.fleet import Fleet, Process, ask, stop
from tests.promises import BrokenPromise

TARGET = "tests.cases.limited:app"
KEYS = ("ann", "bob", "cid")
A_ROUND = 6
"""So many events of each name and key are posted at once."""
WORKING_S = 0.25


class Watched:
    """What was posted, and the ledger: ``ask`` speaks to the server that there is now."""

    def __init__(self, ledger: Path, ask: Callable[[str, Any], tuple[int, Any]]) -> None:
        self.ledger = ledger
        self.ask = ask
        self.posted: list[Posted] = []

    def post(self) -> None:
        """A round of events, in order, all at once; then they run for a while."""
        begins = len(self.posted) // (len(KEYS) * len(FUNCTIONS_OF))
        at_ns = time.monotonic_ns()
        posted = [Posted(name, key, begins + n, at_ns) for n in range(A_ROUND) for key in KEYS for name in FUNCTIONS_OF]
        self.posted += posted
        status, answer = self.ask("/e/key", [one.body("cases") for one in posted])
        assert status == 200 and len(answer["ids"]) == len(posted), answer
        time.sleep(WORKING_S)

    def killed(self, pid: int) -> None:
        write_gone(self.ledger, pid)

    def check(self) -> None:
        """Once everything is over. Raises BrokenPromise with all that was wrong."""
        ends = time.monotonic() + WAIT_S
        while (left := unfinished(self.posted, read(self.ledger)) or self._open()) and time.monotonic() < ends:
            time.sleep(0.1)
        wrong = judge(self.posted, read(self.ledger)) + [f"stuck: {one}" for one in left]
        if wrong:
            raise BrokenPromise("\n".join(wrong))

    def _open(self) -> list[Any]:
        status, answer = self.ask("/api/runs?status=Running,Queued&limit=5", None)
        return list(answer["data"]) if status == 200 else [answer]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "ledger"))
    return tmp_path / "ledger"


@pytest.fixture
def fleet(kafka: Broker, ledger: Path, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(kafka, tmp_path)
    yield made
    made.close()


def test_no_limit_is_exceeded_and_no_run_stuck_when_a_server_is_killed_twice(
    ledger: Path, fresh: Callable[..., Server]
) -> None:
    server = fresh(TARGET, flags=("--lanes", "3"))
    watched = Watched(ledger, lambda path, body: server.ask("POST" if body else "GET", path, body))
    for _ in range(2):
        watched.post()
        assert server.process is not None
        server.kill()
        watched.killed(server.process.pid)
        server.start()
    watched.post()
    watched.check()


def test_no_limit_is_exceeded_and_no_run_stuck_when_workers_join_leave_and_are_killed(
    ledger: Path, fleet: Fleet
) -> None:
    history = fleet.history()
    door = fleet.door("--history-url", history.url)
    dying, leaving = _worker(fleet, "dying"), _worker(fleet, "leaving")
    watched = Watched(ledger, lambda path, body: ask(door.url + path, body))
    watched.post()
    dying.popen.kill()
    dying.ended()
    watched.killed(dying.popen.pid)
    watched.post()
    _worker(fleet, "joining")
    watched.post()
    stop(leaving)
    watched.post()
    watched.check()


def _worker(fleet: Fleet, name: str) -> Process:
    return fleet.worker(name, targets=(TARGET,))
