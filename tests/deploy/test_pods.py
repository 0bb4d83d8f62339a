"""Processes in place of pods: what they do not know is an error, what Kubernetes would not start is not started.

The other tests of this folder stand on that: what they start is what was rendered, and nothing was passed over.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart.rendering import COMBINATIONS, WORKLOADS, Values, resources
from tests.deploy.groups import unknown_to_millstream
from tests.deploy.pods.cluster import Cluster
from tests.deploy.pods.containers import Image, Process, Surroundings, process_of
from tests.deploy.pods.strict import CannotStart, Manifest, NotUnderstood
from tests.deploy.pods.volumes import Content, PodVolumes, Store

CONTAINER: Manifest = {"name": "millstream", "image": "shop", "args": ["version"]}


class Everything(Store):
    """A namespace where every Secret and ConfigMap is there, with every entry."""

    def content(self, kind: str, name: str, *, optional: bool = False) -> Content | None:
        return self.secrets.get(name) or self.config_maps.get(name) or _Any()


class _Any(dict[str, bytes]):
    def __missing__(self, key: str) -> bytes:
        return b"of-the-secret"

    def __contains__(self, key: object) -> bool:
        return True


def process(container: Manifest, folder: Path, store: Store | None = None, **spec: Any) -> Process:
    """The process that a pod's container is."""
    folder = folder / "pod"
    folder.mkdir()
    store = store or Store(folder)
    pod = {"metadata": {"name": "shop-0", "namespace": "shop", "labels": {"a": "b"}}, "spec": spec}
    fs_group = spec.get("securityContext", {}).get("fsGroup")
    volumes = PodVolumes(store, folder / "volumes", fs_group, spec.get("claims", {})).made(spec.get("volumes", []))
    names, links = {"history": "127.9.9.9", "kafka.example:9092": "127.0.0.1:1234"}, {"SHOP_PORT": "tcp://127.9.9.9:80"}
    around = Surroundings(
        store=store, image=Image.ours(folder), pod=pod, ip="127.8.8.8", links=links, names=names, volumes=volumes
    )
    return process_of(container, around)


@pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS.keys())
def test_every_container_of_the_chart_is_understood_and_takes_what_it_is_given(values: Values, tmp_path: Path) -> None:
    found = [one for one in resources(values) if one["kind"] in WORKLOADS]
    assert found
    for one in found:
        spec = one["spec"]["template"]["spec"]
        claims = {each["metadata"]["name"]: "claim" for each in one["spec"].get("volumeClaimTemplates", [])}
        folder = tmp_path / one["metadata"]["name"]
        folder.mkdir()
        for container in spec["containers"]:
            made = process(container, folder, Everything(folder), claims=claims, **spec)
            assert list(unknown_to_millstream(made)) == []
            named = [made.environ[name] for name in made.variables if re.fullmatch(r"MILLSTREAM_\w+_(FILE|CA)", name)]
            assert [path for path in named if not Path(path).is_file()] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"tty": True},
        {"args": ["worker", "--data=/elsewhere"]},
        {"command": ["sh", "-c", "millstream"]},
        {"env": [{"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]},
        {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp", "mountPropagation": "None"}]},
    ],
    ids=str,
)
def test_what_the_harness_does_not_know_is_an_error(changes: Manifest, tmp_path: Path) -> None:
    with pytest.raises(NotUnderstood):
        process(CONTAINER | changes, tmp_path, volumes=[{"name": "tmp", "emptyDir": {}}])


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"secretKeyRef": {"name": "none", "key": "a"}}, "secret 'none' not found"),
        ({"secretKeyRef": {"name": "keys", "key": "b"}}, "couldn't find key b in secret keys"),
        ({"fieldRef": {"fieldPath": "metadata.nothing"}}, "unsupported fieldPath"),
    ],
)
def test_what_is_not_there_starts_nothing(env: Manifest, said: str, tmp_path: Path) -> None:
    store = Store(tmp_path, secrets={"keys": {"a": b"1"}})
    with pytest.raises(CannotStart, match=said):
        process(CONTAINER | {"env": [{"name": "A", "valueFrom": env}]}, tmp_path, store)


def test_words_and_variables_are_put_together_as_kubernetes_does_it(tmp_path: Path) -> None:
    store = Store(tmp_path, secrets={"keys": {"a": b"1"}}, config_maps={"more": {"B": b"2"}})
    container = CONTAINER | {
        "args": ["api", "--host=0.0.0.0", "--history-url=http://history:8290", "--group=history", "$(A)$(NONE)$$(A)"],
        "envFrom": [{"configMapRef": {"name": "more"}, "prefix": "X_"}],
        "env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "BOTH", "value": "$(A)-$(X_B)"},
            {"name": "MILLSTREAM_BROKERS", "value": "kafka.example:9092"},
        ],
    }
    made = process(container, tmp_path, store)
    words = ["api", "--host=127.8.8.8", "--history-url=http://127.9.9.9:8290", "--group=history", "1$(NONE)$(A)"]
    assert made.line[-5:] == words
    expected = {"A": "1", "NAME": "shop-0", "BOTH": "1-2", "X_B": "2", "MILLSTREAM_BROKERS": "127.0.0.1:1234"}
    assert expected.items() <= made.environ.items()
    assert made.environ["SHOP_PORT"] == "tcp://127.9.9.9:80", "links of Services, unless they are switched off"
    (tmp_path / "other").mkdir()
    assert "SHOP_PORT" not in process(container, tmp_path / "other", store, enableServiceLinks=False).environ


def test_a_volume_has_the_links_and_modes_of_kubernetes_and_its_reader_must_be_able_to_read(tmp_path: Path) -> None:
    store = Store(tmp_path, secrets={"keys": {"a": b"1"}})
    volume = {"secret": {"secretName": "keys", "defaultMode": 0o400}}
    with pytest.raises(CannotStart, match="the image's user cannot read it"):
        PodVolumes(store, tmp_path / "one", None, {}).made([{"name": "keys", **volume}])
    made = PodVolumes(store, tmp_path / "two", 10001, {}).made([{"name": "keys", **volume}])["keys"]
    assert (made / "a").is_symlink()
    assert ((made / "a").read_bytes(), (made / "a").stat().st_mode & 0o777) == (b"1", 0o440)


def test_a_kind_of_resource_or_a_hook_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with Cluster(tmp_path, images={}) as cluster:
        with pytest.raises(NotUnderstood, match="DaemonSet"):
            cluster.install([{"kind": "DaemonSet", "metadata": {"name": "shop"}}])
        hook = {"annotations": {"helm.sh/hook": "post-delete"}}
        with pytest.raises(NotUnderstood, match="post-delete"):
            cluster.upgrade([{"kind": "Job", "metadata": {"name": "shop", **hook}}])
