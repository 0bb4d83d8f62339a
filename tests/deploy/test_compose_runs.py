"""docker-compose.yml, run: its services' own commands, variables and healthchecks, as processes (`services.py`).

What stands for the image `apache/kafka` is Apache Kafka with a `server.properties` made of that service's variables as
the image makes it, and of nothing else.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deploy.kafka.jars import Missing, java, kafka_jars
from tests.docs.blocks import ROOT
from tests.kafka.fleet import until

if sys.platform != "linux":
    pytest.skip("127.0.0.1 is the only loopback address here", allow_module_level=True)

from confluent_kafka.admin import AdminClient, ConfigResource

from tests.deploy.services import Project, Replica

FILE = ROOT / "docker-compose.yml"
JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto")
DELIVERIES = 326
LANES = re.compile(r'^millstream_lane_lag\{lane="(\d+)"\}', re.M)
ENDED_BY_SIGTERM = 143
"""How a JVM ends that was told to, and ended in order."""
RUNS_WITHIN_S = 180.0


def kafka_settings(environment: dict[str, str]) -> dict[str, str]:
    """KAFKA_LOG_DIRS is log.dirs: `_` stands for a dot, `__` for `_`, `___` for `-`."""
    names = {name: name.removeprefix("KAFKA_").lower() for name in environment if name.startswith("KAFKA_")}
    for said, means in (("___", "\0"), ("__", "\1"), ("_", "."), ("\1", "_"), ("\0", "-")):
        names = {name: setting.replace(said, means) for name, setting in names.items()}
    return {setting: environment[name] for name, setting in names.items()}


def start_kafka(replica: Replica, folder: Path) -> subprocess.Popen[bytes]:
    """What the image does: write the settings, format the storage, run the broker."""
    settings = folder / "server.properties"
    lines = [f"{name}={value}\n" for name, value in kafka_settings(replica.environment).items()]
    settings.write_text("".join(lines))
    run_java = [str(java()), *JVM, "-cp", f"{kafka_jars()}/*"]
    tool = ["kafka.tools.StorageTool", "format", "-t", "5L6g3nShT-eMCtK--X86sw", "-c", str(settings)]
    with replica.log.open("ab") as log:
        subprocess.run([*run_java, *tool], cwd=folder, stdout=log, stderr=log, check=True)
        return subprocess.Popen([*run_java, "kafka.Kafka", str(settings)], cwd=folder, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """All services without a profile, up and healthy."""
    try:
        java(), kafka_jars()
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs a real broker. {missing}")
        pytest.skip(str(missing))
    with Project(FILE, tmp_path_factory.mktemp("compose"), stand_ins={"kafka": start_kafka}) as project:
        project.up()
        yield project


def test_every_setting_of_the_broker_is_one_that_kafka_has(project: Project) -> None:
    """A broker hides the value of a setting that it does not know; it gives those it knows as they were written."""
    kafka = project.of("kafka")[0]
    written = kafka_settings(kafka.environment)
    admin = AdminClient({"bootstrap.servers": f"{kafka.address}:19092"})  # As from this machine.
    resource = ConfigResource(ConfigResource.Type.BROKER, written["node.id"])
    known = admin.describe_configs([resource])[resource].result(60)
    assert {name: known[name].value for name in written} == written


def test_the_webhooks_are_sent_as_the_file_says_and_all_their_runs_end(project: Project) -> None:
    command = re.search(r"docker compose exec (\w+) (millstream events send @(\S+))$", FILE.read_text(), re.M)
    assert command is not None
    until("the workers have registered their functions", lambda: all(map(_is_ready, project.of("worker"))))
    sent = project.execute(command[1], *command[2].split())
    assert sent.returncode == 0, sent.stderr + project.of("api")[0].said()
    ids = {json.loads(line)["id"] for line in sent.stdout.splitlines()}
    wanted = runs_of((ROOT / command[3]).read_text(encoding="utf-8").splitlines())
    history = f"http://{project.of('history')[0].address}:8290"

    def ended() -> list[dict[str, Any]]:
        runs = [run for run in _runs(project) if run["event_id"] in ids and run["ended_at"]]
        return runs if Counter(run["function_id"] for run in runs) == wanted else []

    runs = until("all runs ended", ended, RUNS_WITHIN_S)
    assert [run["function_id"] for run in runs if run["status"] != "Completed"] == ["webhooks-triage_issue"]
    assert {run["run_id"] for run in runs} <= {run["run_id"] for run in _runs(project, "--url", history)}
    files = {worker.environment["EXAMPLES_DB"] for worker in project.of("worker")}
    assert len(files) == 1
    with closing(sqlite3.connect(files.pop())) as db:
        assert db.execute("SELECT count(*) FROM records WHERE kind = 'delivery'").fetchone() == (DELIVERIES,)


def runs_of(lines: list[str]) -> Counter[str]:
    """How many runs of which functions these events start: `examples/webhooks.py` as its decorators have it."""
    counted: Counter[str] = Counter()
    for event in map(json.loads, lines):
        name, data = event["name"], event["data"]
        counted["webhooks-tally"] += 1
        counted["webhooks-summarise_push"] += name == "github/push" and not data["deleted"]
        pull = name.startswith("github/pull_request.") and data["pull_request"]["state"] == "open"
        counted["webhooks-gate_pull_request"] += pull
        counted["webhooks-triage_issue"] += name in [f"github/issues.{how}" for how in ("opened", "reopened", "edited")]
    return counted


def test_the_workers_share_the_lanes(project: Project) -> None:
    def shared() -> bool:
        owned = [LANES.findall(_metrics(worker)) for worker in project.of("worker")]
        return all(owned) and sorted(lane for lanes in owned for lane in lanes) == [str(lane) for lane in range(8)]

    until("each worker has some of the lanes", shared)


def test_doctor_finds_nothing_wrong(project: Project) -> None:
    told = project.execute("worker", "millstream", "doctor")
    assert told.returncode == 0, told.stdout + told.stderr


def test_all_end_in_order_within_their_grace(project: Project) -> None:
    codes = project.stop()
    assert codes == {"api": [0], "history": [0], "worker": [0, 0], "kafka": [ENDED_BY_SIGTERM]}, "\n".join(
        replica.said() for replica in project.replicas
    )


def test_the_server_without_kafka_is_healthy_with_a_key_and_refuses_to_start_without_one(tmp_path: Path) -> None:
    with Project(FILE, tmp_path, only=["server"], variables={"MILLSTREAM_EVENT_KEY": "a-key-of-this-test"}) as project:
        project.up()
        refused = project.execute(
            "server", "millstream", "events", "send", "blog/post.viewed", "--data", '{"post": "a"}'
        )
        assert "401" in refused.stdout + refused.stderr
        assert project.stop() == {"server": [0]}, project.of("server")[0].said()
    why = r"(?s)ended by itself with [1-9].*MILLSTREAM_EVENT_KEYS"
    with Project(FILE, tmp_path / "keyless", only=["server"]) as project, pytest.raises(AssertionError, match=why):
        project.up()


def _runs(project: Project, *options: str) -> list[dict[str, Any]]:
    listed = project.execute("api", "millstream", "runs", "list", "--limit", "100000", "-o", "json", *options)
    assert listed.returncode == 0, listed.stderr
    runs: list[dict[str, Any]] = json.loads(listed.stdout)
    return runs


def _is_ready(worker: Replica) -> bool:
    """Whether its functions are known: an event that is read before starts nothing."""
    try:
        with urllib.request.urlopen(f"http://{worker.address}:9464/readyz", timeout=30) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def _metrics(worker: Replica) -> str:
    with urllib.request.urlopen(f"http://{worker.address}:9464/metrics", timeout=30) as answer:
        return str(answer.read().decode())
