"""A real Prometheus scrapes a running group as deploy/prometheus says: each panel shows something, each rule works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka import Producer

from millstream.model.facts import WaitStarted
from tests.deploy.prometheus import Prometheus, asked, dashboards, programs, promtool
from tests.kafka.broker import Broker
from tests.kafka.fleet import Fleet, fetched, stop, until
from tests.sdk.rig.processes import app_process

APP, ORDERS = "tests.deploy.monitored_app:app", "examples.orders:app"
ANSWERED_WITHIN_S = 90.0
SEND_EVERY_S = 0.2


class Senders(threading.Thread):
    """Sends events of every kind, over and over."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        self._fleet = fleet
        self._over = threading.Event()

    def run(self) -> None:
        n = 0
        while not self._over.wait(SEND_EVERY_S):
            n += 1
            order = {
                "order_id": f"A{n}",
                "item": "vase",
                "cents": 42,
                "email": "ada@home",
            }  # There are none: called off.
            self._fleet.send("order/placed", **order)
            for name in ("fails", "queues", "queues", "dropped"):
                self._fleet.send(f"watched/{name}", n=n)
            self._fleet.send("remote/hello")

    def close(self) -> None:
        self._over.set()
        self.join(30)


@pytest.fixture
def fleet(kafka: Broker, tmp_path: Path) -> Iterator[Fleet]:
    programs()  # Skips before anything is started.
    made = Fleet(kafka, tmp_path)
    made.env["EXAMPLES_DB"] = str(tmp_path / "examples.db")
    made.env["MILLSTREAM_ENDPOINT_NETWORKS"] = "127.0.0.0/8"
    yield made
    made.close()


def test_every_panel_shows_something_and_every_rule_works(fleet: Fleet, tmp_path: Path) -> None:
    api, history = fleet.door(), fleet.history()
    leave_runs_to_the_next_version(fleet)
    workers = [fleet.worker(name, targets=(APP, ORDERS), MONITORED_VERSION="2") for name in ("a", "b")]
    processes = [*workers, api, history]
    prometheus = Prometheus(tmp_path, [process.port for process in processes])
    senders, over_http = Senders(fleet), ExitStack()
    senders.start()
    try:
        app = over_http.enter_context(app_process("fastapi", tmp_path, id="remote", INNGEST_DEV=api.url))
        assert app.put()[0] == 200, app.said
        fleet.send("watched/go")
        fleet.send("watched/held")
        spoil(fleet)
        empty = dict.fromkeys(pair for dashboard in dashboards().values() for pair in asked(dashboard))
        until(f"an answer of {list(empty)}", lambda: not answered(prometheus, empty), ANSWERED_WITHIN_S)
        for process in processes:
            assert promtool("check", "metrics", said=fetched(f"{process.url}/metrics")) == "", process.name
        rules = prometheus.rules()
        assert {name: rule["lastError"] for name, rule in rules.items() if rule["health"] != "ok"} == {}
        until("the dead letter", lambda: "MillstreamDeadLetters" in alerts(prometheus, "firing"))
        waits = {"MillstreamRunsWithoutCode", "MillstreamRunsWithChangedCode", "MillstreamRunsHeld"}
        until(f"{waits}", lambda: waits <= alerts(prometheus, "pending", "firing"))
        assert alerts(prometheus, "firing") == {"MillstreamDeadLetters"}
        for worker in workers:
            worker.popen.kill()
        gone = {"MillstreamDown", "MillstreamLanesWithoutOwner"}
        until(f"{gone}", lambda: gone <= alerts(prometheus, "pending", "firing"))
    finally:
        senders.close()
        prometheus.close()
        over_http.close()


def leave_runs_to_the_next_version(fleet: Fleet) -> None:
    """A worker of the first version begins two runs and stops: its code is gone, or another, when they go on."""
    first = fleet.worker("first", targets=(APP, ORDERS), MONITORED_VERSION="1")
    fleet.send("watched/lost")
    fleet.send("watched/changes")
    until("the wait", lambda: any(isinstance(fact, WaitStarted) for fact in fleet.journal()))
    stop(first)
    assert first.ended() == 0


def spoil(fleet: Fleet) -> None:
    """A record that is no event goes into the events topic."""
    producer = Producer({"bootstrap.servers": fleet.brokers})
    producer.produce(fleet.env["MILLSTREAM_EVENTS_TOPIC"], b"no event")
    assert producer.flush(30) == 0


def alerts(prometheus: Prometheus, *states: str) -> set[str]:
    """The alerts that are in one of these states."""
    return {name for name, rule in prometheus.rules().items() if rule["state"] in states}


def answered(prometheus: Prometheus, empty: dict[tuple[str, str], None]) -> dict[tuple[str, str], None]:
    """Take out what shows something by now; what is left."""
    for title, expression in tuple(empty):
        if prometheus.query(expression):
            del empty[title, expression]
    return empty
