"""A run waits for an event that fits its expression, or until its time is over."""

from __future__ import annotations

from tests.sdk.rig.stage import Host, over, unique


@over()
def test_the_event_that_fits_ends_the_wait(host: Host) -> None:
    id = unique()
    run = host.begin("wait", id=id, timeout_ms=3_600_000)
    host.until_state(run, "Waiting")
    host.send("answer", id="another", text="not for you")
    host.send("answer", id=id, text="for you")
    assert host.ended(run)["output"] == {"answer": "for you"}
    assert host.ledger(run) == ["read"]


@over()
def test_a_wait_that_nobody_answers_ends_with_nothing(host: Host) -> None:
    run = host.does("wait", id=unique(), timeout_ms=1_000)
    assert run["output"] == {"answer": None}
    assert host.ledger(run["run_id"]) == ["read"]
