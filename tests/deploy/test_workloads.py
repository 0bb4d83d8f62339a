"""What the chart renders is what millstream is: each container's command, variables and volumes, started for real.

The pods are processes (`tests/deploy/pods`), Kafka is a real broker. How a secured group is deployed shows
test_workloads_secured.py, how a running one is updated test_rolling.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream.config import Settings
from tests.deploy.chart.rendering import resources
from tests.deploy.groups import IMAGE, KEY, ask, fulfilled, image_of, unknown_to_millstream, until, values
from tests.deploy.pods.cluster import Cluster
from tests.deploy.pods.pod import Probe, answer_of
from tests.kafka.broker import Broker, fresh

Installed = tuple[Cluster, dict[str, Any]]


@pytest.fixture(scope="module")
def group(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A group, as `helm install --wait` leaves it, and its values."""
    folder = tmp_path_factory.mktemp("group")
    given = values(fresh("deployed"), kafka.bootstrap, monitoring={"podMonitor": {"enabled": True}})
    with Cluster(folder / "cluster", images={IMAGE: image_of(folder / "image")}) as cluster:
        cluster.create_secret("shop-keys", {"event-keys": KEY})
        cluster.install(resources(given, "shop"))
        yield cluster, given
        cluster.uninstall()
        cluster.check()


def test_an_event_goes_in_at_the_api_a_worker_runs_it_and_its_result_comes_out_there(group: Installed) -> None:
    cluster, _ = group
    assert fulfilled(cluster.services["shop-millstream-api"].url(), 7) == {"n": 7, "by": "shop-millstream-worker-0"}


def test_each_command_takes_every_flag_and_variable_that_it_is_given(group: Installed) -> None:
    cluster, _ = group
    pods = [*cluster.pods(), *cluster.jobs]
    assert {pod.labels["app.kubernetes.io/component"] for pod in pods} == {"worker", "api", "history", "topics"}
    assert {pod.name: unknown for pod in pods if (unknown := list(unknown_to_millstream(pod.process)))} == {}


def test_probes_and_metrics_are_where_the_chart_says(group: Installed) -> None:
    cluster, given = group
    monitors = [one["spec"] for one in resources(given, "shop") if one["kind"] == "PodMonitor"]
    scraped = {}
    for pod in cluster.pods():
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = Probe.of(kind, pod.container, pod.ip)
            assert probe is not None and probe.succeeds(), f"{pod.name}: {kind}"
        for spec in monitors:
            if spec["selector"]["matchLabels"].items() <= pod.labels.items():
                for endpoint in spec["podMetricsEndpoints"]:
                    if any(endpoint["port"] == port["name"] for port in pod.container["ports"]):
                        scraped[pod.name] = answer_of(pod.url(endpoint["port"]) + endpoint.get("path", "/metrics"))
    assert scraped.keys() == {pod.name for pod in cluster.pods()}
    assert all(status == 200 and "millstream_build_info" in text for status, text in scraped.values())


def test_what_listens_beyond_its_machine_has_been_given_a_key(group: Installed) -> None:
    # Here a pod's address is one of this machine, for which none would be asked.
    cluster, _ = group
    for pod in cluster.pods():
        assert pod.process is not None
        if pod.labels["app.kubernetes.io/component"] != "worker":
            assert "--host=0.0.0.0" in pod.process.rendered
            assert Settings({}, pod.process.variables).texts("event_keys") == (KEY,)
    assert ask(cluster.services["shop-millstream-api"].url() + "/e/another", {"name": "a", "data": {}})[0] == 401


def test_a_second_installation_of_the_same_changes_nothing(group: Installed) -> None:
    cluster, given = group
    processes = {pod.name: pod.popen for pod in cluster.pods()}
    jobs = len(cluster.jobs)
    cluster.upgrade(resources(given, "shop"))
    assert {pod.name: pod.popen for pod in cluster.pods()} == processes
    assert len(cluster.jobs) == jobs + 1
    assert "every topic is as it must be" in cluster.jobs[-1].said()


def test_one_server_keeps_everything_on_its_volume(tmp_path: Path) -> None:
    given = {
        "mode": "single",
        "image": {"repository": "registry.example/shop", "tag": "v1"},
        "apps": ["shop:app"],
        "eventKeys": {"existingSecret": "shop-keys"},
        "settings": {"durability": "os"},
    }
    with Cluster(tmp_path / "cluster", images={IMAGE: image_of(tmp_path / "image")}) as cluster:
        cluster.create_secret("shop-keys", {"event-keys": KEY})
        cluster.install(resources(given, "shop"))
        (pod,) = cluster.pods()
        assert list(unknown_to_millstream(pod.process)) == []
        url = cluster.services["shop-millstream"].url()
        assert fulfilled(url, 1) == {"n": 1, "by": "shop-millstream-0"}
        cluster.upgrade(resources(given | {"server": {"podAnnotations": {"changed": "yes"}}}, "shop"))
        assert cluster.pods() != [pod]
        runs = until("the new pod is asked", lambda: _asked(f"{url}/api/runs"))["data"]
        assert [run["status"] for run in runs] == ["Completed"]
        cluster.uninstall()
        cluster.check()
        assert cluster.claims == {"data-shop-millstream-0"}, "the log outlives the release"


def _asked(url: str) -> Any:
    """What is answered; None where one is still led to a pod that has ended, as in a cluster for a moment."""
    try:
        status, body = ask(url)
    except OSError:
        return None
    return body if status == 200 else None
