"""The chart as Helm's own library renders it, without a cluster: what each set of values makes.

COMBINATIONS names the sets that stand for how the chart is used. Add a value to the chart: give it in one of them
(``test_values.py`` counts).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import ROOT

helm = pytest.importorskip("helm_python", reason="no wheel of Helm's library for this machine: pip install '.[chart]'")
yaml = pytest.importorskip("yaml", reason="pip install '.[chart]'")

CHART = ROOT / "helm" / "millstream"
ROLES = ("worker", "api", "history", "topics", "server")
WORKLOADS = ("Deployment", "StatefulSet", "Job")

Values = dict[str, Any]
Resource = dict[str, Any]


def over(values: Values, more: Values) -> Values:
    """``values`` with ``more`` put over them, section by section; a list replaces a list."""
    result = deepcopy(values)
    for name, value in more.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = over(result[name], value) if both else deepcopy(value)
    return result


LEAST: Values = {
    "image": {"repository": "registry.example/shop", "tag": "v1"},
    "apps": ["shop:app"],
    "eventKeys": {"existingSecret": "shop-keys"},
}
GROUP = over(LEAST, {"kafka": {"brokers": "kafka-0:9092,kafka-1:9092"}, "settings": {"group": "shop"}})
SINGLE = over(LEAST, {"mode": "single"})

POD: Values = {
    "resources": {"requests": {"cpu": "1", "memory": "3Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
    "podAnnotations": {"example.com/owner": "shop"},
    "podLabels": {"team": "shop"},
    "nodeSelector": {"disk": "local"},
    "tolerations": [{"key": "disk", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "serviceAccountName": "shop",
}
CODE: Values = {
    "extraEnv": [
        {"name": "STRIPE", "valueFrom": {"secretKeyRef": {"name": "stripe", "key": "token"}}},
        {"name": "CURRENCY", "value": "EUR"},
    ],
    "extraEnvFrom": [{"configMapRef": {"name": "shop"}}],
    "extraVolumes": [{"name": "schemas", "configMap": {"name": "schemas"}}],
    "extraVolumeMounts": [{"name": "schemas", "mountPath": "/schemas", "readOnly": True}],
}
SERVICE: Values = {"service": {"type": "NodePort", "port": 80, "annotations": {"example.com/zone": "a"}}}
SPREAD: Values = {"spread": {"zone": "DoNotSchedule", "host": ""}}
CACHE: Values = {
    "enabled": True,
    "size": "100Gi",
    "storageClass": "local",
    "accessMode": "ReadWriteOncePod",
    "whenDeleted": "Retain",
    "whenScaled": "Delete",
}
BUDGET: Values = {"podDisruptionBudget": {"enabled": True, "maxUnavailable": 2}}
SHARED: Values = {
    "image": {"pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "eventKeys": {"existingSecret": "shop-keys", "key": "millstream", "sendingKey": "functions"},
    "signingKey": {"existingSecret": "shop-signing", "key": "now", "fallbackKey": "before"},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "annotations": {"example.com/size": "8m"},
        "host": "hooks.example.com",
        "tlsSecret": "hooks-tls",
        "paths": ["/e/"],
    },
    "networkPolicy": {
        "enabled": True,
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "kafkaTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "kafkaPorts": [9094],
        "functionsEgress": [{"ports": [{"port": 443}]}],
    },
    "registry": {
        "url": "https://registry:8081",
        "username": "shop",
        "existingSecret": "registry-login",
        "key": "secret",
        "ca": {"existingSecret": "registry-ca", "key": "ca.pem"},
    },
    "user": 20002,
    "fullnameOverride": "shop-engine",
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}, "data": {"a": "{{ b }}"}}],
}
MONITORED: Values = {
    "monitoring": {
        "podMonitor": {"enabled": True, "interval": "30s", "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True, "labels": {"grafana_dashboard": "1"}, "annotations": {"folder": "millstream"}},
    }
}
SASL: Values = {"mechanism": "SCRAM-SHA-512", "username": "shop", "existingSecret": "shop-kafka", "key": "secret"}
GROUP_SETTINGS: Values = {
    "group": "shop",
    "lanes": 16,
    "events_topic": "shop-events",
    "group_protocol": "classic",
    "session_timeout": "10s",
    "client_id": "shop",
    "replication_factor": 5,
    "min_insync": 3,
}
EVERYTHING = over(
    over(GROUP, over(SHARED, MONITORED)),
    {
        "mode": "group",
        "apps": ["shop:app", "examples.blog:app"],
        "settings": GROUP_SETTINGS
        | {
            "public_url": "https://hooks.example.com",
            "history": "7d",
            "allowed_hosts": "shop.example.com,.example.org",
            "schemas": "/schemas",
            "endpoint_networks": "10.0.0.0/8,fd00::/8",
            "environments": "prod",
            "sdk_urls": "https://shop.example.com/api/inngest",
            "no_poll": True,
            "log_level": "debug",
        },
        "kafka": {
            "securityProtocol": "sasl_ssl",
            "ca": {"existingSecret": "kafka-ca", "key": "ca.pem"},
            "certificate": {"existingSecret": "shop-tls", "certKey": "c.pem", "keyKey": "k.pem"},
            "sasl": SASL,
        },
        "topics": {
            "mode": "job",
            "settings": {"apis": 12, "accept_loss": True},
            "kafka": {"sasl": {"username": "operator", "existingSecret": "operator-kafka"}},
            "deadlineSeconds": 600,
            **POD,
        },
        "worker": {
            "replicas": 4,
            "settings": {
                "register": "always",
                "executors": 4,
                "trim_lag": "5m",
                "retry_interval": "1s",
                "accept_loss": False,
            },
            "kafka": {"sasl": {"username": "worker", "existingSecret": "worker-kafka"}},
            "graceSeconds": 120,
            "startupSeconds": 900,
            "persistence": CACHE,
            "keda": {
                "enabled": True,
                "minReplicas": 2,
                "maxReplicas": 16,
                "lagThreshold": 2_000_000,
                "scaleDownSeconds": 900,
                "authentication": "kafka-lag",
            },
            **BUDGET,
            **SPREAD,
            **CODE,
            **POD,
        },
        "api": {
            "replicas": 3,
            "settings": {"events_per_s": 2_000_000},
            "kafka": {"sasl": {"username": "api", "existingSecret": "api-kafka"}},
            "startupSeconds": 60,
            "shutdownDelaySeconds": 10,
            "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 9, "cpuPercent": 50},
            **SERVICE,
            **BUDGET,
            **SPREAD,
            **CODE,
            **POD,
        },
        "history": {
            "replicas": 2,
            "settings": {"history": "30d"},
            "kafka": {"sasl": {"username": "history", "existingSecret": "history-kafka"}},
            "startupSeconds": 120,
            "shutdownDelaySeconds": 0,
            "persistence": CACHE,
            **SERVICE,
            **BUDGET,
            **SPREAD,
            **CODE,
            **POD,
        },
    },
)
SINGLE_EVERYTHING = over(
    over(SINGLE, over(SHARED, MONITORED)),
    {
        "apps": ["shop:app", "examples.blog:app"],
        "settings": {
            "lanes": 4,
            "group": "shop",
            "executors": 2,
            "durability": "os",
            "schemas": "/schemas",
            "retry_interval": "1s",
            "allowed_hosts": "shop.example.com",
            "public_url": "https://hooks.example.com",
            "events_per_s": 2_000_000,
            "history": "48h",
            "trim_lag": "5m",
            "accept_loss": True,
            "endpoint_networks": "10.0.0.0/8",
            "environments": "prod",
            "sdk_urls": "https://shop.example.com/api/inngest",
            "no_poll": True,
            "log_level": "debug",
        },
        "server": {
            "startupSeconds": 60,
            "persistence": {"size": "100Gi", "storageClass": "local", "accessMode": "ReadWriteOncePod"},
            **SERVICE,
            **CODE,
            **POD,
        },
    },
)
MUTUAL_TLS = over(
    GROUP,
    {
        "kafka": {
            "securityProtocol": "ssl",
            "ca": {"existingSecret": "kafka-ca"},
            "certificate": {"existingSecret": "shop-tls"},
        }
    },
)
LOGIN = over(GROUP, {"kafka": {"securityProtocol": "sasl_ssl", "ca": {"existingSecret": "kafka-ca"}, "sasl": SASL}})
FILES = {"shop.py": 'import millstream\nNAME = "{{ not Helm\'s }}"\n', "examples/blog.py": "app = None\n"}
FROM_FILES = over(GROUP, {"functions": {"files": FILES}, "apps": ["shop:app", "examples.blog:app"]})
FROM_CONFIG_MAP = over(SINGLE, {"functions": {"configMap": "shop-functions"}})
WATCHED = over(
    over(GROUP, MONITORED), {"api": {"autoscaling": {"enabled": True}}, "worker": {"keda": {"enabled": True}}}
)
NO_EXTRAS = over(
    GROUP,
    {
        "image": {"tag": "", "digest": "sha256:" + "0" * 64},
        "eventKeys": {"existingSecret": ""},
        "insecureNoEventKey": True,
        "topics": {"mode": "none"},
        "history": {"replicas": 0},
        "worker": {"persistence": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
        "api": {"podDisruptionBudget": {"enabled": False}},
        "user": None,
    },
)
REMOTE = over(
    GROUP,
    {
        "apps": [],
        "signingKey": {"existingSecret": "shop-signing"},
        "settings": {"endpoint_networks": "10.0.0.0/8", "retry_interval": "5s"},
    },
)
SINGLE_REMOTE = over(SINGLE, {"apps": [], "settings": {"sdk_urls": "http://shop:3000/api/inngest"}})
FENCED = over(GROUP, {"networkPolicy": {"enabled": True}, "registry": {"url": "http://registry:8081"}})

COMBINATIONS: dict[str, Values] = {
    "group": GROUP,
    "group with everything": EVERYTHING,
    "mutual TLS": MUTUAL_TLS,
    "SASL": LOGIN,
    "functions of the values": FROM_FILES,
    "monitoring and autoscaling": WATCHED,
    "no topics, history, volume, key, user": NO_EXTRAS,
    "network policies": FENCED,
    "apps over HTTP alone": REMOTE,
    "single": SINGLE,
    "single, apps over HTTP alone": SINGLE_REMOTE,
    "single with everything": SINGLE_EVERYTHING,
    "single, functions of a ConfigMap": FROM_CONFIG_MAP,
}
EVERY = pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS)


def rendered(values: Values, name: str = "millstream") -> dict[str, str]:
    """Texts by the template's file name. Raises HelmRenderError and HelmValuesError."""
    return dict(_rendered(json.dumps(values), name, "shop"))


def resources(values: Values, name: str = "millstream", namespace: str = "shop") -> list[Resource]:
    """What Kubernetes gets for one release in a namespace, in the order of the templates' names."""
    return deepcopy(_resources(json.dumps(values), name, namespace))


@cache
def _rendered(values: str, name: str, namespace: str) -> dict[str, str]:
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(json.loads(values), name=name, namespace=namespace)
    return {Path(path).name: text for path, text in texts.items()}


@cache
def _resources(values: str, name: str, namespace: str) -> list[Resource]:
    texts = [text for path, text in sorted(_rendered(values, name, namespace).items()) if path.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def of_kind(values: Values, *kinds: str) -> dict[str, Resource]:
    """The resources of these kinds, by name."""
    return {found["metadata"]["name"]: found for found in resources(values) if found["kind"] in kinds}


def workload(values: Values, role: str) -> Resource:
    """The Deployment, StatefulSet or Job of a role."""
    component = "app.kubernetes.io/component"
    (found,) = [
        found for found in of_kind(values, *WORKLOADS).values() if found["metadata"]["labels"].get(component) == role
    ]
    return found


def pods(values: Values) -> Iterator[Resource]:
    """The pods' specs."""
    for found in of_kind(values, *WORKLOADS).values():
        yield found["spec"]["template"]["spec"]


def pod(values: Values, role: str) -> Any:
    """The spec of a role's pod."""
    return workload(values, role)["spec"]["template"]["spec"]


def container(values: Values, role: str) -> Any:
    """The only container of a role's pod."""
    (only,) = pod(values, role)["containers"]
    return only


def variables(values: Values, role: str) -> dict[str, str]:
    """The variables of a role that the chart gives a value; not those of Secrets and fields."""
    return {each["name"]: each["value"] for each in container(values, role)["env"] if "value" in each}


@cache
def schema() -> Any:
    """The schema of the values."""
    with helm.Chart.load(CHART) as chart:
        return chart.schema


@cache
def defaults() -> Any:
    """The values of values.yaml."""
    with helm.Chart.load(CHART) as chart:
        return chart.values
