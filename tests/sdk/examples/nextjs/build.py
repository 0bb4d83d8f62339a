"""examples/nextjs as `next build` makes it: built once for its files and its packages, and kept beside the packages."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.sdk.rig.npm import installed
from tests.sdk.rig.processes import ROOT

EXAMPLE: Final = ROOT / "examples" / "nextjs"
NEXT: Final = "../node_modules/next/dist/bin/next"
QUIET: Final = {"NEXT_TELEMETRY_DISABLED": "1"}
BUILD_S: Final = 600.0
NOT_BUILT: Final = ("node_modules", ".next", ".site", "next-env.d.ts", "README.md", "package-lock.json")
"""The lock file is beside the packages, one folder above: Next.js takes its place for the root of the project."""


def run_in(folder: Path) -> Path:
    """A built site below this folder, which may be run and written to."""
    packages = installed(EXAMPLE)
    shutil.copytree(_built(packages), folder / "site", symlinks=True)
    (folder / "node_modules").symlink_to(packages / "node_modules")  # Above it, as where it was built.
    return folder / "site"


def _built(packages: Path) -> Path:
    """The site, built; below its packages."""
    kept = packages / f"site-{_digest()}"
    done = packages / f"{kept.name}.complete"
    with (packages / f"{kept.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # One process at a time builds.
        if not done.exists():
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(EXAMPLE, kept, ignore=shutil.ignore_patterns(*NOT_BUILT))
            _build(kept)
            shutil.rmtree(kept / ".next" / "cache", ignore_errors=True)
            done.touch()
    return kept


def _build(site: Path) -> None:
    command = ["node", NEXT, "build"]
    try:
        ran = subprocess.run(
            command, cwd=site, env=os.environ | QUIET, capture_output=True, text=True, timeout=BUILD_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise AssertionError(f"next build was not done after {BUILD_S:.0f} s") from None
    assert ran.returncode == 0, f"next build ended with {ran.returncode}:\n{(ran.stdout + ran.stderr)[-3_000:]}"


def _digest() -> str:
    """Of every file that the build may read. Its packages are in its place's name."""
    hashed = hashlib.sha256()
    for path in sorted(EXAMPLE.rglob("*")):
        name = path.relative_to(EXAMPLE)
        if path.is_file() and not set(name.parts) & set(NOT_BUILT):
            hashed.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()[:16]
