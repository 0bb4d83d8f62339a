"""Images without a daemon and without a registry: Debian's buildah, with all it makes in one folder.

    store = Store(folder)
    store.build("millstream:0.1.0", project)      its Dockerfile; the base is made of Debian's packages
    store.buildah("inspect", "--type", "image", "millstream:0.1.0")

Isolation is chroot's and the storage driver vfs, which work wherever root may mount: no daemon, no user namespaces, no
overlay file system. Where buildah and debootstrap are missing they are installed by apt-get; who is not root on a
Debian is told what is missing.

What the build needs to reach a package index here (pip's settings, certificates) is handed over as build secrets: files
that exist during one RUN and in no layer. Proxies in the environment are passed on by buildah itself.
"""

from __future__ import annotations

import ast
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUITE = "bookworm"
"""The release of Debian whose packages make the base: its Python is the oldest that millstream runs on."""
PACKAGES = ("python3", "python3-venv")
NOT_IN_A_BASE = (
    *("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man", "usr/share/locale"),
    *("etc/resolv.conf", "etc/hostname"),  # debootstrap copies these two from the machine that it runs on.
)
TOOLS = {"buildah": "buildah", "debootstrap": "debootstrap"}
BASE = "millstream-base"
LIMIT_S = 1_200
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
CERTIFICATES = "/run/secrets/ca.pem"


class Missing(Exception):
    """Something has to be installed first; the message says what, and how. Exit code 3."""


class Failed(Exception):
    """A command did not do what it should; the message quotes it. Exit code 1."""


class Store:
    """Images and containers in one folder; ``clear`` removes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if os.geteuid() != 0:
            raise Missing("images are built with chroot isolation, which only root may do: run this as root")
        _install_tools()
        folder.mkdir(parents=True, exist_ok=True)

    def buildah(self, *arguments: str) -> str:
        """Run it in this store; what it printed. Raises Failed with the end of what it said."""
        command = ["buildah", "--root", str(self.folder / "images"), "--runroot", str(self.folder / "run")]
        kept = cache() / "buildah"  # Where pip keeps what it fetched, for the next build.
        kept.mkdir(parents=True, exist_ok=True)
        return _run([*command, "--storage-driver", "vfs", *arguments], TMPDIR=str(kept))

    def base(self) -> str:
        """The name of the base image: Debian's smallest with Python."""
        if not self._has(BASE):
            container = self.buildah("from", "scratch").strip()
            self.buildah("add", "--quiet", container, str(_base_files()), "/")
            self.buildah("commit", "--quiet", "--rm", container, BASE)
        return BASE

    def build(self, tag: str, context: Path, *, file: Path | None = None, base: str = "") -> None:
        """Build a folder's Dockerfile, or ``file`` on that folder, as ``tag``; ``base`` "": the base image above."""
        with _secrets() as secrets:
            self.buildah(
                *("bud", "--isolation", "chroot", "--pull-never", *secrets),
                *("--build-arg", f"BASE_IMAGE={base or self.base()}"),
                *("--file", str(file or context / "Dockerfile"), "--tag", tag, str(context)),
            )

    def clear(self) -> None:
        """Remove the folder, with every image and container. Raises Failed where something is mounted in it."""
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        if any(Path(place).is_relative_to(self.folder) for place in mounted):
            raise Failed(f"something is still mounted in {self.folder}: see /proc/self/mounts")
        shutil.rmtree(self.folder)

    def _has(self, image: str) -> bool:
        return bool(self.buildah("images", "--quiet", "--filter", f"reference={image}").strip())


def cache() -> Path:
    """Where downloads are kept over runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millstream"


def _install_tools() -> None:
    lacking = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if not lacking:
        return
    if shutil.which("apt-get") is None:
        raise Missing(f"{' and '.join(lacking)} are needed, and there is no apt-get to install them by")
    print(f"installing {' and '.join(lacking)} by apt-get, once", file=sys.stderr, flush=True)
    _run(["apt-get", "update", "-qq"])
    packages = [*lacking, "debian-archive-keyring", "ca-certificates"]
    _run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages], DEBIAN_FRONTEND="noninteractive")


def _base_files() -> Path:
    """An archive with the base's files, made once for this machine. About 40 s, and 40 MB to fetch."""
    archive = cache() / f"debian-{SUITE}-{platform.machine()}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            print(f"making a base of Debian's packages, once, into {archive}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=archive.parent) as made:
                _make_base(Path(made) / "root", Path(made) / "base.tar")
                (Path(made) / "base.tar").rename(archive)
    return archive


def _make_base(root: Path, archive: Path) -> None:
    mirror = [os.environ["DEBIAN_MIRROR"]] if os.environ.get("DEBIAN_MIRROR") else []
    _run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root), *mirror])
    (root / "etc" / "apt" / "sources.list").unlink(missing_ok=True)  # It names the mirror that this machine uses.
    for path in NOT_IN_A_BASE:
        if (root / path).is_dir():
            shutil.rmtree(root / path)
            (root / path).mkdir()
        else:
            (root / path).unlink(missing_ok=True)
    _run(["tar", "--create", "--numeric-owner", "--directory", str(root), "--file", str(archive), "."])


@contextmanager
def _secrets() -> Iterator[list[str]]:
    """buildah's options for the secrets of a build: `pip.conf` and `ca.pem`, each where this machine has any."""
    settings = _pip_settings()
    certificates = settings.pop("cert", "") or os.environ.get("SSL_CERT_FILE", "")
    options: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        if certificates:
            settings["cert"] = CERTIFICATES
            options += ["--secret", f"id=ca.pem,src={certificates}"]
        if settings:
            conf = Path(folder) / "pip.conf"
            conf.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
            options += ["--secret", f"id=pip.conf,src={conf}"]
        yield options


def _pip_settings() -> dict[str, str]:
    """Those of this machine's pip that say how to reach an index; the environment's win, as they do for pip."""
    listed = _run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    settings: dict[str, str] = {}
    for line in sorted(listed, key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        short = name.rpartition(".")[2]
        if short in (*PIP_SETTINGS, "cert"):
            settings[short] = str(ast.literal_eval(value))
    return settings


def _run(command: list[str], **environment: str) -> str:
    try:
        ran = subprocess.run(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"not done within {LIMIT_S} s: {' '.join(command)}") from None
    if ran.returncode:
        last = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-20:])
        raise Failed(f"exit code {ran.returncode}: {' '.join(command)}\nIt said:\n{last}")
    return ran.stdout
