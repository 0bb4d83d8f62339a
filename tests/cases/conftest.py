"""One server for all cases that don't stop it; a fresh one for those that do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cases.on_kafka import TARGETS, FleetServer
from tests.cases.server import Server
from tests.kafka.broker import kafka

__all__ = ["kafka"]


SCHEMAS = str(Path(__file__).parents[2] / "schemas" / "events")


@pytest.fixture(scope="session", params=["embedded", "kafka"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same cases on one machine, and on a fleet: a worker, an api and a history of a group on a real broker."""
    folder = tmp_path_factory.mktemp("cases")
    running: Server
    if request.param == "kafka":
        running = FleetServer(request.getfixturevalue("kafka"), folder, flags=("--schemas", SCHEMAS)).start()
    else:
        running = Server(folder / "data", *TARGETS, flags=("--lanes", "2", "--schemas", SCHEMAS)).start()
    yield running
    assert running.stop() == 0, running.output.read_text()[-4000:]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers on this test's own data directory; they are closed in the end."""
    made: list[Server] = []

    def make(*targets: str, flags: tuple[str, ...] = ()) -> Server:
        made.append(Server(tmp_path / "data", *targets, flags=flags))
        return made[-1].start()

    yield make
    for one in made:
        one.close()
