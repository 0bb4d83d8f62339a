"""A sleep holds no call open, and ends when it says."""

from __future__ import annotations

import time

from tests.sdk.rig.stage import Host, over


@over()
def test_a_run_sleeps_for_a_time_and_until_an_instant(host: Host) -> None:
    until_s = time.time() + 3
    run = host.does("sleep", until=until_s)
    assert run["output"] == "awake"
    assert host.ledger(run["run_id"]) == ["before", "between", "after"]
    at = host.times(run["run_id"])
    assert at["between"] - at["before"] >= 0.95
    assert at["after"] >= until_s - 0.05
