"""The server of a stage as `millstream server` on a real broker, with a history beside it; signed, as in production."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.kafka.broker import Broker
from tests.kafka.fleet import Fleet
from tests.sdk.rig.keys import EVENT_KEY, KEY, bearer, variables
from tests.sdk.rig.stage import FAST_RETRIES, Server, Stage, ended_with

FLAGS = ("--signing-key", KEY, "--event-key", EVENT_KEY, "--endpoint-network", "127.0.0.0/8", *FAST_RETRIES)


class KafkaServer(Server):
    """Spoken to as any server; ``kill`` and ``start`` are of `millstream server`, the history stays."""

    def __init__(self, kafka: Broker, folder: Path) -> None:
        super().__init__(folder / "data", bearer=bearer(KEY))
        self.fleet = Fleet(kafka, folder, lanes=2)
        self.history = self.fleet.history("history", "--event-key", EVENT_KEY)

    def start(self, *, cwd: Path = Path(), port: int = 0) -> Server:
        """As ``Server``."""
        started = self.fleet.server("server", "--history-url", self.history.url, *FLAGS, port=port)
        self.process, self.output, self.port = started.popen, started.output, started.port
        return self

    def close(self) -> None:
        """End all processes."""
        self.fleet.close()


@contextlib.contextmanager
def staged_on_kafka(kafka: Broker, folder: Path) -> Iterator[Stage]:
    """As ``staged``."""
    with ended_with(Stage(folder, KafkaServer(kafka, folder))) as stage:
        stage.server.start()
        stage.variables = variables(stage.server.url)
        yield stage
