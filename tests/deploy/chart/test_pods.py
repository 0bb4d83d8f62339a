"""Every pod keeps to the "restricted" policy, fits the image, and reads and writes only where it must."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from millstream.cli.support.one_server import GRACE_S
from tests.deploy.chart.rendering import (
    EVERY,
    EVERYTHING,
    FILES,
    FROM_CONFIG_MAP,
    FROM_FILES,
    GROUP,
    LOGIN,
    MUTUAL_TLS,
    NO_EXTRAS,
    SINGLE,
    SINGLE_EVERYTHING,
    Values,
    container,
    of_kind,
    over,
    pod,
    pods,
    variables,
    workload,
)
from tests.docs.blocks import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
VOLUMES_ALLOWED = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
RUNNING = [(GROUP, "worker"), (GROUP, "api"), (GROUP, "history"), (SINGLE, "server")]


def containers(spec: Any) -> Iterator[Any]:
    """Of all kinds that a pod may have."""
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        yield from spec.get(kind, [])


def against_restricted(spec: Any) -> Iterator[str]:
    """What the "restricted" Pod Security Standard does not allow (its rules of Kubernetes 1.37, for Linux)."""
    of_pod = spec.get("securityContext", {})
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    yield from ("sysctls" for _ in of_pod.get("sysctls", []))
    yield from (
        f"volume {volume['name']}"
        for volume in spec.get("volumes", [])
        if not set(volume) - {"name"} <= VOLUMES_ALLOWED
    )
    for each in containers(spec):
        own = each.get("securityContext", {})
        both = {**of_pod, **own}
        if own.get("privileged") or own.get("procMount", "Default") != "Default":
            yield "privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield "allowPrivilegeEscalation"
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            yield "runAsNonRoot"
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield "seccompProfile"
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            yield "capabilities.drop"
        if set(own["capabilities"].get("add", [])) - {"NET_BIND_SERVICE"}:
            yield "capabilities.add"
        yield from (f"hostPort {port}" for port in each.get("ports", []) if port.get("hostPort"))
        yield from (f"{probe} with a host" for probe in ("livenessProbe", "readinessProbe", "startupProbe")
                    if each.get(probe, {}).get("httpGet", {}).get("host"))  # fmt: skip


@EVERY
def test_every_pod_keeps_to_the_restricted_policy(values: Values) -> None:
    found = list(pods(values))
    assert found
    for spec in found:
        assert list(against_restricted(spec)) == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"securityContext": {"runAsNonRoot": False}}, "runAsNonRoot"),
        ({"securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "Unconfined"}}}, "seccompProfile"),
        ({"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}, "volume node"),
    ],
)
def test_the_check_of_that_policy_finds_what_breaks_it(broken: Values, said: str) -> None:
    assert said in list(against_restricted(pod(GROUP, "worker") | broken))


@EVERY
def test_every_pod_has_a_file_system_that_it_cannot_write_to_and_no_token(values: Values) -> None:
    for spec in pods(values):
        assert spec["automountServiceAccountToken"] is False
        # Kubernetes would set MILLSTREAM_PORT=tcp://10.0.0.1:8288, and the process would not start.
        assert spec["enableServiceLinks"] is False
        for each in containers(spec):
            assert each["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize(("values", "role"), [*RUNNING, (GROUP, "topics")])
def test_a_pod_writes_to_its_data_and_tmp_only(values: Values, role: str) -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container(values, role)["volumeMounts"]}
    has_data = role in ("worker", "history", "server")
    assert mounts == {"tmp": "/tmp"} | ({"data": "/data"} if has_data else {})
    assert bool(workload(values, role)["spec"].get("volumeClaimTemplates")) is has_data


@EVERY
def test_what_is_mounted_is_a_volume_or_a_claim(values: Values) -> None:
    for role in ("worker", "api", "history", "topics", "server"):
        if role not in {found["metadata"]["labels"].get("app.kubernetes.io/component") for found in all_of(values)}:
            continue
        volumes = {volume["name"] for volume in pod(values, role)["volumes"]}
        claims = {claim["metadata"]["name"] for claim in workload(values, role)["spec"].get("volumeClaimTemplates", [])}
        assert {mount["name"] for mount in container(values, role)["volumeMounts"]} == volumes | claims
        assert not volumes & claims


def all_of(values: Values) -> list[Any]:
    return list(of_kind(values, "Deployment", "StatefulSet", "Job").values())


@pytest.mark.parametrize("role", ["worker", "api", "history", "topics"])
@pytest.mark.parametrize("values", [MUTUAL_TLS, LOGIN, EVERYTHING], ids=["mutual TLS", "SASL", "both"])
def test_secrets_are_files_that_only_the_process_reads_where_its_variables_say(values: Values, role: str) -> None:
    given = {text for name, text in variables(values, role).items() if name.endswith(("_FILE", "_CA"))}
    mounts = {mount["name"]: mount for mount in container(values, role)["volumeMounts"]}
    files = set()
    for volume in pod(values, role)["volumes"]:
        if "projected" in volume:
            assert volume["projected"]["defaultMode"] == 0o440
            assert mounts[volume["name"]]["readOnly"] is True
            paths = [item["path"] for source in volume["projected"]["sources"] for item in source["secret"]["items"]]
            assert len(paths) == len(set(paths))
            files |= {f"{mounts[volume['name']]['mountPath']}/{path}" for path in paths}
    assert files == given
    assert files


def test_each_secret_gives_the_entry_that_the_values_name() -> None:
    (kafka,) = [volume for volume in pod(EVERYTHING, "api")["volumes"] if volume["name"] == "kafka"]
    sources = {source["secret"]["name"]: source["secret"]["items"] for source in kafka["projected"]["sources"]}
    assert sources == {
        "kafka-ca": [{"key": "ca.pem", "path": "ca.crt"}],
        "shop-tls": [{"key": "c.pem", "path": "tls.crt"}, {"key": "k.pem", "path": "tls.key"}],
        "api-kafka": [{"key": "secret", "path": "password"}],
    }


@EVERY
def test_no_secret_is_made_or_written_into_a_manifest(values: Values) -> None:
    assert of_kind(values, "Secret") == {}
    for spec in pods(values):
        for each in containers(spec):
            plain = {variable["name"] for variable in each.get("env", []) if "value" in variable}
            assert not plain & {"MILLSTREAM_EVENT_KEYS", "MILLSTREAM_EVENT_KEY", "MILLSTREAM_SASL_PASSWORD"}


@pytest.mark.parametrize(("values", "role"), [*RUNNING, (GROUP, "topics")])
def test_the_pod_fits_the_image(values: Values, role: str) -> None:
    context, user = pod(values, role)["securityContext"], int(re.findall(r"^USER (\d+)$", DOCKERFILE, re.M)[0])
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (user, user, user)
    assert "VOLUME /data\n" in DOCKERFILE
    assert "WORKDIR /app\n" in DOCKERFILE
    assert 'ENTRYPOINT ["millstream"]' in DOCKERFILE


def test_the_cluster_may_choose_the_user() -> None:
    for spec in pods(NO_EXTRAS):
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(spec["securityContext"])
        assert spec["securityContext"]["runAsNonRoot"] is True


def test_an_image_has_a_tag_a_digest_or_both() -> None:
    digest = NO_EXTRAS["image"]["digest"]
    assert container(GROUP, "api")["image"] == "registry.example/shop:v1"
    assert container(NO_EXTRAS, "api")["image"] == f"registry.example/shop@{digest}"
    both = over(GROUP, {"image": {"digest": digest}})
    assert container(both, "api")["image"] == f"registry.example/shop:v1@{digest}"


@pytest.mark.parametrize(("values", "role"), RUNNING)
def test_probes_ask_the_port_of_the_process(values: Values, role: str) -> None:
    found = container(values, role)
    (port,) = found["ports"]
    flag = "--probes-port" if role == "worker" else "--port"
    assert f"{flag}={port['containerPort']}" in found["args"]
    asked = {name: found[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {name: get["path"] for name, get in asked.items()} == {
        "startupProbe": "/livez",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }
    assert {get["port"] for get in asked.values()} == {port["name"]}


@pytest.mark.parametrize(
    ("values", "role"),
    [(EVERYTHING, "worker"), (EVERYTHING, "api"), (EVERYTHING, "history"), (SINGLE_EVERYTHING, "server")],
)
def test_a_start_may_take_as_long_as_the_values_say(values: Values, role: str) -> None:
    probe = container(values, role)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == values[role]["startupSeconds"]


def test_an_orderly_stop_fits_into_the_time_to_terminate() -> None:
    assert pod(SINGLE, "server")["terminationGracePeriodSeconds"] > 2 * GRACE_S
    assert pod(GROUP, "worker")["terminationGracePeriodSeconds"] == 30 + 15
    assert pod(EVERYTHING, "worker")["terminationGracePeriodSeconds"] == 120 + 15
    assert variables(EVERYTHING, "worker")["MILLSTREAM_GRACE"] == "120s"
    for role, drain_s in (("api", 10), ("history", 0)):
        assert pod(EVERYTHING, role)["terminationGracePeriodSeconds"] == drain_s + 20


def test_an_api_takes_requests_until_its_address_is_out_of_the_service() -> None:
    assert variables(EVERYTHING, "api")["MILLSTREAM_SHUTDOWN_DELAY"] == "10s"
    assert variables(EVERYTHING, "history")["MILLSTREAM_SHUTDOWN_DELAY"] == "0s"
    assert "MILLSTREAM_SHUTDOWN_DELAY" not in variables(GROUP, "worker"), "no Service sends requests to a worker"


@pytest.mark.parametrize("role", ["worker", "api", "history"])
def test_functions_of_the_values_are_modules_below_app(role: str) -> None:
    (config,) = of_kind(FROM_FILES, "ConfigMap").values()
    (volume,) = [volume for volume in pod(FROM_FILES, role)["volumes"] if volume["name"] == "functions"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    files = {item["path"]: config["data"][item["key"]] for item in volume["configMap"]["items"]}
    assert files == FILES
    assert container(FROM_FILES, role)["workingDir"] == "/app"
    assert {"name": "functions", "mountPath": "/app", "readOnly": True} in container(FROM_FILES, role)["volumeMounts"]


def test_functions_of_a_config_map_are_mounted_as_they_are() -> None:
    (volume,) = [volume for volume in pod(FROM_CONFIG_MAP, "server")["volumes"] if volume["name"] == "functions"]
    assert volume["configMap"] == {"name": "shop-functions"}
    assert of_kind(FROM_CONFIG_MAP, "ConfigMap") == {}
    assert container(FROM_CONFIG_MAP, "server")["workingDir"] == "/app"
    assert "workingDir" not in container(SINGLE, "server"), "the image's own"


def test_a_change_of_the_functions_begins_pods_anew() -> None:
    changed = over(FROM_FILES, {"functions": {"files": {"shop.py": "import millstream\n"}}})
    for role in ("worker", "api", "history"):
        before, after = (workload(values, role)["spec"]["template"]["metadata"] for values in (FROM_FILES, changed))
        assert before["annotations"]["checksum/functions"] != after["annotations"]["checksum/functions"]


@pytest.mark.parametrize(
    ("values", "role"),
    [(EVERYTHING, "worker"), (EVERYTHING, "api"), (EVERYTHING, "history"), (EVERYTHING, "topics"),
     (SINGLE_EVERYTHING, "server")],
)  # fmt: skip
def test_what_a_role_is_given_for_its_pod_is_in_its_pod(values: Values, role: str) -> None:
    given, spec = values[role], pod(values, role)
    names = ("nodeSelector", "tolerations", "affinity", "priorityClassName", "serviceAccountName")
    assert {name: spec[name] for name in names} == {name: given[name] for name in names}
    metadata = workload(values, role)["spec"]["template"]["metadata"]
    assert given["podLabels"].items() <= metadata["labels"].items()
    assert given["podAnnotations"].items() <= metadata["annotations"].items()
    assert container(values, role)["resources"] == given["resources"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    if role != "topics":
        assert [each for each in container(values, role)["env"] if each in given["extraEnv"]] == given["extraEnv"]
        assert container(values, role)["envFrom"] == given["extraEnvFrom"]
        assert given["extraVolumes"][0] in spec["volumes"]
        assert given["extraVolumeMounts"][0] in container(values, role)["volumeMounts"]
