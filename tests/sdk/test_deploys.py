"""An app that registers again with other functions: new ones start, vanished ones do not, open runs go on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdk.rig.processes import HOSTS
from tests.sdk.rig.stage import Host, Stage, unique


def listed(host: Host) -> list[str]:
    """The app's functions, as the server lists them."""
    return sorted(str(function).removeprefix(f"{host.id}-") for function in row(host)["functions"])


def version(host: Host) -> str:
    """The app's version, as the server lists it."""
    return str(row(host)["version"])


def row(host: Host) -> dict[str, Any]:
    """The app, as the server lists it."""
    apps: list[dict[str, Any]] = host.server.get("/api/apps")[1]["data"]
    return next(app for app in apps if app["id"] == host.id)


def deployed(host: Host, *functions: str) -> None:
    """The app with these functions alone, which has registered."""
    host.kill()
    host.variables["FUNCTIONS"] = ",".join(functions)
    host.start().register()


@pytest.mark.parametrize("name", HOSTS)
def test_functions_come_and_go_with_deploys(stage: Stage, name: str) -> None:
    app = stage.host(name, id=f"{name}-{unique()}", FUNCTIONS="three-steps,wait")
    id = unique()
    try:
        assert listed(app) == ["three-steps", "wait"]
        run = app.begin("wait", id=id, timeout_ms=3_600_000)
        app.until_state(run, "Waiting")
        deployed(app, "wait", "same-id")
        assert listed(app) == ["same-id", "wait"]
        archived = app.send("three-steps", n=1)
        assert app.does("same-id")["status"] == "Completed"
        app.send("answer", id=id, text="here")
        assert app.ended(run)["output"] == {"answer": "here"}
        assert app.server.runs_of(archived) == []
    finally:
        app.kill()


@pytest.mark.parametrize("name", ["fastapi", "v4", "v3"])
def test_an_open_run_goes_on_with_the_new_version_of_its_app(stage: Stage, name: str) -> None:
    id = unique()
    app = stage.host(name, id=f"{name}-{id}", FUNCTIONS="version", VERSION="1")
    try:
        assert version(app) == "1"
        run = app.begin("version", id=id)
        app.until_state(run, "Waiting")
        app.kill()
        app.variables["VERSION"] = "2"
        app.start().register()
        assert version(app) == "2"
        app.send("go", id=id)
        assert app.ended(run)["output"] == ["1", "2"]
    finally:
        app.kill()
