"""What runs in a group and in a single server: how many, under which names, in which order they are replaced."""

from __future__ import annotations

import pytest

from tests.deploy.chart.rendering import (
    EVERY,
    EVERYTHING,
    GROUP,
    NO_EXTRAS,
    REMOTE,
    SINGLE,
    Values,
    container,
    of_kind,
    over,
    pod,
    rendered,
    resources,
    variables,
    workload,
)

COMPONENT = "app.kubernetes.io/component"


def kinds(values: Values) -> list[tuple[str, str]]:
    return sorted((found["kind"], found["metadata"]["name"]) for found in resources(values))


def test_a_group_is_workers_an_api_a_history_and_its_topics() -> None:
    assert kinds(GROUP) == [
        ("Deployment", "millstream-api"),
        ("Job", "millstream-topics"),
        ("PodDisruptionBudget", "millstream-api"),
        ("PodDisruptionBudget", "millstream-history"),
        ("PodDisruptionBudget", "millstream-worker"),
        ("Service", "millstream-api"),
        ("Service", "millstream-history"),
        ("Service", "millstream-worker"),
        ("StatefulSet", "millstream-history"),
        ("StatefulSet", "millstream-worker"),
    ]


def test_a_single_server_is_one_pod_and_its_service() -> None:
    assert kinds(SINGLE) == [("Service", "millstream"), ("StatefulSet", "millstream")]
    assert workload(SINGLE, "server")["spec"]["replicas"] == 1


def test_a_single_server_that_does_not_become_ready_is_replaced_by_the_next_upgrade() -> None:
    assert workload(SINGLE, "server")["spec"]["podManagementPolicy"] == "Parallel"


def test_what_is_not_wanted_is_not_made() -> None:
    assert kinds(NO_EXTRAS) == [
        ("Deployment", "millstream-api"),
        ("Service", "millstream-api"),
        ("Service", "millstream-worker"),
        ("StatefulSet", "millstream-worker"),
    ]


def test_workers_begin_at_once_and_are_replaced_one_by_one() -> None:
    spec = workload(GROUP, "worker")["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert spec["replicas"] == 2


def test_a_worker_has_its_pod_s_name_and_a_data_directory_below_its_volume() -> None:
    (name,) = [each for each in container(GROUP, "worker")["env"] if each["name"] == "MILLSTREAM_NAME"]
    assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert "--data=/data/millstream" in container(GROUP, "worker")["args"]


def test_the_service_of_workers_gives_them_names_and_no_requests() -> None:
    service = of_kind(GROUP, "Service")["millstream-worker"]["spec"]
    assert service["clusterIP"] == "None"
    assert workload(GROUP, "worker")["spec"]["serviceName"] == "millstream-worker"


@pytest.mark.parametrize("role", ["worker", "history"])
def test_volumes_of_a_group_are_caches_whose_end_is_a_choice(role: str) -> None:
    found = workload(GROUP, role)["spec"]
    assert found["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    chosen = workload(EVERYTHING, role)["spec"]
    assert chosen["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Delete"}
    claim = chosen["volumeClaimTemplates"][0]["spec"]
    assert claim == {
        "accessModes": ["ReadWriteOncePod"],
        "storageClassName": "local",
        "resources": {"requests": {"storage": "100Gi"}},
    }


def test_a_worker_without_a_volume_keeps_its_cache_on_the_node() -> None:
    spec = workload(NO_EXTRAS, "worker")["spec"]
    assert "volumeClaimTemplates" not in spec
    assert "persistentVolumeClaimRetentionPolicy" not in spec
    (data,) = [volume for volume in pod(NO_EXTRAS, "worker")["volumes"] if volume["name"] == "data"]
    assert data["emptyDir"] == {"sizeLimit": "10Gi"}


def test_the_volume_of_a_single_server_is_never_deleted_with_it() -> None:
    assert "persistentVolumeClaimRetentionPolicy" not in workload(SINGLE, "server")["spec"]


def test_topics_are_made_before_everything_else_and_need_nothing_of_the_release() -> None:
    job = workload(EVERYTHING, "topics")
    assert job["metadata"]["annotations"] == {
        "helm.sh/hook": "pre-install,pre-upgrade",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }
    assert container(EVERYTHING, "topics")["args"] == ["topics", "apply", "--yes"]
    made = {found["metadata"]["name"] for found in resources(EVERYTHING) if "annotations" not in found["metadata"]}
    for volume in pod(EVERYTHING, "topics")["volumes"]:
        assert set(volume) <= {"name", "emptyDir", "projected"}
        sources = volume.get("projected", {}).get("sources", [])
        assert not {source["secret"]["name"] for source in sources} & made


def test_an_api_is_replaced_without_a_gap() -> None:
    strategy = workload(GROUP, "api")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


@EVERY
def test_every_service_and_budget_selects_the_pods_of_one_workload(values: Values) -> None:
    labels = [found["spec"]["template"]["metadata"]["labels"] for found in of_kind(values, *WITH_PODS).values()]
    selectors = [found["spec"]["selector"] for found in of_kind(values, "Service").values()]
    selectors += [found["spec"]["selector"]["matchLabels"] for found in of_kind(values, *SELECTING).values()]
    assert selectors
    for selector in selectors:
        assert sum(selector.items() <= each.items() for each in labels) == 1


WITH_PODS = ("Deployment", "StatefulSet", "Job")
SELECTING = ("PodDisruptionBudget", "Deployment", "StatefulSet")


@EVERY
def test_selectors_and_claims_do_not_change_with_versions(values: Values) -> None:
    for found in of_kind(values, "Deployment", "StatefulSet").values():
        role = found["metadata"]["labels"][COMPONENT]
        stable = {
            "app.kubernetes.io/name": "millstream",
            "app.kubernetes.io/instance": "millstream",
            COMPONENT: role,
        }
        assert found["spec"]["selector"]["matchLabels"] == stable
        for claim in found["spec"].get("volumeClaimTemplates", []):
            assert claim["metadata"]["labels"] == stable


@EVERY
def test_ports_of_services_are_ports_of_the_pods_they_select(values: Values) -> None:
    for service in of_kind(values, "Service").values():
        role = service["spec"]["selector"][COMPONENT]
        (port,) = container(values, role)["ports"]
        assert [each["targetPort"] for each in service["spec"]["ports"]] == [port["name"]]


def test_pods_are_spread_over_zones_and_nodes() -> None:
    for role in ("worker", "api", "history"):
        selector = workload(GROUP, role)["spec"]["selector"]
        spread = {each["topologyKey"]: each for each in pod(GROUP, role)["topologySpreadConstraints"]}
        assert set(spread) == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        assert all(each["labelSelector"] == selector for each in spread.values())
        (only,) = pod(EVERYTHING, role)["topologySpreadConstraints"]
        assert (only["topologyKey"], only["whenUnsatisfiable"]) == ("topology.kubernetes.io/zone", "DoNotSchedule")


def test_a_drain_takes_one_pod_of_each_role_at_a_time() -> None:
    for budget in of_kind(GROUP, "PodDisruptionBudget").values():
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(
    ("release", "name"), [("millstream", "millstream"), ("shop", "shop-millstream"), ("s" * 53, "s" * 44)]
)
@pytest.mark.parametrize("values", [GROUP, SINGLE], ids=["group", "single"])
def test_names_leave_room_for_what_kubernetes_adds(values: Values, release: str, name: str) -> None:
    hash_chars = 11  # A StatefulSet puts one with a hyphen behind its name, into a label.
    for found in resources(values, release):
        own = found["metadata"]["name"]
        assert own == name or own.startswith(f"{name}-")
        assert len(own) + hash_chars <= 63


def test_notes_say_how_to_reach_it_and_what_is_left_open() -> None:
    group, single = rendered(GROUP)["NOTES.txt"], rendered(SINGLE)["NOTES.txt"]
    assert "The group shop on kafka-0:9092,kafka-1:9092 with shop:app." in group
    assert "port-forward service/millstream-api 8288:8288" in group
    assert "http://127.0.0.1:8288/ shows the last runs, as the history knows them" in group
    assert "http://millstream-api.shop.svc:8288/e/<key>" in group
    assert "WARNING: kafka.securityProtocol is plaintext" in group
    assert "One millstream server with shop:app." in single
    assert "port-forward service/millstream 8288:8288" in single
    assert "data-millstream-0" in single
    secured = rendered(EVERYTHING)["NOTES.txt"]
    assert "WARNING" not in secured
    assert "https://hooks.example.com at /e/" in secured
    assert "There is no history" in rendered(NO_EXTRAS)["NOTES.txt"]
    assert "The topics are yours to make" in rendered(NO_EXTRAS)["NOTES.txt"]


def test_more_manifests_go_with_the_release_as_they_are() -> None:
    assert of_kind(EVERYTHING, "ConfigMap")["more"]["data"] == {"a": "{{ b }}"}


def test_a_group_may_have_no_history() -> None:
    without = over(GROUP, {"history": {"replicas": 0}})
    assert not [name for _, name in kinds(without) if name.endswith("-history")]


def test_workers_without_functions_are_servers_for_apps_over_http() -> None:
    assert container(REMOTE, "worker")["args"] == [
        "server",
        "--host=0.0.0.0",
        "--probes-port=9464",
        "--data=/data/millstream",
    ]
    assert variables(REMOTE, "worker")["MILLSTREAM_ENDPOINT_NETWORKS"] == "10.0.0.0/8"
    assert "with apps over HTTP." in rendered(REMOTE)["NOTES.txt"]
