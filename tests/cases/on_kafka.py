"""The server of the cases as a fleet on a real broker: one worker, one history, one api that hands reads on to it."""

from __future__ import annotations

import fcntl
import os
import signal
from functools import partial
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from tests.cases.server import Server
from tests.kafka.broker import Broker
from tests.kafka.fleet import Fleet, fetched, until

TARGETS = ("tests.cases.app:app", "tests.cases.waiting:app")
PUBLIC_URL = "https://hooks.example.com/millstream/"
"""What a proxy would lead to the api; the cases take the path behind it to the api themselves."""
FOREIGN = ("cases-out", "cases.foreign")
"""Topics that functions write to: on Kafka somebody makes them, in dev the server does."""


class FleetServer(Server):
    """Spoken to as any server; ``process`` and ``output`` are the worker's."""

    def __init__(self, kafka: Broker, folder: Path, *, flags: tuple[str, ...] = ()) -> None:
        super().__init__(folder / "data", *TARGETS, flags=flags)
        self.fleet = Fleet(kafka, folder, lanes=2)
        _make_foreign(AdminClient({"bootstrap.servers": kafka.bootstrap}))

    def start(self) -> FleetServer:
        worker = self.fleet.worker(
            "worker", targets=TARGETS, flags=("--public-url", PUBLIC_URL), CASES_NOTES=str(self.notes)
        )
        self.process, self.output = worker.popen, worker.output
        history = self.fleet.history()
        self.port = self.fleet.door("--history-url", history.url, *self.flags).port
        return self

    def metrics(self) -> str:
        return "\n".join(fetched(f"{process.url}/metrics") for process in self.fleet.processes)

    def stop(self) -> int:
        """All of them in good order; the first exit code that is not 0."""
        for process in reversed(self.fleet.processes):
            process.signal(signal.SIGTERM)
        codes = [process.ended(60) for process in self.fleet.processes]
        return next((code for code in codes if code), 0)

    def close(self) -> None:
        self.fleet.close()


def _make_foreign(admin: AdminClient) -> None:
    """Empty topics, once a run: its processes share a broker, and none may delete what another one's cases use."""
    folder = Path(os.environ["TEST_RUN_FOLDER"])
    made = folder / "cases-topics.made"
    with (folder / "cases-topics.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            return
        for gone in admin.delete_topics(list(FOREIGN)).values():
            gone.exception()  # Where an earlier run has left none, there is nothing to delete.
        for topic in FOREIGN:
            until(f"topic {topic}", partial(_made, admin, topic))
        made.touch()


def _made(admin: AdminClient, topic: str) -> bool:
    """Whether it was made empty; not while the old one is still going."""
    (made,) = admin.create_topics([NewTopic(topic, 1, 1)]).values()
    return made.exception() is None
