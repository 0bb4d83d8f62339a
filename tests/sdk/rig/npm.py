"""npm packages that apps in tests need, at the versions of a lock file: installed once into a cache, as jars are.

A folder with `package.json` and `package-lock.json` is installed into `$XDG_CACHE_HOME/millstream/npm-<hash of both>`.
Where there is no node, or the packages cannot be had, the test is skipped; in CI that is a failure.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, NoReturn

import pytest

INSTALL_S: Final = 900.0
PACKAGE_FILES: Final = ("package.json", "package-lock.json")


def installed(folder: Path) -> Path:
    """Where the packages of this folder are: a folder with `node_modules`."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            _cannot(f"there is no {program} on the PATH: install Node.js 20 or newer")
    files = [folder / name for name in PACKAGE_FILES]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millstream" / f"npm-{digest}"
    done = kept / ".complete"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            for file in files:
                shutil.copy(file, kept)
            _install(kept)
            done.touch()
    return kept


def _install(kept: Path) -> None:
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    try:
        ran = subprocess.run(command, cwd=kept, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        _cannot(f"npm was not done after {INSTALL_S:.0f} s")
    if ran.returncode:
        _cannot(f"npm ended with {ran.returncode}: {(ran.stdout + ran.stderr)[-500:]}")


def _cannot(why: str) -> NoReturn:
    text = f"the SDKs for JavaScript cannot be had: {why}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)
