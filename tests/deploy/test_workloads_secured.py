"""A group on brokers that want to know who is there: each role as a user of its own, who may do what is listed for it.

The broker asks for TLS and SCRAM and refuses whatever nobody has allowed. What is allowed is what
`millstream topics plan --acls` prints, and nothing else; certificates, passwords and keys come from Secrets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from millstream.log.kafka.admin.acls import Access
from tests.cli.program import millstream
from tests.deploy.chart.rendering import resources
from tests.deploy.groups import IMAGE, KEY, ask, fulfilled, image_of, unknown_to_millstream, values
from tests.deploy.pods.cluster import Cluster
from tests.deploy.pods.strict import CannotStart
from tests.kafka.broker import Broker, fresh, own_broker
from tests.kafka.secured import grant, secured

KIND = "sasl-scram"
ROLES = ("worker", "api", "history")


def allow(broker: Broker, group: str) -> None:
    """Let each user do what is listed for its role."""
    listed = millstream(
        "topics", "plan", "--acls", "--group", group, "--events-topic", f"{group}-events", "-o", "jsonl"
    )
    assert listed.code == 0, listed.err
    accesses = [
        Access(
            row["role"], row["kind"], row["name"], tuple(row["operations"]), row["why"], row["pattern"] == "prefixed"
        )
        for row in listed.rows
    ]
    grant(secured(broker, KIND), accesses)


def logged_in(user: str) -> dict[str, Any]:
    """The part of a role's values that says who it is."""
    return {"kafka": {"sasl": {"username": user, "existingSecret": f"kafka-{user}"}}}


def secured_values(group: str, bootstrap: str) -> dict[str, Any]:
    """A user for each role."""
    given = values(group, bootstrap)
    kafka = {
        "securityProtocol": "sasl_ssl",
        "ca": {"existingSecret": "kafka-ca"},
        "sasl": {"mechanism": "SCRAM-SHA-512"},
    }
    return given | {
        "kafka": given["kafka"] | kafka,
        "topics": logged_in("operator"),
        **{role: given[role] | logged_in(role) for role in ROLES},
    }


def with_secrets(cluster: Cluster, folder: Path, **others: bytes) -> Cluster:
    """The Secrets that those values name; ``others``: in place of a file of the broker's."""
    cluster.create_secret("shop-keys", {"event-keys": KEY})
    cluster.create_secret("kafka-ca", {"ca.crt": others.get("ca") or (folder / "ca.pem").read_bytes()})
    for user in ("operator", *ROLES):
        cluster.create_secret(
            f"kafka-{user}", {"password": others.get(user) or (folder / f"{user}.password").read_bytes()}
        )
    return cluster


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {IMAGE: image_of(tmp_path_factory.mktemp("secured") / "image")}


@pytest.fixture
def cluster(tmp_path: Path, images: dict[str, Path]) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster", images=images) as made:
        yield made


def test_each_role_does_its_work_with_what_is_listed_for_its_user(secured_kafka: Broker, cluster: Cluster) -> None:
    group = fresh("secured")
    allow(secured_kafka, group)
    with_secrets(cluster, secured_kafka.security).install(
        resources(secured_values(group, secured_kafka.bootstrap), "shop")
    )
    pods = [*cluster.pods(), *cluster.jobs]
    assert {pod.name: unknown for pod in pods if (unknown := list(unknown_to_millstream(pod.process)))} == {}
    url = cluster.services["shop-millstream-api"].url()
    assert fulfilled(url, 3) == {"n": 3, "by": "shop-millstream-worker-0"}
    for door in ("api", "history"):  # A history takes events and requests, too.
        url = cluster.services[f"shop-millstream-{door}"].url()
        assert ask(f"{url}/e/{KEY}", {"name": "order/placed", "data": {"n": 4}})[0] == 200
        status, answer = ask(f"{url}/invoke/shop-fulfil?wait=30s", {"data": {"n": 4}})
        assert (status, answer["data"]["output"]["n"]) == (200, 4)
        assert ask(f"{url}/api/dead-letters") == (200, {"data": [], "metadata": ANY})
    for pod in cluster.pods():
        assert "not allowed" not in pod.said(), pod.said()
    cluster.uninstall()
    cluster.check()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"operator": b"hunter2"}, "the login was refused"),
        ({"ca": b"other"}, "no secure connection"),
    ],
    ids=["password", "authority"],
)
def test_a_wrong_secret_ends_the_installation_with_a_sentence(
    secured_kafka: Broker, cluster: Cluster, wrong: dict[str, bytes], said: str
) -> None:
    group = fresh("secured")
    if "ca" in wrong:
        wrong = {"ca": (secured_kafka.security / "other-ca.pem").read_bytes()}
    with_secrets(cluster, secured_kafka.security, **wrong)
    with pytest.raises(AssertionError, match="Job shop-millstream-topics failed") as failed:
        cluster.install(resources(secured_values(group, secured_kafka.bootstrap), "shop"))
    assert said in str(failed.value)
    assert "hunter2" not in str(failed.value)
    assert cluster.pods() == [], "nothing is started before the topics are there"


def test_a_secret_without_the_entry_starts_nothing(secured_kafka: Broker, cluster: Cluster) -> None:
    given = secured_values(fresh("secured"), secured_kafka.bootstrap)
    given["topics"]["kafka"]["sasl"]["key"] = "passwort"
    with_secrets(cluster, secured_kafka.security)
    with pytest.raises(CannotStart, match="non-existent secret key: passwort"):
        cluster.install(resources(given, "shop"))


def test_a_certificate_is_enough_where_brokers_ask_for_one(tmp_path: Path, cluster: Cluster) -> None:
    with own_broker(tmp_path, 1, "--security", "mtls") as broker:
        group = fresh("secured")
        given = values(group, broker.bootstrap, history={"replicas": 0})
        cluster.create_secret("shop-keys", {"event-keys": KEY})
        cluster.create_secret(
            "kafka",
            {
                "ca.crt": (broker.security / "ca.pem").read_bytes(),
                "tls.crt": (broker.security / "admin.pem").read_bytes(),
                "tls.key": (broker.security / "admin.key").read_bytes(),
            },
        )
        kafka = {
            "securityProtocol": "ssl",
            "ca": {"existingSecret": "kafka"},
            "certificate": {"existingSecret": "kafka"},
        }
        manifests = resources(given | {"kafka": given["kafka"] | kafka}, "shop")
        # Certificates are mounted alike for all roles: the Job and the api stand for them.
        cluster.install([one for one in manifests if not one["metadata"]["name"].endswith("-worker")])
        url = cluster.services["shop-millstream-api"].url()
        status, answer = ask(f"{url}/e/{KEY}", {"name": "order/placed", "data": {"n": 5}})
        assert status == 200, answer
        status, answer = ask(f"{url}/v1/events/{answer['ids'][0]}/runs")
        assert status == 503
        assert "no history to read from" in answer["error"]
        cluster.uninstall()
        cluster.check()
