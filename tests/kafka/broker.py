"""Real brokers for tests: one shared by the whole run, and own ones for tests that hurt theirs.

    from tests.kafka.broker import kafka          # the shared one, a fixture; import it into a conftest or a test file
    def test_x(kafka: Broker) -> None: ... kafka.bootstrap ...

    def test_y(schema_registry: str) -> None: ...      # the URL of a registry, shared alike
    with own_broker(tmp_path, 3, "--security", "tls") as cluster: cluster.kill(2)

The shared broker is started by the first test that asks, also when several processes run tests (xdist), and ends with
the process that started the run. Tests share it: give topics and groups names from ``fresh``. TEST_BROKERS names one
that runs already. Where a broker cannot be had (no Java, no Maven and no jars) tests are skipped with the reason; with
CI set they fail.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "kafka" / "broker"
REGISTRY = ROOT / "deploy" / "kafka" / "registry"
SOMETHING_IS_MISSING = 3


@dataclass(frozen=True)
class Broker:
    """A cluster that runs. ``folder`` None: it is not ours, and cannot be hurt."""

    bootstrap: str
    folder: Path | None = None

    def kill(self, node: int = 1) -> None:
        """kill -9."""
        self._call("kill", str(node))

    def revive(self, node: int = 1) -> None:
        """Start it again on its data; returns when it is ready."""
        self._call("revive", str(node))

    def pause(self, node: int = 1) -> None:
        """SIGSTOP: connections stay, answers do not come."""
        self._call("pause", str(node))

    def resume(self, node: int = 1) -> None:
        """SIGCONT."""
        self._call("resume", str(node))

    @property
    def security(self) -> Path:
        """Where certificates and passwords are."""
        assert self.folder is not None
        return self.folder / "security"

    def _call(self, command: str, *arguments: str) -> None:
        assert self.folder is not None, "a test may only hurt a broker of its own: own_broker(...)"
        _run(command, str(self.folder), *arguments)


def fresh(name: str) -> str:
    """A name for a topic or a group that no other test has."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def own_broker(folder: Path, nodes: int = 1, *options: str, **environment: str) -> Iterator[Broker]:
    """A cluster for one test or module, on free ports, gone afterwards with its data."""
    place = folder / f"kafka-{uuid.uuid4().hex[:8]}"
    try:
        yield _started(place, str(nodes), *options, "--with", str(os.getpid()), **environment)
    finally:
        _run("stop", str(place), check=False)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka() -> Broker:
    """The broker that this test run shares."""
    return Broker(os.environ.get("TEST_BROKERS") or _shared("kafka", SCRIPT, "bootstrap"))


@pytest.fixture(scope="session")
def schema_registry() -> str:
    """The URL of the schema registry that this test run shares; TEST_REGISTRY names one that runs already."""
    return os.environ.get("TEST_REGISTRY") or _shared("registry", REGISTRY, "url")


def _shared(name: str, script: Path, address: str) -> str:
    """Where the run's one is; started by whoever asks first."""
    folder = Path(os.environ["TEST_RUN_FOLDER"])
    place, missing, told = folder / name, folder / f"{name}.missing", folder / f"{name}.address"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if missing.exists():
            _cannot_be_had(missing.read_text())
        if not told.exists():
            try:
                _run("start", str(place), "--with", os.environ["TEST_RUN_PID"], script=script)
                told.write_text(_run(address, str(place), script=script))
            except BaseException as error:
                missing.write_text(str(error))
                raise
        return told.read_text()


def begin_run() -> None:
    """Called by the root conftest before test processes start: what they share is named in the environment."""
    if "TEST_RUN_FOLDER" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="millstream-tests-")
    os.environ["TEST_RUN_FOLDER"], os.environ["TEST_RUN_PID"] = folder, str(os.getpid())
    atexit.register(_end_run, Path(folder), os.getpid())


def _end_run(folder: Path, owner: int) -> None:
    if os.getpid() != owner:
        return  # A fork of the process that began the run.
    for name, script in (("kafka", SCRIPT), ("registry", REGISTRY)):
        if (folder / name).exists():
            _run("stop", str(folder / name), check=False, script=script)
    shutil.rmtree(folder, ignore_errors=True)


def _started(place: Path, *arguments: str, **environment: str) -> Broker:
    for last in (False, True):
        place.mkdir(parents=True)
        try:
            _run("start", str(place), *arguments, **environment)
            break
        except AssertionError as error:
            if last or "openServerSocket" not in str(error):
                raise
            shutil.rmtree(place)  # Another process took a port between our look and the broker's: look again.
    return Broker(_run("bootstrap", str(place)), place)


def _run(command: str, *arguments: str, check: bool = True, script: Path = SCRIPT, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, str(script), command, *arguments],
        env={**os.environ, "PORT": "free", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == SOMETHING_IS_MISSING:
        _cannot_be_had(ran.stderr.strip())
    assert ran.returncode == 0 or not check, ran.stderr
    return ran.stdout.strip()


def _cannot_be_had(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"CI needs a real broker. {reason}")
    pytest.skip(reason)
