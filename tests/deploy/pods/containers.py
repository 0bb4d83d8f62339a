"""A container as the command line and environment of a local process, exactly as it was rendered.

What differs from Kubernetes is this, and nothing else:

    a pod's address          0.0.0.0 becomes an address of its own on this machine, 127.x.y.z: ports stay as they are
    a mount path             becomes the volume's folder, in arguments and in values of variables; /tmp is TMPDIR, too
    the image's folder       /app is a copy of the image's; ``millstream`` is this checkout's
    a Service's name         becomes its address; names outside the cluster become what the test says (``hosts``)

Any other absolute path is an error: in the image's file system it would not be there, or could not be written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.pods.strict import CannotStart, Manifest, NotUnderstood, only
from tests.deploy.pods.volumes import Store, mounted

ROOT = Path(__file__).resolve().parents[3]
EVERY_ADDRESS = re.compile(r"(?<![\w.])0\.0\.0\.0(?![\w.])|\[::\]")
ABSOLUTE = re.compile(r"(?<![\w.:/@-])/[\w.+@-][\w.+@/-]*")
REFERENCE = re.compile(r"\$\$|\$\(([\w.-]+)\)")
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Image:
    """What a Dockerfile makes, as far as a process feels it. ``files``: what it has in its working directory."""

    files: Path
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    workdir: str
    user: int
    environ: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def ours(files: Path) -> Image:
        """Made `FROM millstream`, with these files copied in."""
        last = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
        words = dict(re.findall(r"^(USER|WORKDIR) (\S+)$", last, re.MULTILINE))
        lists = {
            name: tuple(re.findall(r'"([^"]*)"', text))
            for name, text in re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", last, re.M)
        }
        variables = dict(pair.split("=", 1) for line in re.findall(r"^ENV (.+)$", last, re.M) for pair in line.split())
        variables.pop("PATH")
        return Image(files, lists["ENTRYPOINT"], lists["CMD"], words["WORKDIR"], int(words["USER"]), variables)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container is put into."""

    store: Store
    image: Image
    pod: Manifest
    """Its metadata and spec."""
    ip: str
    links: Mapping[str, str]
    """The variables of all Services, for a pod that asks for them."""
    names: Mapping[str, str]
    """Addresses of this machine by names in the cluster and outside."""
    volumes: dict[str, Path] = field(default_factory=dict)
    """Folders by the volumes' names."""

    @property
    def fields(self) -> dict[str, str]:
        """What a ``fieldRef`` can name."""
        metadata = self.pod["metadata"]
        known = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": f"uid-of-{metadata['name']}",
            "status.podIP": self.ip,
            "status.hostIP": "127.0.0.1",
            "spec.nodeName": "node",
            "spec.serviceAccountName": self.pod["spec"].get("serviceAccountName", "default"),
        }
        for kind in ("labels", "annotations"):
            known |= {f"metadata.{kind}['{name}']": value for name, value in metadata.get(kind, {}).items()}
        return known


@dataclass(frozen=True, slots=True)
class Process:
    """What to start."""

    line: list[str]
    environ: dict[str, str]
    cwd: Path
    rendered: tuple[str, ...]
    """The words as the manifest has them, for what is checked against millstream's own tables."""
    variables: dict[str, str]
    """The container's own variables, likewise."""


def process_of(container: Manifest, around: Surroundings) -> Process:
    """The process that a container is."""
    only(
        f"container {container['name']}",
        container,
        ("name", "image", "command", "args", "workingDir", "env", "envFrom", "ports", "volumeMounts",
         "startupProbe", "livenessProbe", "readinessProbe", "lifecycle"),
        # The scheduler's, the kubelet's and the kernel's; tests/deploy/test_chart.py looks at them as data.
        ("imagePullPolicy", "resources", "securityContext", "terminationMessagePolicy"),
    )  # fmt: skip
    variables = _variables(container, around)
    mounts = mounted(container.get("volumeMounts", []), around.volumes)
    words = tuple(_expanded(word, variables) for word in _words(container, around.image))
    places = mounts if around.image.workdir in mounts else {**mounts, around.image.workdir: around.image.files}
    moved = _Moved(places, around)
    program, *rest = words
    environ = {"PATH": DEFAULT_PATH, "HOSTNAME": around.pod["metadata"]["name"], **around.image.environ}
    environ |= {name: moved(value) for name, value in variables.items()}
    ours = (str(ROOT / "platform"), environ.get("PYTHONPATH", ""))
    environ |= {
        "PYTHONPATH": ":".join(each for each in ours if each),
        "PYTHONDONTWRITEBYTECODE": "1",  # The file system is read-only.
        "TMPDIR": str(mounts.get("/tmp", around.image.files / "no-tmp-is-mounted")),
    }
    cwd = Path(moved(container.get("workingDir", around.image.workdir)))
    return Process([*program_of(program), *map(moved, rest)], environ, cwd, words, variables)


def _words(container: Manifest, image: Image) -> list[str]:
    command = container.get("command")
    arguments = container.get("args")
    if command is None:
        return [*image.entrypoint, *(image.command if arguments is None else arguments)]
    return [*command, *(arguments or ())]  # The image's own command does not count then.


def program_of(name: str) -> list[str]:
    """The words that call a program of the image here."""
    if name == "millstream":
        return [sys.executable, "-P", "-m", "millstream"]
    raise NotUnderstood(f"the program {name}: the image's entry point is millstream")


def _variables(container: Manifest, around: Surroundings) -> dict[str, str]:
    found: dict[str, str] = {}
    if around.pod["spec"].get("enableServiceLinks", True):
        found |= around.links
    for source in container.get("envFrom", []):
        only("envFrom", source, ("prefix", "secretRef", "configMapRef"))
        for kind in ("secret", "configMap"):
            if reference := source.get(f"{kind}Ref"):
                only(f"{kind}Ref", reference, ("name", "optional"))
                held = around.store.content(kind, reference["name"], optional=bool(reference.get("optional")))
                found |= {source.get("prefix", "") + name: value.decode() for name, value in (held or {}).items()}
    for each in container.get("env", []):
        only("env", each, ("name", "value", "valueFrom"))
        value = _expanded(each.get("value") or "", found) if "valueFrom" not in each else _from(each, around)
        if value is not None:
            found[each["name"]] = value
    return found


def _from(variable: Manifest, around: Surroundings) -> str | None:
    ((kind, reference),) = variable["valueFrom"].items()
    if kind == "fieldRef":
        only("fieldRef", reference, ("fieldPath", "apiVersion"))
        if reference["fieldPath"] not in around.fields:
            raise CannotStart(f"unsupported fieldPath: {reference['fieldPath']}")
        return around.fields[reference["fieldPath"]]
    if kind in ("secretKeyRef", "configMapKeyRef"):
        return around.store.entry(kind.removesuffix("KeyRef"), reference)
    raise NotUnderstood(f"the variable {variable['name']}: {kind}")


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` as Kubernetes replaces it: an unknown one stays as it is, ``$$`` is a dollar."""

    def one(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1], found[0])

    return REFERENCE.sub(one, text)


@dataclass(frozen=True, slots=True)
class _Moved:
    """Texts with the addresses and paths of this machine."""

    places: Mapping[str, Path]
    around: Surroundings

    def __call__(self, text: str) -> str:
        for name in sorted(self.around.names, key=len, reverse=True):
            # Only with a port: a group may be called as a Service is.
            behind = r"(?!\d)" if ":" in name else r"(?=:\d)"
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}{behind}", self.around.names[name], text)
        return ABSOLUTE.sub(self._place, EVERY_ADDRESS.sub(self.around.ip, text))

    def _place(self, found: re.Match[str]) -> str:
        path = found[0]
        for mount in sorted(self.places, key=len, reverse=True):
            if path == mount or path.startswith(f"{mount}/"):
                return str(self.places[mount]) + path[len(mount) :]
        raise NotUnderstood(
            f"the path {path} is in no volume of the pod, and not in the image's {self.around.image.workdir}"
        )
