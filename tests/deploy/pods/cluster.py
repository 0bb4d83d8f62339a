"""A namespace of a cluster, with processes in place of pods: what a chart renders is installed, upgraded, removed.

    with Cluster(tmp_path, images={"registry.example/shop:v1": files}) as cluster:
        cluster.create_secret("shop-keys", {"event-keys": "…"})
        cluster.install(manifests)                # as `helm install --wait`
        cluster.services["shop-api"].url()

``images``: the files that each image has in /app. ``hosts``: names outside of the cluster, and where they are here.
All workloads of an upgrade are rolled out at once, each by its own controller, as Kubernetes does it.
See `containers.py` for what differs from Kubernetes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.deploy.pods.containers import Image, Surroundings
from tests.deploy.pods.network import Endpoint, Network, Service, addresses
from tests.deploy.pods.pod import Pod
from tests.deploy.pods.strict import CannotStart, Manifest, NotUnderstood
from tests.deploy.pods.volumes import Store, entries
from tests.deploy.pods.workloads import Workload, run_job, together

HOOK, WEIGHT = "helm.sh/hook", "helm.sh/hook-weight"
WORKLOADS = ("StatefulSet", "Deployment")
NOT_FELT = (
    "PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "PrometheusRule", "ScaledObject", "ServiceAccount", "Ingress",
)  # fmt: skip
"""No process can feel them; tests/deploy/test_chart.py looks at them as data."""


class Cluster:
    """See the module."""

    def __init__(
        self,
        folder: Path,
        *,
        images: Mapping[str, Path],
        hosts: Mapping[str, str] | None = None,
        namespace: str = "shop",
    ) -> None:
        self.folder = folder
        self.namespace = namespace
        self.store = Store(folder)
        self.services: dict[str, Service] = {}
        self.workloads: dict[str, Workload] = {}
        self.jobs: list[Pod] = []
        self._hosts = dict(hosts or {})
        self._images: dict[str, Image] = {}
        self._trees: dict[str, set[str]] = {}
        for name, files in images.items():
            self.push(name, files)
        self._address = addresses()
        self._network = Network()
        self._of_release: set[tuple[str, str]] = set()
        self._made = 0

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what an operator does ----------------------------------------------------------------------

    def push(self, name: str, files: Path) -> None:
        """Make an image known; ``files`` are what it has in /app."""
        self._images[name], self._trees[name] = Image.ours(files), _tree(files)

    def create_secret(self, name: str, values: Mapping[str, Any]) -> None:
        """As `kubectl create secret generic`."""
        assert name not in self.store.secrets, f'secrets "{name}" already exists'
        self.store.secrets[name] = entries(values)

    def create_config_map(self, name: str, values: Mapping[str, Any]) -> None:
        """As `kubectl create configmap`."""
        assert name not in self.store.config_maps, f'configmaps "{name}" already exists'
        self.store.config_maps[name] = entries(values)

    def forward(self, service: str, ip: str, port: int) -> None:
        """As `kubectl port-forward`, until the Service is gone."""
        self._network.call(self.services[service].forward(ip, port))

    def install(self, manifests: list[Manifest]) -> None:
        """As `helm install --wait`."""
        assert not self._of_release, "cannot re-use a name that is still in use"
        self._apply(manifests, "install")

    def upgrade(self, manifests: list[Manifest]) -> None:
        """As `helm upgrade --wait`, and `helm rollback`."""
        assert self._of_release, "the release has no deployed revision"
        self._apply(manifests, "upgrade")

    def uninstall(self) -> None:
        """As `helm uninstall --wait`."""
        together([lambda one=one: one.scale_down(deleted=True) for one in self.workloads.values()])
        for kind, name in list(self._of_release):
            self._delete(kind, name)

    def check(self) -> None:
        """Raise AssertionError where a pod has done wrong, or something was written into an image."""
        for workload in self.workloads.values():
            workload.check()
        for name, before in self._trees.items():
            written = _tree(self._images[name].files) - before
            assert not written, f"written into the read-only image {name}: {sorted(written)}"

    def close(self) -> None:
        """Kill what still runs."""
        for pod in self.pods():
            pod.kill()
        for service in self.services.values():
            self._network.call(service.close())
        self._network.close()

    # --- what is there ------------------------------------------------------------------------------

    def pods(self, **labels: str) -> list[Pod]:
        """Those that run, of all workloads; with labels (of component, say) those that have them."""
        wanted = {f"app.kubernetes.io/{name}": value for name, value in labels.items()}
        all = [pod for workload in self.workloads.values() for pod in workload.pods]
        return [pod for pod in all if wanted.items() <= pod.labels.items()]

    @property
    def claims(self) -> set[str]:
        """The claims that there are."""
        folder = self.folder / "claims"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    # --- helm's part --------------------------------------------------------------------------------

    def _apply(self, manifests: list[Manifest], what: str) -> None:
        for hook in sorted(
            (one for one in manifests if _hooks(one)), key=lambda one: int(_annotation(one, WEIGHT, "0"))
        ):
            if f"pre-{what}" in _hooks(hook):
                self._run_hook(hook)
            elif not set(_hooks(hook)) <= {"pre-install", "pre-upgrade", "test"}:
                raise NotUnderstood(f"a hook {_hooks(hook)}")
        ours = [one for one in manifests if not _hooks(one)]
        now = {(str(one["kind"]), str(one["metadata"]["name"])) for one in ours}
        for kind, name in self._of_release - now:
            self._delete(kind, name)
        self._of_release = now
        for manifest in ours:
            self._put(manifest)
        scaled = {
            one["spec"]["scaleTargetRef"]["name"]: one["spec"]["minReplicas"]
            for one in ours
            if one["kind"] == "HorizontalPodAutoscaler"
        }
        together(list(self._roll_outs([one for one in ours if one["kind"] in WORKLOADS], scaled)))

    def _run_hook(self, hook: Manifest) -> None:
        if hook["kind"] == "Job":
            self.jobs.append(run_job(hook, self._make_pod, len(self.jobs)))
        else:
            self._put(hook)

    def _put(self, manifest: Manifest) -> None:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        assert manifest["metadata"].get("namespace", self.namespace) == self.namespace, f"{kind} {name}: elsewhere"
        if kind == "ConfigMap":
            self.store.config_maps[name] = entries(manifest.get("data", {}))
        elif kind == "Service":
            self._serve(manifest)
        elif kind not in (*WORKLOADS, *NOT_FELT, "HorizontalPodAutoscaler"):
            raise NotUnderstood(f"a resource of kind {kind}")

    def _serve(self, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        if name in self.services:
            before = self.services[name].manifest["spec"]
            assert before == manifest["spec"], f"the harness does not change Service {name}: {manifest['spec']}"
            return
        service = self.services[name] = Service(manifest, self._address(), self._endpoints)
        self._network.call(service.open())

    def _endpoints(self) -> list[Endpoint]:
        """Also those that have ended: connections are led to them until everybody has heard of it."""
        return [pod for one in list(self.workloads.values()) for pod in (*one.pods, *one.ended)]

    def _roll_outs(self, manifests: list[Manifest], scaled: Mapping[str, int]) -> Iterator[Any]:
        for manifest in manifests:
            name = manifest["metadata"]["name"]
            replicas = int(manifest["spec"].get("replicas", scaled.get(name, 1)))
            if name not in self.workloads:
                self.workloads[name] = Workload(manifest, 0, self._make_pod, self._forget_claim)
            assert self.workloads[name].kind == manifest["kind"], f"{name} is a {self.workloads[name].kind} already"
            yield lambda one=self.workloads[name], given=manifest, count=replicas: one.roll_out(given, count)

    def _delete(self, kind: str, name: str) -> None:
        if kind in WORKLOADS:
            workload = self.workloads[name]
            workload.scale_down(deleted=True)
            workload.check()
            del self.workloads[name]
        elif kind == "ConfigMap":
            del self.store.config_maps[name]
        elif kind == "Service":
            self._network.call(self.services.pop(name).close())
        self._of_release.discard((kind, name))

    # --- Kubernetes' part ---------------------------------------------------------------------------

    def _make_pod(self, name: str, template: Manifest, claims: Mapping[str, str]) -> Pod:
        self._made += 1
        (image,) = {container["image"] for container in template["spec"]["containers"]}
        if image not in self._images:
            raise CannotStart(f"pod {name}: ErrImagePull: {image}; there are {sorted(self._images)}")
        metadata = {"name": name, "namespace": self.namespace, **template.get("metadata", {})}
        links = {key: value for service in self.services.values() for key, value in service.links().items()}
        names = {
            known: service.ip
            for service in self.services.values()
            if not service.is_headless
            for known in service.names(self.namespace)
        }
        around = Surroundings(
            store=self.store,
            image=self._images[image],
            pod={"metadata": metadata, "spec": template["spec"]},
            ip=self._address(),
            links=links,
            names={**self._hosts, **names},
        )
        return Pod(around, self.folder / "pods" / f"{name}.{self._made}", claims)

    def _forget_claim(self, name: str) -> None:
        shutil.rmtree(self.folder / "claims" / name, ignore_errors=True)


def _annotation(manifest: Manifest, name: str, otherwise: str = "") -> str:
    return str(manifest["metadata"].get("annotations", {}).get(name, otherwise))


def _hooks(manifest: Manifest) -> list[str]:
    return [hook.strip() for hook in _annotation(manifest, HOOK).split(",") if hook]


def _tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
