"""A compose file run without containers: each service is a process of this machine, on a loopback address of its own.

    with Project(ROOT / "docker-compose.yml", folder, stand_ins={"kafka": start_broker}) as project:
        project.up()                                    in the order of depends_on, until all are healthy
        project.execute("api", "millstream", "runs", "list")
        project.stop()                                  exit codes, each within its stop_grace_period

What a container would give a service, a process gets so:

    its image's entrypoint and PATH     from the Dockerfile; `millstream` and what it copies to the PATH
    an address for each replica         127.a.b.n: so every port stays as it is written
    names of services, 0.0.0.0          the addresses, where they stand in commands and variables
    a published port, 127.0.0.1:p       the address and the port behind it
    volumes, named, anonymous, bound    folders; their paths, where they stand in commands and variables

Healthchecks run as they are written, in the service's own environment; conditions of depends_on are waited for.
Variables are interpolated from ``variables`` alone. A service that ends without having been told to, or that is not
healthy in time, is an error with its output. Not done: building, restarting, rights (read_only, cap_drop), limits.
Linux only: elsewhere 127.0.0.1 is the only loopback address.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import ROOT

yaml = pytest.importorskip("yaml", reason="pip install '.[chart]'")
VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<how>:?[-?+])(?P<other>[^}]*))?\})")
DURATION = re.compile(r"(?:(\d+)m)?(?:(\d+)s)?")
LOOK_S = 0.2
WAIT_S = 120.0
HEALTH_DEFAULTS = {"interval": "30s", "timeout": "30s", "start_period": "0s", "retries": 3}


@dataclass
class Replica:
    """One process of a service. ``environment`` and ``line`` are translated."""

    service: str
    address: str
    folders: dict[str, Path]
    line: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    log: Path = Path()
    popen: subprocess.Popen[bytes] | None = None

    def said(self) -> str:
        """The end of its output."""
        return f"--- {self.service} {self.address}\n{self.log.read_text(errors='replace')[-6_000:]}"


StandIn = Callable[[Replica, Path], subprocess.Popen[bytes]]
"""Starts what a service's foreign image would run, in a folder; its process."""


class Project:
    """See the module. ``only`` names services, also of profiles; else all without a profile. Leaving it kills them."""

    def __init__(
        self,
        file: Path,
        folder: Path,
        *,
        stand_ins: Mapping[str, StandIn] | None = None,
        variables: Mapping[str, str] | None = None,
        only: Collection[str] = (),
    ) -> None:
        self.file, self.folder, self.stand_ins = file, folder, stand_ins or {}
        document = interpolated(yaml.safe_load(file.read_text(encoding="utf-8")), variables or {})
        every: dict[str, dict[str, Any]] = document["services"]
        self.services = {name: one for name, one in every.items() if (name in only if only else "profiles" not in one)}
        self.image = Image.read(ROOT / "Dockerfile")
        self.replicas: list[Replica] = []
        self._waves: list[list[str]] = []
        self._net = f"127.{random.randint(16, 250)}.{random.randint(0, 250)}"
        self._programs = self._linked_programs()
        for name, service in self.services.items():
            for _ in range(service.get("deploy", {}).get("replicas", 1)):
                self.replicas.append(self._replica(name, service))
        for replica in self.replicas:
            self._translate(replica)

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self.replicas:
            if replica.popen is not None and replica.popen.poll() is None:
                replica.popen.kill()
                replica.popen.wait(WAIT_S)

    def of(self, service: str) -> list[Replica]:
        """A service's replicas."""
        return [replica for replica in self.replicas if replica.service == service]

    # --- up, exec, stop -----------------------------------------------------------------------------

    def up(self) -> None:
        """Start all in the order of depends_on; return when those with a healthcheck are healthy."""
        left = set(self.services)
        while left:
            able = [name for name in self.services if name in left and left.isdisjoint(self._depends_on(name))]
            assert able, f"they depend on each other: {left}"
            for name in able:
                for other, how in self._depends_on(name).items():
                    CONDITIONS[how["condition"]](self, other)
                for replica in self.of(name):
                    self._start(replica)
            self._waves.append(able)
            left.difference_update(able)
        for name in self.services:
            if self.healthcheck(name):
                self.wait_until_healthy(name)

    def execute(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as `docker compose exec` does, in the first replica."""
        return self._inside(self.of(service)[0], list(command), WAIT_S)

    def stop(self) -> dict[str, list[int]]:
        """SIGTERM to all, in the reverse order; exit codes by service.

        Raises TimeoutExpired for one that takes longer than its stop_grace_period.
        """
        codes: dict[str, list[int]] = {}
        for wave in reversed(self._waves):
            running = [name for name in wave if any(_process(replica).poll() is None for replica in self.of(name))]
            for name in running:
                for replica in self.of(name):
                    _process(replica).send_signal(signal.SIGTERM)
            for name in running:
                grace_s = seconds(self.services[name].get("stop_grace_period", "10s"))
                codes[name] = [_process(replica).wait(grace_s) for replica in self.of(name)]
        return codes

    def _depends_on(self, name: str) -> dict[str, dict[str, str]]:
        return dict(self.services[name].get("depends_on", {}))

    # --- conditions and health ----------------------------------------------------------------------

    def healthcheck(self, name: str) -> dict[str, Any]:
        """A service's, with Compose's defaults; {} for none."""
        check = self.services[name].get("healthcheck", {})
        return {} if not check or check.get("disable") else HEALTH_DEFAULTS | check

    def wait_until_healthy(self, name: str) -> None:
        """Each replica's check has succeeded; raises when it failed ``retries`` times after its start period."""
        check = self.healthcheck(name)
        assert check, f"nothing can wait for {name} to be healthy: it has no healthcheck"
        kind, *command = check["test"]
        assert kind == "CMD", f"{name}: a healthcheck of kind {kind} is not known here"
        for replica in self.of(name):
            begun, failures = time.monotonic(), 0
            while True:
                self._must_run(replica)
                ran = self._inside(replica, command, seconds(check["timeout"]))
                if ran.returncode == 0:
                    break
                failures += time.monotonic() - begun > seconds(check["start_period"])
                said = f"{ran.stdout}{ran.stderr}\n{replica.said()}"
                assert failures < check["retries"], (
                    f"{name} is unhealthy: {command} ended with {ran.returncode}: {said}"
                )
                time.sleep(min(LOOK_S, seconds(check["interval"])))

    def wait_until_completed(self, name: str) -> None:
        """It ended with 0."""
        for replica in self.of(name):
            code = _process(replica).wait(WAIT_S)
            assert code == 0, f"exit code {code}\n{replica.said()}"

    def wait_until_started(self, name: str) -> None:
        """It runs."""
        for replica in self.of(name):
            self._must_run(replica)

    def _must_run(self, replica: Replica) -> None:
        code = _process(replica).poll()
        assert code is None, f"ended by itself with {code}\n{replica.said()}"

    # --- one replica --------------------------------------------------------------------------------

    def _replica(self, name: str, service: dict[str, Any]) -> Replica:
        address = f"{self._net}.{len(self.replicas) + 1}"
        replica = Replica(name, address, {}, log=self.folder / f"{address}-{name}.log")
        own = self.folder / address
        inside = Path(self.image.directory)
        (own / inside.relative_to("/")).mkdir(parents=True)
        replica.folders[str(inside)] = own / inside.relative_to("/")
        for volume in sorted(service.get("volumes", []), key=lambda volume: volume.count("/")):
            source, target, *_ = [*volume.split(":"), ""] if ":" in volume else ["", volume, ""]
            if source.startswith("."):
                _link(self.file.parent / source, self._placed(replica, target))
                continue
            place = self.folder / "volumes" / (source or f"{address}{target.replace('/', '-')}")
            place.mkdir(parents=True, exist_ok=True)
            replica.folders[target] = place
        return replica

    def _placed(self, replica: Replica, target: str) -> Path:
        """Where a path of the container is here."""
        for mounted in sorted(replica.folders, key=len, reverse=True):
            if Path(target).is_relative_to(mounted):
                return replica.folders[mounted] / Path(target).relative_to(mounted)
        raise AssertionError(f"{target} is in no volume of {replica.service}")

    def _translate(self, replica: Replica) -> None:
        service = self.services[replica.service]
        ours = "build" in service
        given = {name: str(value) for name, value in service.get("environment", {}).items()}
        path = os.pathsep.join([str(self._programs), os.environ["PATH"]])
        base = self.image.environment | {"PATH": path, "PYTHONPATH": str(ROOT / "platform")} if ours else {"PATH": path}
        replica.environment = base | {name: self.translated(value, replica) for name, value in given.items()}
        line = [*service.get("entrypoint", self.image.entrypoint if ours else []), *service.get("command", [])]
        replica.line = [self.translated(word, replica) for word in line]

    def translated(self, text: str, replica: Replica, *, inside: bool = False) -> str:
        """A word or a value, as it must be here. ``inside``: 127.0.0.1 is the replica itself, not this machine."""
        if inside:
            text = text.replace("127.0.0.1", replica.address)
        for name, service in self.services.items():
            address = self.of(name)[0].address
            text = re.sub(rf"(?<![\w.-]){name}(?=[:/]\d)", address, text)
            for port in service.get("ports", []):
                host, published, target = port.split(":")
                text = re.sub(rf"{re.escape(host)}:{published}(?!\d)", f"{address}:{target}", text)
        text = re.sub(r"(?<![\d.])0\.0\.0\.0(?![\d.])", replica.address, text)
        text = re.sub(r"(?<=://):(?=\d)", f"{replica.address}:", text)  # Kafka's way to say every address.
        mounted = "|".join(re.escape(path) for path in sorted(replica.folders, key=len, reverse=True))
        return re.sub(rf"(?<![\w./-])({mounted})(?=/|$)", lambda found: str(replica.folders[found[1]]), text)

    def _start(self, replica: Replica) -> None:
        if replica.service in self.stand_ins:
            replica.popen = self.stand_ins[replica.service](replica, self.folder / replica.address)
            return
        with replica.log.open("ab") as log:
            replica.popen = subprocess.Popen(
                replica.line,
                cwd=replica.folders[self.image.directory],
                env=replica.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _inside(self, replica: Replica, command: list[str], limit_s: float) -> subprocess.CompletedProcess[str]:
        """Run a command beside a replica. What it asks at 127.0.0.1 by default, it asks at the replica's address."""
        own = {"MILLSTREAM_URL": f"http://{replica.address}:8288"} if "build" in self.services[replica.service] else {}
        return subprocess.run(
            [self.translated(word, replica, inside=True) for word in command],
            cwd=replica.folders[self.image.directory],
            env=own | replica.environment,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    def _linked_programs(self) -> Path:
        """A folder with what the image adds to the PATH: millstream, and the files that it copies to /usr/local/bin."""
        folder = self.folder / "bin"
        folder.mkdir(parents=True)
        millstream = folder / "millstream"
        millstream.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m millstream "$@"\n')
        millstream.chmod(0o755)
        for source, target in self.image.copied:
            if target.startswith("/usr/local/bin/"):
                _link(ROOT / source, folder / Path(target).name)
        return folder


CONDITIONS: dict[str, Callable[[Project, str], None]] = {
    "service_healthy": Project.wait_until_healthy,
    "service_completed_successfully": Project.wait_until_completed,
    "service_started": Project.wait_until_started,
}


@dataclass(frozen=True)
class Image:
    """What the last stage of a Dockerfile says to who runs it."""

    entrypoint: list[str]
    environment: dict[str, str]
    directory: str
    copied: list[tuple[str, str]]
    """Files of the project, and where they are in the image."""

    @staticmethod
    def read(dockerfile: Path) -> Image:
        """Its instructions; each that is read here stands on one line."""
        stage = dockerfile.read_text(encoding="utf-8").rpartition("\nFROM ")[2]

        def all_of(instruction: str) -> list[str]:
            return re.findall(rf"^{instruction} (.*)$", stage, re.M)

        variables = dict(word.split("=", 1) for line in all_of("ENV") for word in line.split())
        copied = [line.split() for line in all_of("COPY") if not line.startswith("--from")]
        return Image(
            json.loads(all_of("ENTRYPOINT")[-1]),
            variables,
            all_of("WORKDIR")[-1],
            [(source, target) for source, target in copied],
        )


def interpolated(node: Any, variables: Mapping[str, str]) -> Any:
    """A document with Compose's variables replaced: ${A}, ${A:-b}, ${A-b}, ${A:?why}, ${A:+b}, $$."""
    if isinstance(node, dict):
        return {name: interpolated(value, variables) for name, value in node.items()}
    if isinstance(node, list):
        return [interpolated(value, variables) for value in node]
    return VARIABLE.sub(lambda found: _value(found, variables), node) if isinstance(node, str) else node


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    name, how, other = found["name"], found["how"] or "", found["other"] or ""
    if name is None:
        return "$"
    value = variables.get(name)
    given = bool(value) if how.startswith(":") else value is not None
    match how[-1:]:
        case "?":
            assert given, f"{name}: {other}"
        case "-" if not given:
            return other
        case "+":
            return other if given else ""
    return value or ""


def seconds(duration: str) -> float:
    """Of a duration as Compose writes it: 90s, 1m30s."""
    found = DURATION.fullmatch(duration)
    assert found and duration, duration
    return 60.0 * int(found[1] or 0) + int(found[2] or 0)


def _link(source: Path, place: Path) -> None:
    assert source.exists(), f"{source} is bound or copied, and is not there"
    if not place.is_symlink():  # Two replicas share a volume in which it is bound.
        place.symlink_to(source.resolve())


def _process(replica: Replica) -> subprocess.Popen[bytes]:
    assert replica.popen is not None, f"{replica.service} was not started"
    return replica.popen
