"""New code under load: workers, api and history are replaced as Kubernetes does it, and no request is lost.

Clients that never try twice ask all the time (`load.py`), through the api's Service, which leads connections to a pod
for two more seconds after it was told to end. Every acknowledged event starts its run once, and each run ends once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream.model.facts import RunStarted
from tests.deploy.chart.rendering import resources
from tests.deploy.load import Load
from tests.deploy.pods.cluster import Cluster
from tests.kafka.broker import Broker, fresh
from tests.kafka.fleet import journals, promises_kept

KEY = "the-key"
LANES = 6
ANSWERS = 15
APP = """
import asyncio
from millstream import App, Context

VERSION = {version}
app = App("shop")


@app.function(on="order/placed")
async def fulfil(ctx: Context) -> dict:
    charged = await ctx.step.run("charge", work, ctx.event.data["n"])
    return await ctx.step.run("ship", lambda: {{"n": charged, "version": VERSION}})


@app.function(on="order/napped")
async def nap(ctx: Context) -> None:
    await ctx.step.sleep("nap", "3s")


async def work(n: int) -> int:
    await asyncio.sleep(0.1)
    return n
"""


def values(group: str, bootstrap: str, **changes: Any) -> dict[str, Any]:
    """Three workers, two apis and two histories on a broker that keeps one copy."""
    return {
        "image": {"repository": "registry.example/shop", "tag": "v1"},
        "apps": ["shop:app"],
        "eventKeys": {"existingSecret": "shop-keys"},
        "settings": {
            "group": group,
            "lanes": LANES,
            "events_topic": f"{group}-events",
            "replication_factor": 1,
            "min_insync": 1,
        },
        "kafka": {"brokers": bootstrap},
        "worker": {"replicas": 3},
        "api": {"replicas": 2},
        "history": {"replicas": 2},
    } | changes


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """Two versions of the code."""
    found = {}
    for version in (1, 2):
        folder = tmp_path / f"v{version}"
        folder.mkdir()
        (folder / "shop.py").write_text(APP.format(version=version))
        found[f"registry.example/shop:v{version}"] = folder
    return found


@pytest.fixture
def cluster(tmp_path: Path, images: dict[str, Path]) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster", images=images) as made:
        made.create_secret("shop-keys", {"event-keys": KEY})
        yield made


def test_new_code_is_rolled_out_and_no_request_is_lost(kafka: Broker, cluster: Cluster) -> None:
    group = fresh("rolled")
    first = values(group, kafka.bootstrap)
    cluster.install(resources(first, "shop"))
    before = {pod.name: pod.popen for pod in cluster.pods()}
    with Load(cluster.services["shop-millstream-api"].url(), KEY, "shop-fulfil") as load:
        load.until_each(ANSWERS)
        assert {result["version"] for result in load.results.values()} == {1}
        # All at once, each workload by its own controller: three workers in turn, two apis, two histories.
        cluster.upgrade(resources(first | {"image": first["image"] | {"tag": "v2"}}, "shop"))
        assert all(pod.popen is not before.get(pod.name) for pod in cluster.pods())
        load.until_each(ANSWERS)
        done = set(load.results)
        load.until_each(ANSWERS)
        assert {load.results[run]["version"] for run in load.results.keys() - done} == {2}
    load.check()
    cluster.check()
    facts = promises_kept(lambda: facts_of(kafka, group))
    started = {event for fact in facts if isinstance(fact, RunStarted) for event in fact.events}
    assert load.sent.keys() <= started, "an acknowledged event started nothing"
    cluster.uninstall()
    cluster.check()


def facts_of(kafka: Broker, group: str) -> list[Any]:
    """Every fact of the group's journals."""
    return [fact for record in asyncio.run(journals(kafka.bootstrap, group, LANES)) for fact in record.facts]
