"""What the chart makes is what Kubernetes and the operators know: every field, in every combination of values.

Kubernetes' side is its published schemas in their strict form (an unknown field is an error); the operators' side is
``crds.schema.json``, theirs in the same form.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from millstream import __version__
from tests.deploy.chart.rendering import (
    CHART,
    COMBINATIONS,
    EVERY,
    GROUP,
    WATCHED,
    Resource,
    Values,
    helm,
    of_kind,
    resources,
)
from tests.docs.blocks import ROOT

kubernetes = pytest.importorskip("kubernetes_validate", reason="pip install '.[chart]'")
jsonschema = pytest.importorskip("jsonschema", reason="pip install '.[chart]'")

VERSIONS = ("1.27", "1.31", ".".join(kubernetes.latest_version().split(".")[:2]))
"""The oldest that Chart.yaml allows, one between, and the newest that there is a schema of."""
PROMETHEUS = ROOT / "deploy" / "prometheus"
CRDS = json.loads((Path(__file__).parent / "crds.schema.json").read_text(encoding="utf-8"))


def check_operators(resource: Resource) -> None:
    """Raises jsonschema.ValidationError."""
    definition = {"$ref": f"#/definitions/{resource['kind']}", "definitions": CRDS["definitions"]}
    jsonschema.Draft7Validator(definition).validate(resource)


@pytest.mark.parametrize("version", VERSIONS)
@EVERY
def test_kubernetes_and_operators_know_every_field(values: Values, version: str) -> None:
    found = resources(values)
    assert found
    for resource in found:
        if resource["kind"] in CRDS["definitions"]:
            check_operators(resource)
        else:
            kubernetes.validate(resource, version, strict=True)


@pytest.mark.parametrize("kind", ["Service", "StatefulSet", "Deployment", "Job"])
def test_the_strict_schemas_of_kubernetes_refuse_a_field_that_does_not_exist(kind: str) -> None:
    for resource in of_kind(GROUP, kind).values():
        resource["spec"]["prots"] = []
        with pytest.raises(kubernetes.ValidationError):
            kubernetes.validate(resource, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("kind", ["PodMonitor", "PrometheusRule", "ScaledObject"])
def test_the_strict_schemas_of_operators_refuse_a_field_that_does_not_exist(kind: str) -> None:
    (resource,) = of_kind(WATCHED, kind).values()
    check_operators(resource)
    resource["spec"]["prots"] = []
    with pytest.raises(jsonschema.ValidationError):
        check_operators(resource)


def test_all_kinds_that_the_chart_can_make_are_among_the_combinations() -> None:
    made = {resource["kind"] for values in COMBINATIONS.values() for resource in resources(values)}
    assert made == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "Job", "NetworkPolicy", "PodDisruptionBudget",
        "PodMonitor", "PrometheusRule", "ScaledObject", "Service", "StatefulSet",
    }  # fmt: skip


@EVERY
def test_no_two_resources_have_one_name(values: Values) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in resources(values)]
    assert len(names) == len(set(names))


@EVERY
def test_helm_finds_nothing_to_complain_about(values: Values) -> None:
    report = helm.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_a_package_of_the_chart_renders_what_its_folder_renders(tmp_path: Path) -> None:
    archive = helm.package(CHART, destination=tmp_path)
    with helm.Chart.load(archive) as packed, helm.Chart.load(CHART) as folder:
        assert packed.metadata["appVersion"] == __version__
        for values in COMBINATIONS.values():
            assert packed.render(values) == folder.render(values)
    with tarfile.open(archive) as files:
        members = files.getmembers()
    assert all(member.isfile() for member in members), "links of the folder must be files in a package"
    carried = {member.name.removeprefix("millstream/files/") for member in members if "/files/" in member.name}
    dashboards = {f"prometheus/dashboards/{file.name}" for file in (PROMETHEUS / "dashboards").glob("*.json")}
    assert carried == {"values.yaml", "prometheus/alerts.yml"} | dashboards, "leave the others out in .helmignore"
