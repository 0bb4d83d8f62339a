"""Every Python block of the README and the docs runs, as it stands there."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from millstream.dev import DevServer, DevSettings
from millstream.log.group_topics import GroupShape, topics_of
from millstream.log.kafka.admin.client import Admin
from millstream.log.kafka.admin.topics import create
from millstream.log.kafka.settings import KafkaSettings
from tests.docs.blocks import PAGES, ROOT, Block, Running, blocks_of
from tests.kafka.broker import Broker

WITH_PYTHON = [page for page in PAGES if any(blocks_of(page))]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
async def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    with Running() as running:
        for block in blocks_of(page):
            async with AsyncExitStack() as stack:
                if block.kafka:
                    broker: Broker = request.getfixturevalue("kafka")
                    monkeypatch.setenv("MILLSTREAM_BROKERS", broker.bootstrap)
                    make_events_topic(broker)
                if block.server:
                    await serve(stack, block, running, monkeypatch)
                await running.run(block)


def make_events_topic(broker: Broker) -> None:
    """What `millstream topics apply` would have made."""
    admin = Admin(KafkaSettings(brokers=broker.bootstrap, replication_factor=1, min_insync=1))
    if not admin.topics(["events"]):
        shape = GroupShape(group="docs", lanes=2)
        create(admin, topics_of(shape)[0], shape)


async def serve(stack: AsyncExitStack, block: Block, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a server with the app that the page has made so far, until the stack is left."""
    app = vars(running.modules[block.server])["app"]
    server = DevServer([app], DevSettings(data=Path("data"), port=0))
    await server.start()
    stack.push_async_callback(server.stop, 5.0)
    assert server.served is not None
    monkeypatch.setenv("MILLSTREAM_URL", server.served.url)


def test_there_is_python_on_the_pages_that_teach() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in WITH_PYTHON}
    assert names >= {"README.md", "docs/tutorial.md", "docs/how-to/write-an-app.md", "docs/how-to/test-functions.md"}
