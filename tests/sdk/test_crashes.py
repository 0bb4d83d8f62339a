"""kill -9 of apps, of the server, or of both, over every host: runs end, and nothing recorded is redone.

All hosts are in a step at once, since a server is killed with all of its runs.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.promises import BrokenPromise
from tests.sdk.rig.processes import HOSTS
from tests.sdk.rig.stage import FAST_RETRIES, Host, Stage, staged, unique


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage of its own: others' runs must not be interrupted."""
    with staged(tmp_path_factory.mktemp("fragile"), *FAST_RETRIES) as made:
        yield made


@pytest.mark.parametrize("killed", [("app",), ("server",), ("app", "server")], ids=["app", "server", "both"])
def test_runs_survive_a_kill_in_a_step_in_a_wait_and_between_retries(fragile: Stage, killed: tuple[str, ...]) -> None:
    gate, hosts = unique(), [fragile.host(name) for name in HOSTS]
    waiting = {host.id: host.begin("wait", id=gate, timeout_ms=3_600_000) for host in hosts}
    held = {host.id: host.begin("hold", id=gate, gate=gate) for host in hosts}
    for host in hosts:
        host.until_state(waiting[host.id], "Waiting")
        host.until_executed(held[host.id], "held begins")
    retrying = {host.id: host.begin("step-retry") for host in hosts}
    _kill_and_start(fragile, killed, gate)
    for host in hosts:
        host.send("answer", id=gate, text="after all")
        assert host.ended(waiting[host.id])["output"] == {"answer": "after all"}, host.id
        assert host.ended(retrying[host.id])["output"]["attempt"] == 2, host.id
        ended = host.ended(held[host.id])
        assert (ended["status"], ended["output"]) == ("Completed", {"held": "open"}), host.id
        _check_that_nothing_recorded_was_redone(host, held[host.id])


def _kill_and_start(stage: Stage, killed: tuple[str, ...], gate: str) -> None:
    """Kill all at once, open the gate, and start them again."""
    hosts = list(stage.hosts.values()) if "app" in killed else []
    if "server" in killed:
        stage.server.kill()
    for host in hosts:
        host.kill()
    next(iter(stage.hosts.values())).open(gate)
    for host in hosts:
        host.start()
    if "server" in killed:
        stage.server.start(port=stage.server.port)


def _check_that_nothing_recorded_was_redone(host: Host, run: str) -> None:
    did = host.ledger(run)
    # A step that a kill has interrupted runs again, and one that has ended may, unless its end was recorded.
    if (did.count("first"), did.count("last")) != (1, 1) or did.count("held begins") > 2:
        raise BrokenPromise(f"{host.id} has redone a step: {did}")
