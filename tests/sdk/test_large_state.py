"""Results that are too large for a call are fetched by the SDK."""

from __future__ import annotations

from tests.sdk.rig.stage import Host, over


@over()
def test_a_run_with_large_results_goes_on(host: Host) -> None:
    run = host.does("large")
    assert run["output"] == {"lengths": [1_500_000] * 3, "firsts": ["0", "1", "2"]}
    assert host.ledger(run["run_id"]) == ["0", "1", "2"]
