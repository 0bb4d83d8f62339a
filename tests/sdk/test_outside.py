"""Requests that the engine makes for a step."""

from __future__ import annotations

import json

from tests.sdk.rig.processes import NODE
from tests.sdk.rig.stage import Host, Stage, over


@over()
def test_a_model_is_asked_by_the_engine(host: Host, stage: Stage) -> None:
    run = host.does("infer", text=f"hello from {host.id}")
    assert run["output"] == f"you said hello from {host.id}"
    asked = [got for got in stage.outside.got if f"hello from {host.id}" in got.body.decode()]
    assert len(asked) == 1
    assert asked[0].headers["Authorization"] == "Bearer a-secret"
    assert json.loads(asked[0].body)["model"] == "a-model"


@over(*NODE)
def test_a_step_fetches_through_the_engine(host: Host, stage: Stage) -> None:
    run = host.does("fetch", text=f"tea for {host.id}")
    assert run["output"] == {"status": 418, "text": f"I am a teapot, and got tea for {host.id}", "kind": "porcelain"}
    assert len([got for got in stage.outside.got if got.body == f"tea for {host.id}".encode()]) == 1


@over(*NODE)
def test_a_model_that_the_app_asks_itself_is_asked_once(host: Host) -> None:
    run = host.does("wrap", text="hello")
    assert (run["output"], host.ledger(run["run_id"])) == ("you said hello", ["asked"])
