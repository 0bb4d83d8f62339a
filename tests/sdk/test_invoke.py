"""A function invokes another and has its result, its error, or no more patience."""

from __future__ import annotations

from tests.sdk.rig.processes import PYTHON
from tests.sdk.rig.stage import Host, over


@over()
def test_the_result_of_a_child_is_the_steps(host: Host) -> None:
    run = host.does("invoke", child="child", n=21)
    assert run["output"] == {"child": {"doubled": 42}}
    child = next(step for step in run["steps"] if step["name"] == "child")["waits_for"]["run_id"]
    assert host.ledger(child) == ["double"]
    assert host.server.run(child)["parent"]["run_id"] == run["run_id"]


@over()
def test_the_error_of_a_child_can_be_caught(host: Host) -> None:
    run = host.does("invoke", child="child-fails", n=1, catch=True)
    assert (run["status"], run["output"]["message"]) == ("Completed", "the child cannot")


@over()
def test_the_error_of_a_child_fails_its_parent(host: Host) -> None:
    run = host.does("invoke", child="child-fails", n=1)
    assert (run["status"], run["output"]["message"]) == ("Failed", "the child cannot")


@over()
def test_an_invocation_that_takes_too_long_is_an_error(host: Host) -> None:
    timeout = 1_000 if host.name in PYTHON else "1s"
    run = host.does("invoke", child="child-sleeps", n=1, timeout_ms=timeout, catch=True)
    assert run["output"]["message"] == "Timed out waiting for invoked function to complete"
    assert run["output"]["name"] == "InngestInvokeTimeoutError"
