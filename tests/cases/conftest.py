"""One server for all cases that don't stop it; a fresh one for those that do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cases.server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cases")
    schemas = str(Path(__file__).parents[2] / "schemas" / "events")
    running = Server(folder / "data", flags=("--lanes", "2", "--schemas", schemas)).start()
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
