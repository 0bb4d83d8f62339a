"""An app runs here in whatever framework serves it: each that an SDK has a handler for and that is a plain process."""

from __future__ import annotations

import sys
from typing import Final

import pytest

from tests.sdk.rig.npm import installed
from tests.sdk.rig.processes import HERE, NODE, ROOT, listening
from tests.sdk.rig.stage import Host, Stage

ON_NODE: Final = ("edge", "express", "fastify", "h3", "hono", "koa")


def runs_everything(stage: Stage, id: str, command: list[str], **variables: str) -> None:
    """Start the app, have it register, and run its function."""
    host = Host(id, stage.server, stage.folder, id)
    given = {"INNGEST_DEV": stage.server.url, "APP": id, "PYTHONPATH": str(ROOT)} | variables
    host.process = listening(command, host.app, host.port, given)
    try:
        run = host.register().does("everything", n=20)
    finally:
        host.kill()
    assert (run["status"], run["output"]) == ("Completed", {"one": 21, "two": 42, "three": {"is": 21}, "caught": "no"})
    assert sorted(step["name"] for step in run["steps"] if step["id"]) == ["one", "refuse", "rest", "three", "two"]


@pytest.mark.parametrize("framework", ON_NODE)
@pytest.mark.parametrize("sdk", NODE)
def test_an_app_of_node_runs_in_each_framework(stage: Stage, sdk: str, framework: str) -> None:
    modules = str(installed(HERE / "frameworks"))
    command = ["node", str(HERE / "frameworks/app.cjs")]
    runs_everything(stage, f"{framework}-{sdk}", command, SDK=sdk, FRAMEWORK=framework, SDK_MODULES=modules)


def test_an_app_of_python_runs_on_tornado(stage: Stage) -> None:
    runs_everything(stage, "tornado", [sys.executable, "-m", "tests.sdk.frameworks.tornado_app"])
