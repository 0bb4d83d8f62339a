"""The Helm chart, rendered by Helm's own library without a cluster, makes what Kubernetes and millstream accept.

Kubernetes' side is its published schemas in their strict form (an unknown field is an error), millstream's side the
table of settings, the Dockerfile and `millstream dev` itself. Add a value to the chart: a line in EVERYTHING.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from millstream import __version__
from millstream.cli.support.one_server import GRACE_S
from millstream.config import BY_NAME, BY_VARIABLE, SETTINGS, refuse_unknown
from tests.docs.blocks import ROOT

helm = pytest.importorskip("helm_python", reason="no wheel of Helm's library for this machine: pip install '.[chart]'")
kubernetes = pytest.importorskip("kubernetes_validate", reason="pip install '.[chart]'")
yaml = pytest.importorskip("yaml", reason="pip install '.[chart]'")

CHART = ROOT / "helm" / "millstream"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
KUBERNETES_VERSIONS = ("1.25", "1.33")
START_S_MAX = 60.0
STOP_S_MAX = 60.0

Values = dict[str, Any]

LEAST: Values = {
    "image": {"repository": "registry.example/shop", "tag": "v1"},
    "apps": ["shop:app"],
    "eventKeys": {"existingSecret": "shop-keys"},
}
EVERYTHING: Values = LEAST | {
    "imagePullSecrets": [{"name": "registry"}],
    "apps": ["shop:app", "examples.blog:app"],
    "eventKeys": {"existingSecret": "shop-keys", "key": "millstream"},
    "settings": {
        "lanes": 4,
        "group": "shop",
        "durability": "os",
        "events_per_s": 2_000_000,
        "history": "48h",
        "trim_lag": "5m",
        "schemas": "/app/schemas",
        "log_level": "debug",
    },
    "env": [{"name": "STRIPE", "valueFrom": {"secretKeyRef": {"name": "stripe", "key": "token"}}}],
    "envFrom": [{"configMapRef": {"name": "shop"}}],
    "persistence": {"size": "100Gi", "storageClass": "local", "accessMode": "ReadWriteOncePod"},
    "service": {"type": "NodePort", "port": 80},
    "resources": {"limits": {"cpu": "2", "memory": "4Gi"}},
    "startupSeconds": 60,
    "fullnameOverride": "shop-engine",
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "nodeSelector": {"disk": "local"},
    "tolerations": [{"key": "disk", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}


def rendered(values: Values, name: str = "millstream") -> dict[str, str]:
    """Texts by the template's file name."""
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values, name=name, namespace="shop")
    return {Path(path).name: text for path, text in texts.items()}


def resources(values: Values, name: str = "millstream") -> dict[str, Any]:
    """What Kubernetes gets, by kind."""
    texts = [text for path, text in rendered(values, name).items() if path.endswith(".yaml")]
    return {found["kind"]: found for text in texts for found in yaml.safe_load_all(text) if found}


def pod(values: Values) -> Any:
    """The pod's spec."""
    return resources(values)["StatefulSet"]["spec"]["template"]["spec"]


def container(values: Values) -> Any:
    """The pod's only container."""
    (only,) = pod(values)["containers"]
    return only


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("values", [LEAST, EVERYTHING], ids=["least", "everything"])
def test_kubernetes_knows_every_field(values: Values, version: str) -> None:
    found = resources(values)
    assert sorted(found) == ["Service", "StatefulSet"]
    for resource in found.values():
        kubernetes.validate(resource, version, strict=True)


def test_the_strict_schemas_do_refuse_a_field_that_does_not_exist() -> None:
    service = resources(LEAST)["Service"]
    service["spec"]["prots"] = []
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(service, KUBERNETES_VERSIONS[-1], strict=True)


def test_helm_finds_nothing_to_complain_about() -> None:
    report = helm.lint(CHART, EVERYTHING, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_every_value_is_in_the_schema_and_is_tried_here() -> None:
    with helm.Chart.load(CHART) as chart:
        defaults, schema = set(chart.values), set(chart.schema["properties"])
        settings = set(chart.schema["properties"]["settings"]["properties"])
    assert defaults == schema - {"global"}
    assert defaults == set(EVERYTHING) | {"insecureNoEventKey"}
    assert settings == set(EVERYTHING["settings"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "image.repository and image.tag are not both set"),
        (LEAST | {"image": {"repository": "shop", "tag": ""}}, "image.repository and image.tag are not both set"),
        (LEAST | {"apps": []}, "apps is empty: expected at least one module:app"),
        (LEAST | {"eventKeys": {}}, "whoever reaches the port may send events"),
        (LEAST | {"insecureNoEventKey": True}, "both set: expected one of them"),
    ],
)
def test_what_must_not_be_guessed_is_asked_for(values: Values, said: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=re.escape(said)):
        rendered(values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 2},
        {"apps": ["--smoke"]},
        {"apps": ["shop.py"]},
        {"settings": {"event_keys": "in-the-open"}},
        {"settings": {"lanes": 0}},
        {"settings": {"durability": "none"}},
        {"env": [{"name": "MILLSTREAM_HOST", "value": "::"}]},
        {"persistence": {"accessMode": "ReadWriteMany"}},
        {"startupSeconds": 1},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused(wrong: Values) -> None:
    with pytest.raises(helm.HelmValuesError):
        rendered(LEAST | wrong)


def test_event_keys_come_from_the_secret_and_only_from_there() -> None:
    (keys,) = container(LEAST)["env"]
    reference = {"name": "shop-keys", "key": "event-keys"}
    assert keys == {"name": BY_NAME["event_keys"].variable, "valueFrom": {"secretKeyRef": reference}}
    without = LEAST | {"eventKeys": {}, "insecureNoEventKey": True}
    assert "env" not in container(without)
    assert "--insecure-no-event-key" in container(without)["args"]
    assert "--insecure-no-event-key" not in container(LEAST)["args"]
    assert "WARNING: no event key" in rendered(without)["NOTES.txt"]
    assert "WARNING" not in rendered(LEAST)["NOTES.txt"]


def test_millstream_takes_every_variable_as_it_was_meant() -> None:
    given = {each["name"]: each.get("value", "") for each in container(EVERYTHING)["env"]}
    refuse_unknown(given)
    for name, value in EVERYTHING["settings"].items():
        setting = BY_NAME[name]
        assert setting.parse(given[setting.variable], name) == setting.parse(str(value), name)
    assert set(given) - set(BY_VARIABLE) == {"STRIPE"}


def test_the_chart_allows_the_choices_that_millstream_has() -> None:
    with helm.Chart.load(CHART) as chart:
        allowed = chart.schema["properties"]["settings"]["properties"]
    for setting in SETTINGS:
        if setting.name in allowed and setting.choices:
            assert tuple(allowed[setting.name]["enum"]) == setting.choices
        if setting.name in allowed and setting.kind == "number":
            assert (allowed[setting.name]["minimum"], allowed[setting.name]["maximum"]) == (
                setting.minimum,
                setting.maximum,
            )


def test_a_service_called_millstream_does_not_reach_the_environment() -> None:
    # Kubernetes would set MILLSTREAM_PORT=tcp://10.0.0.1:8288, and the server would not start.
    assert pod(LEAST)["enableServiceLinks"] is False


def test_there_is_one_pod_whose_only_writable_places_are_its_volumes() -> None:
    found = resources(LEAST)["StatefulSet"]["spec"]
    assert found["replicas"] == 1
    assert found["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert {mount["name"]: mount["mountPath"] for mount in container(LEAST)["volumeMounts"]} == {
        "data": "/data",
        "tmp": "/tmp",
    }
    assert container(LEAST)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(LEAST)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(LEAST)["automountServiceAccountToken"] is False


def test_the_pod_fits_the_image() -> None:
    context, user = pod(LEAST)["securityContext"], int(re.findall(r"^USER (\d+)$", DOCKERFILE, re.M)[0])
    assert context["runAsNonRoot"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (user, user, user)
    assert f"EXPOSE {container(LEAST)['ports'][0]['containerPort']}\n" in DOCKERFILE
    assert "VOLUME /data\n" in DOCKERFILE
    assert 'ENTRYPOINT ["millstream"]' in DOCKERFILE
    assert "command" not in container(LEAST)
    with helm.Chart.load(CHART) as chart:
        assert chart.metadata["appVersion"] == __version__


def test_an_orderly_stop_fits_into_the_time_to_terminate() -> None:
    assert pod(LEAST)["terminationGracePeriodSeconds"] > 2 * GRACE_S


def test_a_start_may_take_as_long_as_the_values_say() -> None:
    probe = container(EVERYTHING)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == EVERYTHING["startupSeconds"]


def test_selectors_and_claims_do_not_change_with_versions() -> None:
    found = resources(LEAST)["StatefulSet"]["spec"]
    stable = {"app.kubernetes.io/name": "millstream", "app.kubernetes.io/instance": "millstream"}
    assert found["selector"]["matchLabels"] == stable
    assert found["volumeClaimTemplates"][0]["metadata"]["labels"] == stable
    assert resources(LEAST)["Service"]["spec"]["selector"] == stable
    assert stable.items() <= found["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("release", "name"), [("millstream", "millstream"), ("shop", "shop-millstream"), ("s" * 53, "s" * 52)]
)
def test_names_leave_room_for_what_kubernetes_adds(release: str, name: str) -> None:
    found = resources(LEAST, release)
    assert {resource["metadata"]["name"] for resource in found.values()} == {name}
    assert found["StatefulSet"]["spec"]["serviceName"] == name


def test_millstream_serves_with_the_chart_s_arguments_and_environment(tmp_path: Path) -> None:
    values = EVERYTHING | {"apps": ["examples.contact_form:app"], "settings": {"durability": "os", "history": "48h"}}
    found = container(values)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # All but what belongs to the container: its addresses, its port and its file system.
    moved = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=8288": f"--port={port}"}
    moved["--data=/data/millstream"] = f"--data={tmp_path / 'data' / 'millstream'}"
    arguments = [moved.pop(argument, argument) for argument in found["args"]]
    assert not moved
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    environ |= {"PYTHONPATH": str(ROOT / "platform"), "EXAMPLES_DB": str(tmp_path / "examples.db")}
    environ |= {each["name"]: each.get("value", "of-the-secret") for each in found["env"]}
    server = subprocess.Popen([sys.executable, "-m", "millstream", *arguments], cwd=ROOT, env=environ)
    try:
        health = f"http://127.0.0.1:{port}{found['startupProbe']['httpGet']['path']}"
        ends_s = time.monotonic() + START_S_MAX
        while server.poll() is None and not _answers(health):
            assert time.monotonic() < ends_s, f"{health} did not answer within {START_S_MAX} s"
            time.sleep(0.1)
        assert server.returncode is None, "the server ended; its reason is above"
        server.send_signal(signal.SIGTERM)
        assert server.wait(STOP_S_MAX) == 0
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
