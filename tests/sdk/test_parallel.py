"""Two chains of two steps at once: every step once, in the number of calls that each mode needs."""

from __future__ import annotations

import pytest

from tests.sdk.rig.processes import HOSTS, PLAIN
from tests.sdk.rig.stage import Host, over

CALLS = {"wait": 7, "race": 9}


@over(*HOSTS, PLAIN)
@pytest.mark.parametrize("mode", ["wait", "race"])
def test_chains_run_beside_each_other(host: Host, mode: str) -> None:
    run = host.does("parallel", mode=mode)
    id = run["run_id"]
    assert run["output"] == ["aa", "bb"]
    did = host.ledger(id)
    assert sorted(did) == ["a.1", "a.2", "b.1", "b.2"]
    assert did.index("a.1") < did.index("a.2")
    assert did.index("b.1") < did.index("b.2")
    if mode == "wait" and host.name != "v3":
        assert set(did[:2]) == {"a.1", "b.1"}, "a group goes on once all that it waits for is there"
        assert host.calls(id) == CALLS["wait"]
    else:  # Version 3 always races.
        assert host.calls(id) <= CALLS["race"]
