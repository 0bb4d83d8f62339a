"""The script that starts brokers: does it start, hurt, secure and end them?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.broker import SCRIPT, Broker, own_broker


def brokers_of(bootstrap: str, **settings: str) -> int:
    """How many brokers answer."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **settings})
    return len(admin.list_topics(timeout=20).brokers)


def test_the_shared_broker_answers(kafka: Broker) -> None:
    assert brokers_of(kafka.bootstrap) >= 1


def test_a_killed_broker_comes_back_with_its_data(tmp_path: Path) -> None:
    with own_broker(tmp_path) as broker:
        assert brokers_of(broker.bootstrap) == 1
        before = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=20).cluster_id
        broker.kill()
        with pytest.raises(KafkaException):
            AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=2)
        broker.revive()
        assert AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=20).cluster_id == before
        broker.pause()
        with pytest.raises(KafkaException):
            AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=2)
        broker.resume()
        assert brokers_of(broker.bootstrap) == 1


def test_brokers_end_with_their_companion(tmp_path: Path) -> None:
    with own_broker(tmp_path) as first:
        assert first.folder is not None  # Skips here where no broker can be had.
    companion = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    place = tmp_path / "kept"
    run = [sys.executable, str(SCRIPT)]
    subprocess.run([*run, "start", str(place), "--with", str(companion.pid)], env=_free(), check=True)
    try:
        companion.communicate(b"")
        for _ in range(100):
            said = subprocess.run([*run, "status", str(place)], capture_output=True, text=True, check=True).stdout
            if "down" in said:
                return
            subprocess.run(["sleep", "0.2"], check=True)
        raise AssertionError(said)
    finally:
        subprocess.run([*run, "stop", str(place)], check=True)


def test_a_command_on_nothing_says_what_to_start(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "status", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "deploy/kafka/broker start" in ran.stderr


def _free() -> dict[str, str]:
    return {**os.environ, "PORT": "free"}


def test_a_schema_registry_answers(schema_registry: str) -> None:
    with urllib.request.urlopen(f"{schema_registry}/subjects", timeout=20) as answer:
        assert isinstance(json.loads(answer.read()), list)  # Other tests may have put something there.
