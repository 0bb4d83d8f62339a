"""A real server started with what the chart says of its container: it answers its probe, and ends in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.deploy.chart.rendering import SINGLE, container
from tests.docs.blocks import ROOT

START_S_MAX = 60.0
STOP_S_MAX = 60.0


def test_millstream_serves_with_the_chart_s_arguments_and_environment(tmp_path: Path) -> None:
    values = SINGLE | {"apps": ["examples.contact_form:app"], "settings": {"durability": "os", "history": "48h"}}
    found = container(values, "server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # All but what belongs to the container: its addresses, its port and its file system.
    moved = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=8288": f"--port={port}"}
    moved["--data=/data/millstream"] = f"--data={tmp_path / 'data' / 'millstream'}"
    arguments = [moved.pop(argument, argument) for argument in found["args"]]
    assert not moved
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    environ |= {"PYTHONPATH": str(ROOT / "platform"), "EXAMPLES_DB": str(tmp_path / "examples.db")}
    environ |= {each["name"]: each.get("value", "of-the-secret") for each in found["env"]}
    server = subprocess.Popen([sys.executable, "-m", "millstream", *arguments], cwd=ROOT, env=environ)
    try:
        health = f"http://127.0.0.1:{port}{found['startupProbe']['httpGet']['path']}"
        ends_s = time.monotonic() + START_S_MAX
        while server.poll() is None and not _answers(health):
            assert time.monotonic() < ends_s, f"{health} did not answer within {START_S_MAX} s"
            time.sleep(0.1)
        assert server.returncode is None, "the server ended; its reason is above"
        server.send_signal(signal.SIGTERM)
        assert server.wait(STOP_S_MAX) == 0
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
