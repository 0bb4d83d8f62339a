"""A pod as a local process: started, probed as the kubelet does, and ended as Kubernetes ends one.

    start ── init containers, each to its end ── the container ── startup probe ── readiness and liveness probes
    end   ── endpoints withdrawn, and beside it preStop ── SIGTERM ── terminationGracePeriodSeconds at most ── code 0

Probes are asked more often than the manifest says, so that no test waits for a period; but one counts as failed only
after as long as it would there, ``periodSeconds`` × ``failureThreshold`` without one good answer. What a pod did wrong
(it ended, it had to be killed, a probe failed) stands in ``problems``, and fails the test.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.pods.containers import Process, Surroundings, process_of
from tests.deploy.pods.network import HEARD_AFTER_S
from tests.deploy.pods.strict import Manifest, NotUnderstood, only
from tests.deploy.pods.volumes import PodVolumes

LOOK_S = 0.1
LIVE_LOOK_S = 1.0
GRACE_S = 30.0
"""Kubernetes' own default."""
SAID_CHARS_MAX = 6_000
ENDS_WITHIN_S = 120.0
"""A pod that is to run to its end (a Job's, an init container)."""
NOT_FELT = (
    "automountServiceAccountToken", "serviceAccountName", "securityContext", "imagePullSecrets", "nodeSelector",
    "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName", "restartPolicy", "runtimeClassName",
)  # fmt: skip
"""Of the scheduler, the node and the kernel."""


@dataclass(slots=True)
class Probe:
    """One probe of a container, and when it last succeeded."""

    kind: str
    manifest: Manifest
    url: str
    since_s: float
    done: bool = False

    @staticmethod
    def of(kind: str, container: Manifest, ip: str) -> Probe | None:
        """The one of a kind; None where there is none."""
        manifest = container.get(kind)
        if manifest is None:
            return None
        only(kind, manifest, ("httpGet", "initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold",
                              "successThreshold"))  # fmt: skip
        only(f"{kind}.httpGet", manifest["httpGet"], ("path", "port"), ("scheme",))
        get = manifest["httpGet"]
        assert get.get("scheme", "HTTP") == "HTTP", f"{kind}: {get}"
        return Probe(kind, manifest, f"http://{ip}:{port_of(container, get['port'])}{get['path']}", time.monotonic())

    @property
    def patience_s(self) -> float:
        """How long it may fail."""
        given = self.manifest
        delay_s = given.get("initialDelaySeconds", 0)
        return float(delay_s + given.get("periodSeconds", 10) * given.get("failureThreshold", 3))

    def succeeds(self) -> bool:
        """Ask once."""
        try:
            with urllib.request.urlopen(self.url, timeout=float(self.manifest.get("timeoutSeconds", 1))) as answer:
                good = bool(200 <= answer.status < 400)
        except OSError:
            good = False
        if good:
            self.since_s = time.monotonic()
        return good

    @property
    def has_failed(self) -> bool:
        """Whether it has failed for as long as it may."""
        return time.monotonic() - self.since_s > self.patience_s


def port_of(container: Manifest, port: str | int) -> int:
    """The number of a port that may be named. Raises AssertionError where the container has none of that name."""
    if isinstance(port, int):
        return port
    named = {each["name"]: each["containerPort"] for each in container.get("ports", []) if "name" in each}
    assert port in named, f"container {container['name']} has no port named {port!r}: it has {sorted(named)}"
    return int(named[port])


@dataclass
class Pod:
    """See the module. ``folder`` is its own; ``claims`` the names of its claims by volume."""

    around: Surroundings
    folder: Path
    claims: Mapping[str, str] = field(default_factory=dict)
    ready: bool = False
    withdrawn_from_s: float = float("inf")
    problems: list[str] = field(default_factory=list)
    popen: subprocess.Popen[bytes] | None = None
    process: Process | None = None

    def __post_init__(self) -> None:
        self.manifest = self.around.pod
        spec = self.manifest["spec"]
        only(
            f"pod {self.name}",
            spec,
            ("containers", "initContainers", "volumes", "terminationGracePeriodSeconds", "enableServiceLinks"),
            NOT_FELT,
        )
        if len(spec["containers"]) != 1:
            raise NotUnderstood(f"pod {self.name} with {len(spec['containers'])} containers")
        (self.container,) = spec["containers"]
        self._over = threading.Event()
        self._kubelet: threading.Thread | None = None

    # --- what others see of it ----------------------------------------------------------------------

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def ip(self) -> str:
        return self.around.ip

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.manifest["metadata"].get("labels", {}))

    def port(self, name: str | int) -> int:
        return port_of(self.container, name)

    def url(self, port: str | int) -> str:
        """Where a port of its own is reached."""
        return f"http://{self.ip}:{self.port(port)}"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def said(self) -> str:
        """The end of what it has printed."""
        return self.output.read_text(errors="replace")[-SAID_CHARS_MAX:] if self.output.exists() else ""

    def facts(self, fact: str) -> list[dict[str, Any]]:
        """The log lines that say so."""
        lines = [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["fact"] == fact]

    # --- its life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and return; the kubelet's thread looks after it from then on."""
        self._begin()
        self._kubelet = threading.Thread(target=self._look_after, name=f"kubelet of {self.name}", daemon=True)
        self._kubelet.start()

    def run(self) -> int:
        """Run it to its end, as a Job's pod; its exit code."""
        self._begin()
        assert self.popen is not None
        try:
            return self.popen.wait(ENDS_WITHIN_S)
        finally:
            self.kill()

    def end(self) -> None:
        """End it as Kubernetes does, and return when it has ended."""
        assert self.popen is not None
        now_s = time.monotonic()
        self.withdrawn_from_s = now_s + HEARD_AFTER_S
        ends_s = now_s + float(self.manifest["spec"].get("terminationGracePeriodSeconds", GRACE_S))
        self._over.set()
        self._before_stop()
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            code = self.popen.wait(max(ends_s - time.monotonic(), 0.0))
            if code:
                self._problem(f"exit code {code} when it was told to stop")
        except subprocess.TimeoutExpired:
            self._problem("it had to be killed: terminationGracePeriodSeconds were over")
        self.kill()
        self.ready = False

    def kill(self) -> None:
        """Whatever it is doing."""
        self._over.set()
        if self.popen is not None and self.popen.poll() is None:
            self.popen.kill()
        if self.popen is not None:
            self.popen.wait(30)
        if self._kubelet is not None:
            self._kubelet.join(60)
        shutil.rmtree(self.folder / "volumes", ignore_errors=True)

    def _begin(self) -> None:
        self.folder.mkdir(parents=True)
        spec = self.manifest["spec"]
        context = spec.get("securityContext", {})
        volumes = PodVolumes(self.around.store, self.folder / "volumes", context.get("fsGroup"), self.claims)
        self.around.volumes.update(volumes.made(spec.get("volumes", [])))
        for container in spec.get("initContainers", []):
            if container.get("restartPolicy"):
                raise NotUnderstood(f"pod {self.name}: a sidecar")
            code = self._popen(process_of(container, self.around)).wait(ENDS_WITHIN_S)
            assert code == 0, f"pod {self.name}, init container {container['name']}: exit code {code}\n{self.said()}"
        self.process = process_of(self.container, self.around)
        self.popen = self._popen(self.process)

    def _popen(self, process: Process) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as told:
            return subprocess.Popen(process.line, cwd=process.cwd, env=process.environ, stdout=told, stderr=told)

    def _before_stop(self) -> None:
        lifecycle = self.container.get("lifecycle", {})
        only("lifecycle", lifecycle, ("preStop",))
        hook = lifecycle.get("preStop", {"sleep": {"seconds": 0}})
        only("preStop", hook, ("sleep",))
        time.sleep(hook["sleep"]["seconds"])

    def _look_after(self) -> None:
        """The kubelet's work: probes, and whether it still runs."""
        startup, readiness, liveness = (
            Probe.of(kind, self.container, self.ip) for kind in ("startupProbe", "readinessProbe", "livenessProbe")
        )
        assert self.popen is not None
        started, looked_s = startup is None, 0.0
        while not self._over.wait(LOOK_S if not self.ready else LIVE_LOOK_S / 2):
            if self.popen.poll() is not None and not self._over.is_set():
                self._problem(f"it ended by itself with exit code {self.popen.returncode}")
                return
            if startup is not None and not started:
                started = startup.succeeds()
                self._failed(startup)
                for probe in (readiness, liveness):
                    if probe is not None:
                        probe.since_s = time.monotonic()
                if not started:
                    continue
            self.ready = (readiness is None or readiness.succeeds()) or (self.ready and not readiness.has_failed)
            if liveness is not None and time.monotonic() - looked_s > LIVE_LOOK_S:
                looked_s = time.monotonic()
                liveness.succeeds()
                self._failed(liveness)

    def _failed(self, probe: Probe) -> None:
        if probe.has_failed and not self._over.is_set():
            self._problem(f"its {probe.kind} has failed for {probe.patience_s:.0f} s: {probe.url}")
            probe.since_s = time.monotonic()

    def _problem(self, what: str) -> None:
        self.ready = False
        self.problems.append(f"pod {self.name}: {what}\n{self.said()}")

    def check(self) -> None:
        """Raise AssertionError where it has done wrong."""
        assert not self.problems, "\n".join(self.problems)


def answer_of(url: str, timeout_s: float = 30.0) -> tuple[int, str]:
    """Status and text of a GET; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            return error.code, error.read().decode()
    except OSError:
        return 0, ""
