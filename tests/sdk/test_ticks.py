"""A cron starts its function at the minute. The stage is that old by now, or soon is."""

from __future__ import annotations

from tests.sdk.rig.stage import Host, over


@over()
def test_a_cron_ticks(host: Host) -> None:
    rows = host.until("a tick", lambda: [row for row in host.rows() if row["what"] == "tick"])
    run = host.ended(rows[0]["run"])
    assert (run["status"], run["output"]) == ("Completed", "inngest/scheduled.timer")
