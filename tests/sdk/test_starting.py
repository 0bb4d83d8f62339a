"""What starts a function: wildcards, one of several triggers, or only another function. And what a function logs."""

from __future__ import annotations

from tests.sdk.rig.stage import Host, over

SDKS = ("fastapi", "v4", "v3")


@over(*SDKS)
def test_a_wildcard_and_a_second_trigger_start_a_function(host: Host) -> None:
    assert host.does("any.thing")["output"] == "any.thing"
    assert host.does("fitting", n=2)["output"] == "fitting"
    unfit = host.send("fitting", n=1)
    assert host.does("three-steps", n=1)["status"] == "Completed"
    assert host.server.runs_of(unfit) == []


@over(*SDKS)
def test_a_function_without_triggers_is_invoked_by_a_step_and_over_http(host: Host) -> None:
    assert host.does("invokes")["output"] == 42
    status, answer = host.server.ask("POST", f"/invoke/{host.id}-only-invoked?wait=30s", {"data": {"n": 1}})
    assert (status, host.ended(answer["run_id"])["output"]) == (200, 2)


@over(*SDKS)
def test_what_a_function_logs_is_in_the_log_of_its_app_once(host: Host) -> None:
    run = host.does("logs")
    assert run["status"] == "Completed", run
    assert host.app.log.read_text(errors="replace").count(f"{run['run_id']} says so") == 1
