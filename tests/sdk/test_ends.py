"""A run is cancelled by an event, by the API, or by its time; functions hear how runs end."""

from __future__ import annotations

from typing import Any

from tests.sdk.rig.stage import Host, over, unique


def heard(host: Host, how: str, run: str) -> list[dict[str, Any]]:
    return [row for row in host.rows() if row["what"] == f"heard {how}" and row["of"] == run]


@over()
def test_an_event_cancels_the_run_that_it_fits(host: Host) -> None:
    id = unique()
    run, other = (host.begin("hold-asleep", id=one) for one in (id, unique()))
    for one in (run, other):
        host.until_state(one, "Sleeping")
    host.send("stop", id=id)
    assert host.ended(run)["status"] == "Cancelled"
    assert host.server.run(other)["status"] == "Running"
    row = host.until("the cancellation is heard of", lambda: heard(host, "cancelled", run))[0]
    assert row["data"]["function_id"] == f"{host.id}-hold-asleep"


@over()
def test_a_run_is_cancelled_while_its_app_is_at_work(host: Host) -> None:
    gate = unique()
    run = host.begin("hold", id=gate, gate=gate)
    host.until_executed(run, "held begins")
    assert host.server.ask("DELETE", f"/v1/runs/{run}")[0] == 200
    assert host.ended(run)["status"] == "Cancelled"
    host.open(gate)
    host.until_executed(run, "held")
    assert host.does("three-steps", n=1)["status"] == "Completed"
    assert host.ledger(run) == ["first", "held begins", "held"], "a late answer counts for nothing"
    assert host.server.run(run)["status"] == "Cancelled"


@over()
def test_a_run_ends_when_its_time_is_over(host: Host) -> None:
    assert host.does("times-out")["status"] == "Cancelled"


@over()
def test_a_function_hears_that_another_has_finished(host: Host) -> None:
    run = host.does("three-steps", n=1)
    data = host.until("the end is heard of", lambda: heard(host, "finished", run["run_id"]))[0]["data"]
    assert data["function_id"] == f"{host.id}-three-steps"
    assert data["result"] == run["output"]
    assert data["event"]["data"] == {"n": 1}


@over()
def test_a_function_hears_that_another_has_failed(host: Host) -> None:
    run = host.does("fails")
    data = host.until("the failure is heard of", lambda: heard(host, "failed", run["run_id"]))[0]["data"]
    assert data["function_id"] == f"{host.id}-fails"
    assert data["error"]["message"] == "it burst"
