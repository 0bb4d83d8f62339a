"""The volumes of a pod as folders, with what Kubernetes puts into them, laid out and with modes as it does.

    secret, configMap   files behind links: shop.py -> ..data/shop.py, ..data -> ..2026; the modes that are asked for
    emptyDir            an empty folder of the pod
    persistentVolumeClaim, and claims of a StatefulSet   a folder of the cluster: it outlives the pod

The image's user must be able to read them: files belong to root and to the pod's ``fsGroup``, so one that only its
owner may read is refused here, although a test may run as root.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.pods.strict import CannotStart, Manifest, NotUnderstood, only

Content = Mapping[str, bytes]
MODE = 0o644
GROUP_READS = 0o440
"""What Kubernetes adds to each file of a volume where the pod has an ``fsGroup``."""


@dataclass(slots=True)
class Store:
    """The Secrets, ConfigMaps and claims of a namespace."""

    folder: Path
    secrets: dict[str, Content] = field(default_factory=dict)
    config_maps: dict[str, Content] = field(default_factory=dict)

    def content(self, kind: str, name: str, *, optional: bool = False) -> Content | None:
        """The entries of a ``secret`` or ``configMap``; None for an optional one that is not there."""
        held = {"secret": self.secrets, "configMap": self.config_maps}[kind]
        if name not in held and not optional:
            raise CannotStart(f"{kind.lower()} {name!r} not found")
        return held.get(name)

    def entry(self, kind: str, reference: Manifest) -> str | None:
        """The text that a ``secretKeyRef`` or ``configMapKeyRef`` names."""
        only(f"{kind}KeyRef", reference, ("name", "key", "optional"))
        optional = bool(reference.get("optional"))
        content = self.content(kind, reference["name"], optional=optional)
        if content is None or reference["key"] not in content:
            if optional:
                return None
            raise CannotStart(f"couldn't find key {reference['key']} in {kind} {reference['name']}")
        return content[reference["key"]].decode()

    def claim(self, name: str) -> Path:
        """The folder of a claim, made the first time."""
        folder = self.folder / "claims" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True, slots=True)
class PodVolumes:
    """The volumes of one pod. ``claims``: of its StatefulSet, by the volume's name."""

    store: Store
    folder: Path
    fs_group: int | None
    claims: Mapping[str, str]

    def made(self, volumes: list[Manifest]) -> dict[str, Path]:
        """Each volume's folder, by its name."""
        folders = {name: self.store.claim(claim) for name, claim in self.claims.items()}
        for volume in volumes:
            folder = self.folder / volume["name"]
            (kind,) = set(volume) - {"name"}
            folders[volume["name"]] = self._made(kind, volume[kind] or {}, folder)
        return folders

    def _made(self, kind: str, source: Manifest, folder: Path) -> Path:
        if kind == "persistentVolumeClaim":
            only(kind, source, ("claimName",))
            return self.store.claim(source["claimName"])
        folder.mkdir(parents=True)
        if kind == "emptyDir":
            only(kind, source, (), ("sizeLimit", "medium"))
        elif kind in ("secret", "configMap"):
            self._fill(folder, self._files(kind, source), source.get("defaultMode", MODE))
        elif kind == "projected":
            only(kind, source, ("sources", "defaultMode"))
            files: dict[str, tuple[bytes, int | None]] = {}
            for each in source["sources"]:
                ((one, inner),) = each.items()
                files |= self._files(
                    one, {"secretName" if one == "secret" and k == "name" else k: v for k, v in inner.items()}
                )
            self._fill(folder, files, source.get("defaultMode", MODE))
        else:
            raise NotUnderstood(f"a volume of kind {kind}")
        return folder

    def _files(self, kind: str, source: Manifest) -> dict[str, tuple[bytes, int | None]]:
        name = "secretName" if kind == "secret" else "name"
        only(kind, source, (name, "items", "defaultMode", "optional"))
        content = self.store.content(kind, source[name], optional=bool(source.get("optional")))
        if content is None:
            return {}
        if "items" not in source:
            return {key: (value, None) for key, value in content.items()}
        files: dict[str, tuple[bytes, int | None]] = {}
        for item in source["items"]:
            only("items", item, ("key", "path", "mode"))
            if item["key"] not in content:
                raise CannotStart(f"references non-existent {kind.lower()} key: {item['key']}")
            files[item["path"]] = (content[item["key"]], item.get("mode"))
        return files

    def _fill(self, folder: Path, files: Mapping[str, tuple[bytes, int | None]], default_mode: int) -> None:
        held = folder / "..2026"
        held.mkdir()
        (folder / "..data").symlink_to("..2026")
        for name, (content, mode) in files.items():
            bits = default_mode if mode is None else mode
            bits |= GROUP_READS if self.fs_group is not None else 0
            if not bits & (stat.S_IROTH if self.fs_group is None else stat.S_IRGRP):
                raise CannotStart(f"{folder.name}/{name} has the mode {bits:o}: the image's user cannot read it")
            path = held / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(bits)
            top = Path(name).parts[0]
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(f"..data/{top}")


def mounted(mounts: list[Manifest], folders: Mapping[str, Path]) -> dict[str, Path]:
    """The folder or file behind each mount path of a container."""
    found: dict[str, Path] = {}
    for mount in mounts:
        only("volumeMounts", mount, ("name", "mountPath", "subPath", "readOnly"))
        if mount["name"] not in folders:
            raise CannotStart(f"volumeMounts: no volume is named {mount['name']!r}")
        found[mount["mountPath"]] = folders[mount["name"]] / mount.get("subPath", "")
        if mount.get("subPath") and not found[mount["mountPath"]].exists():
            found[mount["mountPath"]].mkdir(parents=True)  # As the kubelet does.
    return found


def entries(values: Mapping[str, Any]) -> Content:
    """Texts as the bytes that Kubernetes keeps."""
    return {name: value if isinstance(value, bytes) else str(value).encode() for name, value in values.items()}
