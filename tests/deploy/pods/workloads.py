"""What Kubernetes' controllers do with the pods of a StatefulSet, a Deployment and a Job.

StatefulSet   pods 0 to N-1. A new template: the highest first, each ended before its successor is started, and that
              one ready before the next is ended
Deployment    new pods beside old ones, as maxSurge and maxUnavailable allow; an old one is ended for a ready one
Job           one pod, run to its end
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from tests.deploy.pods.pod import Pod
from tests.deploy.pods.strict import Manifest, NotUnderstood, only

READY_WITHIN_S = 180.0
LOOK_S = 0.05
IMMUTABLE = {
    "StatefulSet": ("serviceName", "podManagementPolicy", "selector", "volumeClaimTemplates"),
    "Deployment": ("selector",),
}


class MakesPods(Protocol):
    """The cluster's part: a pod with an address, that is not started yet; and an end to claims."""

    def __call__(self, name: str, template: Manifest, claims: Mapping[str, str]) -> Pod: ...


@dataclass
class Workload:
    """A StatefulSet or a Deployment, and its pods in the order of their ordinals or ages."""

    manifest: Manifest
    replicas: int
    make_pod: MakesPods
    forget_claim: Callable[[str], None]
    pods: list[Pod] = field(default_factory=list)
    ended: list[Pod] = field(default_factory=list)
    """Those that were replaced: what they said is still of interest."""
    _replicas_most: int = 0

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def template(self) -> Manifest:
        return dict(self.manifest["spec"]["template"])

    def check(self) -> None:
        """Raise AssertionError where a pod has done wrong, also one that has ended."""
        for pod in [*self.pods, *self.ended]:
            pod.check()

    def roll_out(self, manifest: Manifest, replicas: int) -> None:
        """Come from what is there to what the manifest says. Raises AssertionError where a pod is not ready in time."""
        for name in IMMUTABLE[self.kind]:
            old, new = self.manifest["spec"].get(name), manifest["spec"].get(name)
            assert old == new, f"Forbidden: {self.kind} {self.name}: {name} cannot be changed: {old} to {new}"
        _known(manifest)
        changed = manifest["spec"]["template"] != self.template
        self.manifest, self.replicas = manifest, replicas
        self._replicas_most = max(self._replicas_most, replicas)
        if self.kind == "StatefulSet":
            self._roll_stateful(changed)
        else:
            self._roll_deployment(changed)

    def scale_down(self, *, deleted: bool) -> None:
        """End all its pods at once; with the whole set its claims go, where it says so."""
        with ThreadPoolExecutor(max(len(self.pods), 1)) as together:
            list(together.map(self._end, list(self.pods)))
        policy = self.manifest["spec"].get("persistentVolumeClaimRetentionPolicy", {})
        if deleted and policy.get("whenDeleted", "Retain") == "Delete":
            for ordinal in range(self._replicas_most):  # The set owns those, too, that it has left when it was scaled.
                self._forget_claims(ordinal)

    # --- StatefulSet --------------------------------------------------------------------------------

    def _roll_stateful(self, changed: bool) -> None:
        policy = self.manifest["spec"].get("persistentVolumeClaimRetentionPolicy", {})
        while len(self.pods) > self.replicas:
            self._end(self.pods[-1])
            if policy.get("whenScaled", "Retain") == "Delete":
                self._forget_claims(len(self.pods))
        kept = len(self.pods)
        for ordinal in range(kept, self.replicas):
            self.pods.append(self._start_ordinal(ordinal))
            if self.manifest["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady":
                self._until_ready(self.pods[-1])
        self._until_ready(*self.pods[kept:])
        for ordinal in reversed(range(kept if changed else 0)):
            self._end(self.pods[ordinal])
            self.pods.insert(ordinal, self._start_ordinal(ordinal))
            self._until_ready(self.pods[ordinal])

    def _start_ordinal(self, ordinal: int) -> Pod:
        name = f"{self.name}-{ordinal}"
        template = json.loads(json.dumps(self.template))
        labels = {"statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(ordinal)}
        template["metadata"]["labels"] |= labels
        pod = self.make_pod(name, template, self._claims(ordinal))
        pod.start()
        return pod

    def _claims(self, ordinal: int) -> dict[str, str]:
        names = [claim["metadata"]["name"] for claim in self.manifest["spec"].get("volumeClaimTemplates", [])]
        return {name: f"{name}-{self.name}-{ordinal}" for name in names}

    def _forget_claims(self, ordinal: int) -> None:
        for claim in self._claims(ordinal).values():
            self.forget_claim(claim)

    # --- Deployment ---------------------------------------------------------------------------------

    def _roll_deployment(self, changed: bool) -> None:
        old = list(self.pods) if changed else []
        rolling = self.manifest["spec"].get("strategy", {}).get("rollingUpdate", {})
        surge = self._share(rolling.get("maxSurge", "25%"), math.ceil)
        unavailable = self._share(rolling.get("maxUnavailable", "25%"), math.floor)
        while old or len(self.pods) != self.replicas:
            fresh = [pod for pod in self.pods if pod not in old]
            ready = sum(pod.ready for pod in self.pods)
            if len(fresh) < self.replicas and len(self.pods) < self.replicas + (surge if old else 0):
                self.pods.append(self._start_of_template())
            elif old and ready > self.replicas - unavailable:
                self._end(old.pop(0))
            elif not old and len(self.pods) > self.replicas:
                self._end(self.pods[-1])
            else:
                assert surge or unavailable, f"Deployment {self.name} can never be rolled: no pod may be more or less"
                self._until_ready(*fresh)
        self._until_ready(*self.pods)

    def _share(self, given: int | str, rounded: Callable[[float], int]) -> int:
        if isinstance(given, int):
            return given
        return rounded(self.replicas * int(given.removesuffix("%")) / 100)

    def _start_of_template(self) -> Pod:
        text = json.dumps(self.template, sort_keys=True)
        number = len(self.pods) + len(self.ended)
        name = f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:9]}-{number:05}"
        pod = self.make_pod(name, json.loads(text), {})
        pod.start()
        return pod

    # --- both ---------------------------------------------------------------------------------------

    def _end(self, pod: Pod) -> None:
        pod.end()
        self.pods.remove(pod)
        self.ended.append(pod)
        pod.check()

    def _until_ready(self, *pods: Pod) -> None:
        ends_s = time.monotonic() + READY_WITHIN_S
        for pod in pods:
            while not pod.ready:
                pod.check()
                assert time.monotonic() < ends_s, f"pod {pod.name} is not ready in {READY_WITHIN_S} s:\n{pod.said()}"
                time.sleep(LOOK_S)


def _known(manifest: Manifest) -> None:
    kind, spec = manifest["kind"], manifest["spec"]
    both = ("replicas", "selector", "template", "revisionHistoryLimit")
    if kind == "StatefulSet":
        only(kind, spec, (*both, "serviceName", "podManagementPolicy", "volumeClaimTemplates", "updateStrategy",
                          "persistentVolumeClaimRetentionPolicy"))  # fmt: skip
        strategy = spec.get("updateStrategy", {"type": "RollingUpdate"})
        only("updateStrategy", strategy, ("type",))
    else:
        only(kind, spec, (*both, "strategy"), ("progressDeadlineSeconds",))
        strategy = spec.get("strategy", {"type": "RollingUpdate"})
        only("strategy", strategy, ("type", "rollingUpdate"))
    if strategy["type"] != "RollingUpdate":
        raise NotUnderstood(f"{kind}: a strategy {strategy['type']}")
    wanted, labels = spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]
    assert wanted.items() <= labels.items(), f"`selector` does not match template `labels`: {wanted}, {labels}"


def run_job(manifest: Manifest, make_pod: MakesPods, number: int) -> Pod:
    """Run a Job's pod to its end. Raises AssertionError where it fails: a test waits for no second try."""
    spec = manifest["spec"]
    only("Job", spec, ("template",), ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"))
    assert spec["template"]["spec"].get("restartPolicy") in ("Never", "OnFailure"), "a Job's pod may not restart always"
    pod = make_pod(f"{manifest['metadata']['name']}-{number:05}", spec["template"], {})
    code = pod.run()
    assert code == 0, f"Job {manifest['metadata']['name']} failed with exit code {code}:\n{pod.said()}"
    return pod


def together(tasks: list[Callable[[], None]]) -> None:
    """Do them at once, each in a thread; raise the first one's error."""
    errors: list[BaseException] = []

    def done(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=done, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
