"""``millstream server``: lanes for apps over HTTP and the api in one process, and what outlives it."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.broker import Broker
from tests.kafka.fleet import Fleet, Process, ask, until
from tests.sdk.rig.processes import app_process


@pytest.fixture
def fleet(kafka: Broker, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(kafka, tmp_path, lanes=2)
    made.env["MILLSTREAM_ENDPOINT_NETWORKS"] = "127.0.0.0/8"
    yield made
    made.close()


def apps(process: Process) -> dict[str, Any]:
    return {row["id"]: row for row in ask(f"{process.url}/api/apps?check=1")[1]["data"]}


def removed(process: Process, id: str) -> int:
    request = urllib.request.Request(f"{process.url}/api/apps/{id}", method="DELETE")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def test_an_app_registers_with_one_server_and_all_know_it_also_after_they_were_killed(
    fleet: Fleet, tmp_path: Path
) -> None:
    first, second = fleet.server("first"), fleet.server("second")
    with app_process("fastapi", tmp_path, INNGEST_DEV=first.url) as app:
        assert app.put()[1]["modified"] is True
        until("the second", lambda: apps(second).get("sdk", {}).get("reachable"))
        for server in (first, second):
            server.signal(signal.SIGKILL)
            server.ended()
        again = fleet.server("third")
        assert apps(again)["sdk"]["functions"] == ["sdk-hello"]
        assert fleet.send("app/hello")
    assert removed(again, "sdk") == 200
    assert apps(again) == {}


def test_an_app_with_its_code_in_a_worker_of_the_group_keeps_its_id(fleet: Fleet, tmp_path: Path) -> None:
    fleet.worker("worker")
    server = fleet.server()
    local = next(iter(apps(server)))
    with app_process("fastapi", tmp_path, id=local, INNGEST_DEV=server.url) as app:
        said = app.put()[1]
        assert said["status"] == 409 and "has its code in a worker of this group" in said["error"], json.dumps(said)
