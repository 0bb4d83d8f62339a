"""Every value of the chart is described, tried and checked; what cannot be meant is refused with words that help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.chart.rendering import (
    CHART,
    COMBINATIONS,
    EVERYTHING,
    FILES,
    GROUP,
    LEAST,
    LOGIN,
    REMOTE,
    ROLES,
    SINGLE,
    Values,
    defaults,
    helm,
    over,
    rendered,
    resources,
    schema,
    yaml,
)

OPEN = {"settings", *(f"{role}.{section}" for role in ROLES for section in ("settings", "kafka", "resources"))}
"""Sections that are empty or a beginning in values.yaml, where others may write what the schema lists."""


def resolved(part: Any) -> Any:
    """The definition that a part of the schema refers to, or the part."""
    while "$ref" in part:
        where: Any = schema()
        for step in part["$ref"].removeprefix("#/").split("/"):
            where = where[step]
        part = where
    return part


def leaves(values: Values, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path; a section that is empty, or open to any name, counts as one."""
    for name, value in values.items():
        at = f"{path}{name}"
        if isinstance(value, dict) and value and resolved(part_of(at)).get("properties"):
            yield from leaves(value, f"{at}.")
        else:
            yield at, value


def part_of(path: str) -> Any:
    """The part of the schema for a value."""
    part: Any = schema()
    for name in path.split("."):
        part = resolved(part)["properties"][name]
    return part


def sections(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every object of the schema that has names of its own."""
    part = resolved(part)
    if part.get("type") == "array":
        yield from sections(part.get("items", {}), f"{path}[]")
    elif "properties" in part:
        yield path, part
        for name, each in part["properties"].items():
            yield from sections(each, f"{path}.{name}".strip("."))


def test_no_section_takes_a_name_that_is_not_in_the_schema() -> None:
    found = list(sections(schema()))
    assert len(found) > 30
    assert [path for path, part in found if part.get("additionalProperties") is not False] == []


def test_every_value_of_the_schema_is_in_values_yaml() -> None:
    known = {at for at, _ in leaves(defaults())}
    missing = []
    for path, part in sections(schema()):
        if "[]" in path or any(f"{path}.".startswith(f"{section}.") for section in OPEN):
            continue
        inside = [f"{path}.{name}".strip(".") for name in part["properties"]]
        missing += [at for at in inside if not any(f"{one}.".startswith(f"{at}.") for one in known)]
    assert missing == ["global"]


def test_every_value_is_tried_in_a_combination() -> None:
    tried = {at for values in COMBINATIONS.values() for at, _ in leaves(values)}
    untried = [at for at, _ in leaves(defaults()) if not any(f"{one}.".startswith(f"{at}.") for one in tried)]
    assert untried == []


def test_the_readme_has_every_value_with_its_default() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", readme, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    assert {at: yaml.safe_load(default) for at, default in rows} == dict(leaves(defaults()))


# --- what is missing, or does not fit together
REFUSED: list[tuple[Values, str]] = [
    ({}, "image.repository and image.tag (or image.digest) are not both set: expected an image with millstream"),
    (over(GROUP, {"image": {"tag": ""}}), "for example --set image.repository=registry.example/shop,image.tag=v1"),
    (GROUP | {"apps": []}, "apps is empty: expected at least one module:app"),
    (SINGLE | {"apps": []}, "or, where all functions are in apps over HTTP, signingKey.existingSecret"),
    (over(REMOTE, {"functions": {"files": FILES}}), "functions has files, and apps is empty: expected what of them"),
    (over(REMOTE, {"settings": {"executors": 2}}), "settings.executors is set, and apps is empty: expected it only"),
    (over(REMOTE, {"worker": {"settings": {"register": "never"}}}), "worker.settings.register is set, and apps is"),
    (GROUP | {"worker": None}, "worker is null: expected a section. Leave it out for its defaults"),
    (over(GROUP, {"worker": {"keda": None}}), "worker.keda is null: expected a section"),
    (GROUP | {"settings": None}, "settings is null: expected a section"),
    (GROUP | {"apps": ["--smoke"]}, 'apps has "--smoke": expected module:app, with dots between folders and no .py'),
    (GROUP | {"apps": ["shop:app", "shop.py"]}, 'apps has "shop.py": expected module:app'),
    (GROUP | {"apps": ["shop.py:app"]}, 'apps has "shop.py:app": expected module:app, with dots between folders'),
    (
        over(GROUP, {"worker": {"extraEnv": [{"name": "MILLSTREAM_HOST", "value": "::"}]}}),
        "worker.extraEnv has MILLSTREAM_HOST: expected variables of your functions. Settings of millstream go into",
    ),
    (
        over(GROUP, {"api": {"podLabels": {"app.kubernetes.io/component": "door"}}}),
        "api.podLabels has app.kubernetes.io/component: expected labels of your own",
    ),
    (over(GROUP, {"functions": {"files": {"../x.py": ""}}}), 'functions.files has "../x.py": expected a file\'s name'),
    (
        over(GROUP, {"functions": {"files": {"shop.py": "x" * 2**19, "more.py": "x" * (2**19 + 1)}}}),
        "functions.files has 1048577 bytes, and a ConfigMap holds 1048576: expected an image of your own",
    ),
    (
        GROUP | {"eventKeys": {}},
        "eventKeys.existingSecret is not set: without event keys whoever reaches the port may send",
    ),
    (GROUP | {"insecureNoEventKey": True}, "both set: expected one of them. Remove insecureNoEventKey"),
    (
        over(GROUP, {"eventKeys": {"existingSecret": "", "sendingKey": "k"}, "insecureNoEventKey": True}),
        "eventKeys.sendingKey is set, and eventKeys.existingSecret is not",
    ),
    (
        over(GROUP, {"signingKey": {"fallbackKey": "before"}}),
        "signingKey.fallbackKey is set, and signingKey.existingSecret is not",
    ),
    (LEAST | {"settings": {"group": "shop"}}, "kafka.brokers is not set: expected some brokers of your Kafka"),
    (over(GROUP, {"kafka": {"brokers": "kafka-0"}}), 'kafka.brokers has "kafka-0": expected host:port'),
    (over(GROUP, {"kafka": {"brokers": "a:9092,http://b:9092"}}), 'kafka.brokers has "http://b:9092"'),
    (GROUP | {"settings": {}}, "settings.group is not set: expected the name of the group on Kafka"),
    (over(GROUP, {"kafka": {"securityProtocol": "sasl_ssl"}}), "which needs sasl.mechanism, sasl.username and"),
    (over(LOGIN, {"kafka": {"sasl": {"username": ""}}}), "kafka: securityProtocol is sasl_ssl, which needs"),
    (over(LOGIN, {"kafka": {"securityProtocol": "ssl"}}), "sasl is set, and securityProtocol is ssl"),
    (
        over(GROUP, {"kafka": {"ca": {"existingSecret": "ca"}}}),
        "ca or certificate is set, and securityProtocol is plaintext, which encrypts nothing: expected ssl or sasl_ssl",
    ),
    (over(GROUP, {"api": {"kafka": {"sasl": {"username": "api"}}}}), "api.kafka over kafka: sasl is set"),
    (over(GROUP, {"registry": {"username": "shop"}}), "registry.url is not set, and other values of registry are"),
    (
        over(GROUP, {"registry": {"url": "http://r:8081", "username": "shop"}}),
        "registry.username and registry.existingSecret go together",
    ),
    (over(GROUP, {"ingress": {"enabled": True}}), "ingress.host is not set: expected the name that others reach it by"),
    (
        over(GROUP, {"functions": {"files": FILES, "configMap": "mine"}}),
        "functions.files and functions.configMap are both set: expected one of them",
    ),
    (
        over(GROUP, {"functions": {"files": {"a/b.py": "", "a.b.py": ""}}}),
        "functions.files has a.b.py and a/b.py, which are one key of a ConfigMap: rename one",
    ),
    (
        over(GROUP, {"worker": {"keda": {"enabled": True, "maxReplicas": 9}}}),
        "worker.keda.maxReplicas is 9, and the group has 8 lanes (settings.lanes): expected no more workers than lanes",
    ),
    (
        over(GROUP, {"worker": {"keda": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}}),
        "worker.keda.minReplicas is 5: expected at most maxReplicas, which is 4",
    ),
    (
        over(LOGIN, {"worker": {"keda": {"enabled": True}}}),
        "worker.keda.authentication is not set, and the brokers speak",
    ),
    (
        over(GROUP, {"api": {"autoscaling": {"enabled": True, "minReplicas": 7}}}),
        "api.autoscaling.minReplicas is 7: expected at most maxReplicas, which is 6",
    ),
    # A value that the mode does not read.
    (
        over(SINGLE, {"kafka": {"brokers": "kafka:9092"}}),
        "kafka.brokers is set, and mode is single, which does not read",
    ),
    (over(SINGLE, {"worker": {"replicas": 3}}), "worker.replicas is set, and mode is single, which does not read it"),
    (over(SINGLE, {"api": {"autoscaling": {"enabled": True}}}), "api.autoscaling is set, and mode is single"),
    (over(GROUP, {"server": {"startupSeconds": 60}}), "server.startupSeconds is set, and mode is group"),
    (
        over(SINGLE, {"settings": {"register": "never"}}),
        "settings.register is set, and no process takes it in mode single: expected one of accept_loss, allowed_hosts",
    ),
    (
        over(GROUP, {"settings": {"durability": "os"}}),
        "settings.durability is set, and no process takes it in mode group",
    ),
]


@pytest.mark.parametrize(("values", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_is_missing_or_does_not_fit_is_refused_with_a_sentence(values: Values, said: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=re.escape(said)):
        rendered(values)


def test_no_section_that_is_null_is_an_error_of_the_templates() -> None:
    """Helm takes away what is null: that is refused with a sentence, or it renders."""
    said = [refusal(over(mode, nothing_at(*path))) for mode in (GROUP, SINGLE) for path in places(defaults())]
    expected = ("is null: expected a section", "which does not read it")
    assert [text for text in said if text and not any(each in text for each in expected)] == []
    assert sum("is null" in text for text in said) > 50


def refusal(values: Values) -> str:
    """What the chart refuses the values with; empty where it takes them."""
    try:
        rendered(values)
    except helm.HelmRenderError as refused:
        return str(refused)
    return ""


def nothing_at(*path: str) -> Values:
    """Values with null at this place alone."""
    found: Any = None
    for name in reversed(path):
        found = {name: found}
    return dict(found)


def places(values: Values) -> Iterator[tuple[str, ...]]:
    """The places of the values' sections."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield (name,)
            yield from ((name, *rest) for rest in places(value))


@pytest.mark.parametrize("name", ["shop.v1", "2nd-shop", "2024"])
def test_a_release_whose_services_could_not_have_its_name_is_refused(name: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=f"would be called {name}-millstream, and the name of a Service"):
        rendered(GROUP, name)


@pytest.mark.parametrize("name", ["2024", "true", "1e3"])
def test_names_that_yaml_takes_for_something_else_stay_texts(name: str) -> None:
    for found in resources(over(EVERYTHING, {"extraObjects": []}), name, namespace=name):
        assert found["metadata"]["namespace"] == name
        assert found["metadata"]["labels"]["app.kubernetes.io/instance"] == name


# --- what the schema refuses: where, and what was expected
WRONG: list[tuple[Values, str]] = [
    ({"replicas": 2}, "additional properties 'replicas' not allowed"),
    ({"mode": "cluster"}, "at '/mode': value must be one of 'group', 'single'"),
    ({"image": {"digest": "latest"}}, "at '/image/digest': 'latest' does not match pattern"),
    ({"settings": {"event_keys": "in-the-open"}}, "at '/settings': additional properties 'event_keys' not allowed"),
    ({"settings": {"lanes": 0}}, "at '/settings/lanes': minimum: got 0, want 1"),
    ({"settings": {"durability": "none"}}, "at '/settings/durability': value must be one of 'fsync', 'os'"),
    ({"settings": {"history": "long"}}, "at '/settings/history': 'long' does not match pattern"),
    ({"settings": {"accept_loss": "yes"}}, "at '/settings/accept_loss': got string, want boolean"),
    ({"api": {"settings": {"executors": 2}}}, "at '/api/settings': additional properties 'executors' not allowed"),
    ({"worker": {"settings": {"group": "b"}}}, "at '/worker/settings': additional properties 'group' not allowed"),
    ({"kafka": {"securityProtocol": "tls"}}, "at '/kafka/securityProtocol': value must be one of 'plaintext', 'ssl'"),
    ({"kafka": {"sasl": {"password": "x"}}}, "at '/kafka/sasl': additional properties 'password' not allowed"),
    ({"worker": {"kafka": {"brokers": "b:1"}}}, "at '/worker/kafka': additional properties 'brokers' not allowed"),
    ({"apps": "shop:app"}, "at '/apps': got string, want array"),
    ({"worker": {"replicas": 0}}, "at '/worker/replicas': minimum: got 0, want 1"),
    ({"worker": {"keda": {"scaleDownSeconds": 60}}}, "at '/worker/keda/scaleDownSeconds': minimum: got 60, want 600"),
    (
        {"history": {"persistence": {"accessMode": "ReadWriteMany"}}},
        "at '/history/persistence/accessMode': value must be",
    ),
    ({"server": {"persistence": {"whenDeleted": "Delete"}}}, "at '/server/persistence': additional properties"),
    ({"server": {"startupSeconds": 1}}, "at '/server/startupSeconds': minimum: got 1, want 60"),
    ({"user": 0}, "at '/user': minimum: got 0, want 1"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_value_that_cannot_be_is_refused_with_its_place(wrong: Values, said: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=re.escape(said)):
        rendered(over(GROUP, wrong))


def test_values_of_the_other_mode_may_be_given_as_they_are_by_default() -> None:
    both = {name: defaults()[name] for name in ("kafka", "topics", "worker", "api", "history", "server")}
    assert rendered(over(SINGLE, both)) == rendered(SINGLE)
    assert rendered(over(both, GROUP)) == rendered(GROUP)
