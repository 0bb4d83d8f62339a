"""Workers on a real broker come, go, die and freeze: nothing is lost, nothing is run twice without need."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from millstream.model.facts import DispatchLost, RunStarted
from tests.kafka.broker import Broker, kafka
from tests.kafka.fleet import SESSION_S, Fleet, ask, stop, until

__all__ = ["kafka"]


@pytest.fixture
def fleet(kafka: Broker, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(kafka, tmp_path)
    yield made
    made.close()


def at_s(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["at"]).timestamp()


class Clients(threading.Thread):
    """Posts an event and invokes a function, over and over, and remembers every answer."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        assert fleet.api is not None
        self.url = fleet.api.url
        self.over = threading.Event()
        self.posted: list[int] = []
        self.invoked: list[int] = []

    def run(self) -> None:
        n = 0
        while not self.over.is_set():
            n += 1
            self.posted.append(ask(f"{self.url}/e/key", {"name": "fleet/quick", "data": {"n": n}})[0])
            self.invoked.append(ask(f"{self.url}/invoke/fleet-quick", {"data": {"n": 1_000_000 + n}})[0])
            time.sleep(0.05)


def test_a_worker_that_is_told_to_stop_hands_its_lanes_over_and_no_request_fails(fleet: Fleet) -> None:
    fleet.door()
    leaving, staying = fleet.worker("a"), fleet.worker("b")
    for n in range(8):
        fleet.send("fleet/work", n=n, seconds=10)
    fleet.until_noted("began", 8)
    clients = Clients(fleet)
    clients.start()
    time.sleep(1)
    told_s = time.time()
    stop(leaving)
    until("the lanes", lambda: taken_since(staying, told_s))
    # So they have moved without its death, and without its session running out. How fast: bench.kafka_takeover.
    assert leaving.popen.poll() is None, "it lives on until its steps are reported"
    fleet.until_noted("after", 8)
    assert leaving.ended(40) == 0
    clients.over.set()
    clients.join(30)
    assert set(clients.posted) == {200}
    assert set(clients.invoked) == {200}
    fleet.until_noted("quick", len(clients.posted) + len(clients.invoked))
    facts = fleet.check_promises()
    assert len(fleet.noted("began")) == len(fleet.noted("did")) == 8, "a step was run twice"
    assert not [fact for fact in facts if isinstance(fact, DispatchLost)]


def taken_since(worker: Any, told_s: float) -> list[dict[str, Any]]:
    return [line for line in worker.facts("lanes assigned") if line["lanes"] and at_s(line) >= told_s - 0.5]


def test_steps_under_way_are_not_run_twice_when_workers_join(fleet: Fleet) -> None:
    fleet.door()
    fleet.worker("a")
    for n in range(8):
        fleet.send("fleet/work", n=n, seconds=12)
    fleet.until_noted("began", 8)
    second, third = fleet.worker("b", wait=False), fleet.worker("c", wait=False)
    until("b", second.ready)
    until("c", third.ready)
    fleet.until_noted("after", 8)
    assert sorted(line.split()[1] for line in fleet.noted("began")) == [str(n) for n in range(8)]
    assert len({line.split()[-1] for line in fleet.noted("after")}) > 1, "the lanes did not move"
    fleet.check_promises()


def test_kill_9_loses_nothing(fleet: Fleet) -> None:
    fleet.door()
    dying, living = fleet.worker("a"), fleet.worker("b")
    for n in range(12):
        fleet.send("fleet/work", n=n, seconds=2)
    fleet.until_noted("began", 12)
    dying.popen.kill()
    for n in range(12, 20):
        fleet.send("fleet/work", n=n, seconds=0)
    fleet.until_noted("after", 20, SESSION_S + 50)
    assert {int(line.split()[1]) for line in fleet.noted("after")} == set(range(20))
    assert living.ready()
    fleet.worker("a")
    until("both hold lanes", lambda: living.ready())
    facts = fleet.check_promises()
    assert sum(isinstance(fact, RunStarted) for fact in facts) == 20


def test_a_worker_that_was_frozen_past_its_session_changes_nothing_when_it_wakes(fleet: Fleet) -> None:
    fleet.door()
    frozen, living = fleet.worker("a"), fleet.worker("b")
    for n in range(12):
        fleet.send("fleet/work", n=n, seconds=3)
    fleet.until_noted("began", 12)
    held = {line.split()[1] for line in fleet.noted("began") if line.endswith("by a")}
    assert held, "worker a has no lane with a run"
    frozen.signal(signal.SIGSTOP)
    fleet.until_noted("after", 12, SESSION_S + 50)
    frozen.signal(signal.SIGCONT)
    until("it hears of it", lambda: frozen.facts("lanes lost") or frozen.facts("lanes revoked"), 30)
    until("it is a worker again", frozen.ready)
    assert living.ready()
    for n in range(20, 28):
        fleet.send("fleet/work", n=n, seconds=0)
    fleet.until_noted("after", 20)
    fleet.check_promises()


def test_a_worker_that_lost_its_disk_goes_on_where_it_was(fleet: Fleet) -> None:
    fleet.door()
    worker = fleet.worker("a")
    fleet.send("fleet/sleep", length="12s")
    for n in range(20):
        fleet.send("fleet/quick", n=n)
    fleet.until_noted("slept", 1)
    fleet.until_noted("quick", 20)
    worker.popen.kill()
    shutil.rmtree(fleet.folder / "a")
    fleet.worker("a")
    fleet.until_noted("woken", 1)
    assert len(fleet.noted("slept")) == 1
    assert len(fleet.noted("quick")) == 20
    fleet.check_promises()


def test_a_function_is_started_by_events_sent_the_moment_it_was_registered(fleet: Fleet) -> None:
    fleet.door()
    old = fleet.worker("a")
    fleet.worker("b", FLEET_VERSION="2")
    for n in range(20):
        fleet.send("fleet/new", n=n)
    stop(old)  # What its lanes cannot run waits for code, and is not lost.
    fleet.until_noted("new", 20)
    again = fleet.worker("a")
    assert again.facts("older code started")
    fleet.send("fleet/new", n=20)
    stop(again)
    fleet.until_noted("new", 21)
    fleet.check_promises()
