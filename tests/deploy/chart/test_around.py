"""What surrounds the pods: the Ingress, the network, autoscaling, monitoring."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart.rendering import (
    CHART,
    EVERYTHING,
    FENCED,
    GROUP,
    SINGLE_EVERYTHING,
    WATCHED,
    Values,
    container,
    helm,
    of_kind,
    over,
    pods,
    resources,
    workload,
    yaml,
)
from tests.docs.blocks import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
CONFIG_MAP_BYTES_MAX = 1 << 20
COMPONENT = "app.kubernetes.io/component"


def test_an_ingress_lets_in_what_is_safe_for_everybody() -> None:
    (open_to_all,) = of_kind(
        over(GROUP, {"ingress": {"enabled": True, "host": "hooks.example.com"}}), "Ingress"
    ).values()
    (rule,) = open_to_all["spec"]["rules"]
    assert rule["host"] == "hooks.example.com"
    assert [path["path"] for path in rule["http"]["paths"]] == ["/e/", "/v1/callbacks/"]
    assert "tls" not in open_to_all["spec"]


@pytest.mark.parametrize(
    ("values", "door"), [(EVERYTHING, "shop-engine-api"), (SINGLE_EVERYTHING, "shop-engine")], ids=["group", "single"]
)
def test_an_ingress_leads_to_the_port_that_takes_events(values: Values, door: str) -> None:
    (found,) = of_kind(values, "Ingress").values()
    (path,) = found["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": door, "port": {"name": "http"}}
    (port,) = of_kind(values, "Service")[door]["spec"]["ports"]
    assert port["name"] == "http"
    assert found["spec"]["tls"] == [{"secretName": "hooks-tls", "hosts": ["hooks.example.com"]}]


# --- the network
def policies(values: Values) -> dict[str, Any]:
    """The policies' specs by the role that they are for."""
    found = of_kind(values, "NetworkPolicy").values()
    return {policy["spec"]["podSelector"]["matchLabels"][COMPONENT]: policy["spec"] for policy in found}


def ports_out(policy: Any) -> set[int]:
    """The ports that a policy lets out to."""
    return {port["port"] for rule in policy["egress"] for port in rule.get("ports", [])}


def test_there_are_network_policies_only_where_they_are_asked_for() -> None:
    assert policies(GROUP) == {}
    assert set(policies(FENCED)) == {"worker", "api", "history", "topics"}
    assert set(policies(SINGLE_EVERYTHING)) == {"server"}


def test_every_pod_may_ask_for_names_and_what_its_work_needs() -> None:
    found = policies(FENCED)
    kafka, names, registry = {9092}, {53, 5353}, {8081}
    assert ports_out(found["worker"]) == kafka | names | registry | {8288}
    assert ports_out(found["api"]) == kafka | names | registry | {8290}
    assert ports_out(found["history"]) == ports_out(found["topics"]) == kafka | names
    assert ports_out(policies(SINGLE_EVERYTHING)["server"]) == names | registry | {443}


def test_brokers_may_be_at_other_ports_and_in_one_place() -> None:
    for role, policy in policies(EVERYTHING).items():
        (rule,) = [rule for rule in policy["egress"] if {"port": 9094} in rule["ports"]]
        assert {port["port"] for port in rule["ports"]} == {9092, 9094}, role
        assert rule["to"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]


def test_a_port_that_is_said_twice_is_let_out_to_once() -> None:
    (rule,) = [
        rule
        for rule in policies(over(FENCED, {"networkPolicy": {"kafkaPorts": [9092]}}))["api"]["egress"]
        if {"port": 9092} in rule["ports"]
    ]
    assert rule["ports"] == [{"port": 9092}]


def test_a_registry_without_a_port_is_at_the_port_of_its_scheme() -> None:
    for url, port in (("https://registry.example.com", 443), ("http://registry.example.com/x", 80)):
        assert port in ports_out(policies(over(FENCED, {"registry": {"url": url}}))["api"])


def test_functions_may_call_everything_until_it_is_said_what_they_call() -> None:
    assert {} in policies(FENCED)["worker"]["egress"]
    said = policies(EVERYTHING)["worker"]["egress"]
    assert {} not in said
    assert {"ports": [{"port": 443}]} in said
    assert {} not in policies(FENCED)["api"]["egress"]


def test_only_who_is_named_comes_in() -> None:
    everyone: list[Any] = [{"podSelector": {}}]
    here, named = policies(FENCED), policies(EVERYTHING)
    assert here["worker"]["ingress"] == [{"from": everyone, "ports": [{"port": 9464}]}]
    workers = {"podSelector": {"matchLabels": workload(FENCED, "worker")["spec"]["selector"]["matchLabels"]}}
    assert here["api"]["ingress"] == [{"from": [*everyone, workers], "ports": [{"port": 8288}]}]
    policy = EVERYTHING["networkPolicy"]
    assert named["worker"]["ingress"][0]["from"] == policy["metricsFrom"]
    assert named["api"]["ingress"][0]["from"][:-1] == [*policy["from"], *policy["metricsFrom"]]
    assert "ingress" not in named["topics"], "and so nobody does"


@pytest.mark.parametrize(("caller", "called"), [("api", "history"), ("worker", "api")])
def test_processes_of_the_group_reach_each_other_whoever_else_may(caller: str, called: str) -> None:
    found = policies(EVERYTHING)
    (rule,) = found[called]["ingress"]
    selector = workload(EVERYTHING, caller)["spec"]["selector"]
    assert rule["from"][-1] == {"podSelector": selector}
    to = {"podSelector": workload(EVERYTHING, called)["spec"]["selector"]}
    assert {"ports": rule["ports"], "to": [to]} in found[caller]["egress"]


def test_the_policy_of_the_topics_job_is_there_before_the_job() -> None:
    found = of_kind(FENCED, "NetworkPolicy")["millstream-topics"]["metadata"]["annotations"]
    job = workload(FENCED, "topics")["metadata"]["annotations"]
    assert found["helm.sh/hook"] == job["helm.sh/hook"]
    assert int(found["helm.sh/hook-weight"]) < int(job.get("helm.sh/hook-weight", "0"))


# --- autoscaling
def test_an_autoscaler_decides_alone_how_many_apis_there_are() -> None:
    (scaler,) = of_kind(WATCHED, "HorizontalPodAutoscaler").values()
    assert scaler["spec"]["scaleTargetRef"]["name"] == workload(WATCHED, "api")["metadata"]["name"]
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 6)
    assert "replicas" not in workload(WATCHED, "api")["spec"]
    assert "cpu" in container(WATCHED, "api")["resources"]["requests"], "a share of what is requested needs a request"


def test_keda_scales_workers_by_the_group_s_lag_up_to_its_lanes() -> None:
    (scaled,) = of_kind(EVERYTHING, "ScaledObject").values()
    spec = scaled["spec"]
    assert spec["scaleTargetRef"]["name"] == workload(EVERYTHING, "worker")["metadata"]["name"]
    assert spec["maxReplicaCount"] == EVERYTHING["settings"]["lanes"]
    assert spec["triggers"] == [
        {
            "type": "kafka",
            "metadata": {
                "bootstrapServers": EVERYTHING["kafka"]["brokers"],
                "consumerGroup": "shop",
                "topic": "shop-events",
                "lagThreshold": "2000000",
            },
            "authenticationRef": {"name": "kafka-lag"},
        }
    ]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == {"scaleDown": {"stabilizationWindowSeconds": 900}}
    assert "replicas" not in workload(EVERYTHING, "worker")["spec"]
    (plain,) = of_kind(WATCHED, "ScaledObject").values()
    assert plain["spec"]["triggers"][0]["metadata"]["topic"] == "events"


# --- monitoring
def test_nothing_of_an_operator_is_made_unasked() -> None:
    assert not [
        found for found in resources(GROUP) if "." in found["apiVersion"] and "k8s.io" not in found["apiVersion"]
    ]


@pytest.mark.parametrize("values", [WATCHED, SINGLE_EVERYTHING], ids=["group", "single"])
def test_the_operator_scrapes_every_pod_once_under_the_name_that_alerts_ask_for(values: Values) -> None:
    (monitor,) = of_kind(values, "PodMonitor").values()
    scraped = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    for spec in pods(values):
        for each in spec["containers"]:
            assert len(scraped & {port["name"] for port in each.get("ports", [])}) == len(each.get("ports", []))
    for found in of_kind(values, "Deployment", "StatefulSet").values():
        labels = found["spec"]["template"]["metadata"]["labels"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    asked = re.findall(r'\bjob=~?"([^"]+)"', (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        ((relabeling),) = endpoint["relabelings"]
        assert relabeling["targetLabel"] == "job"
        assert all(re.fullmatch(job, relabeling["replacement"]) for job in asked)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_the_alert_rules_are_those_that_are_tested() -> None:
    (rule,) = of_kind(WATCHED, "PrometheusRule").values()
    assert rule["spec"] == yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))
    assert "{{ $labels.lane }}" in json.dumps(rule["spec"])
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_every_dashboard_is_a_config_map_that_grafana_finds(tmp_path: Path) -> None:
    folder = shutil.copytree(CHART, tmp_path / "millstream")  # Links become files, as in a package.
    dashboards = folder / "files" / "prometheus" / "dashboards"
    dashboards.mkdir(exist_ok=True)
    (dashboards / "one_more.json").write_text('{"legendFormat": "{{instance}} – \\"p99\\""}\n', encoding="utf-8")
    with helm.Chart.load(folder) as chart:
        texts = chart.render(WATCHED, name="millstream", namespace="shop")
    text = texts["millstream/templates/dashboards.yaml"]
    found = {config["metadata"]["name"]: config for config in yaml.safe_load_all(text) if config}
    assert found["millstream-one-more"]["metadata"]["annotations"] == {"folder": "millstream"}
    files = sorted(dashboards.glob("*.json"))
    assert {name: text for config in found.values() for name, text in config["data"].items()} == {
        file.name: file.read_text(encoding="utf-8") for file in files
    }
    assert len(found) == len(files)
    for config in found.values():
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert sum(map(len, config["data"].values())) < CONFIG_MAP_BYTES_MAX
