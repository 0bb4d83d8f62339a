"""An app that registers again with other functions: new ones start, vanished ones do not, open runs go on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdk.processes import HOSTS
from tests.sdk.stage import Host, Stage, unique


def listed(host: Host) -> list[str]:
    """The app's functions, as the server lists them."""
    apps: list[dict[str, Any]] = host.server.get("/api/apps")[1]["data"]
    found = next(app for app in apps if app["id"] == host.id)
    return sorted(str(function).removeprefix(f"{host.id}-") for function in found["functions"])


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
