"""A run waits for a signal, which the API or another run sends."""

from __future__ import annotations

from tests.sdk.rig.processes import NODE
from tests.sdk.rig.stage import Host, over, unique


@over(*NODE)
def test_a_signal_over_the_api_ends_the_wait(host: Host) -> None:
    signal = unique()
    run = host.begin("signal", signal=signal, timeout="1h")
    host.until_state(run, "Waiting")
    assert host.server.ask("POST", "/v1/signals", {"signal": signal, "data": {"ok": True}})[0] == 200
    assert host.ended(run)["output"] == {"got": {"ok": True}}


@over(*NODE)
def test_a_step_of_another_run_sends_the_signal(host: Host) -> None:
    signal = unique()
    run = host.begin("signal", signal=signal, timeout="1h")
    host.until_state(run, "Waiting")
    sender = host.does("send-signal", signal=signal)
    assert sender["output"] == "said"
    assert host.ended(run)["output"] == {"got": {"by": sender["run_id"]}}


@over(*NODE)
def test_a_signal_that_nobody_sends_ends_with_nothing(host: Host) -> None:
    assert host.does("signal", signal=unique(), timeout="1s")["output"] == {"got": None}


@over(*NODE)
def test_a_second_wait_for_a_signal_fails(host: Host) -> None:
    signal = unique()
    run = host.begin("signal", signal=signal, timeout="1h")
    host.until_state(run, "Waiting")
    second = host.does("signal", signal=signal, timeout="1h")
    assert second["status"] == "Failed"
    assert host.server.run(run)["status"] == "Running"
