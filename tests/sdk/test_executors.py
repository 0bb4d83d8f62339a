"""With ``--executors`` child processes call the apps, signed; that one of them dies is no fault of an app."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.rig.keys import EVENT_KEY, KEY, bearer, variables
from tests.sdk.rig.stage import FAST_RETRIES, Stage, staged, unique

NAMES = ("fastapi", "v4")
SIGNED = ("--event-key", EVENT_KEY, "--signing-key", KEY)


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    flags = (*FAST_RETRIES, *SIGNED, "--executors", "2")
    with staged(tmp_path_factory.mktemp("spread"), *flags, bearer=bearer(KEY)) as made:
        made.variables = variables(made.server.url)
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_child_processes_call_the_apps(spread: Stage, name: str) -> None:
    host = spread.host(name)
    runs = [host.begin("three-steps", n=n) for n in range(4)]
    assert [host.ended(run)["output"]["one"] for run in runs] == [1, 2, 3, 4]
    assert all(host.ledger(run) == ["one", "two", "three"] for run in runs)
    assert host.does("parallel", mode="wait")["output"] == ["aa", "bb"]
    assert host.does("step-retry")["output"]["attempt"] == 2
    assert host.does("fails")["output"]["message"] == "it burst"


def test_what_killed_child_processes_called_is_called_again_and_no_app_is_blamed(spread: Stage) -> None:
    gate, hosts = unique(), [spread.host(name) for name in NAMES]
    runs = {host.id: host.begin("hold", id=gate, gate=gate) for host in hosts}
    for host in hosts:
        host.until_executed(runs[host.id], "held begins")
    killed = _executors(spread)
    assert len(killed) == 2
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    for host in hosts:
        host.until("the step begins anew", lambda host=host: host.ledger(runs[host.id]).count("held begins") == 2)  # type: ignore[misc]
    hosts[0].open(gate)
    for host in hosts:
        ended = host.ended(runs[host.id])
        assert (ended["status"], ended["output"]) == ("Completed", {"held": "open"})
        assert [host.ledger(runs[host.id]).count(what) for what in ("first", "last")] == [1, 1]
    assert "app in trouble" not in spread.server.output.read_text()
    hosts[0].until("executors anew", lambda: len(_executors(spread)) == 2)
    assert not set(_executors(spread)) & set(killed)


def test_an_app_that_is_down_is_waited_for(spread: Stage) -> None:
    host = spread.host("v4")
    host.kill()
    run = host.begin("three-steps", n=1)
    host.until("what is wrong is said", lambda: "app in trouble" in spread.server.output.read_text())
    host.start()
    assert host.ended(run)["output"]["three"] == {"is": 4}
    assert host.ledger(run) == ["one", "two", "three"]


def _executors(stage: Stage) -> list[int]:
    """The executor processes of the server."""
    assert stage.server.process is not None
    pid = stage.server.process.pid
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [
        child
        for child in children
        if b"millstream.cli.processes.executor" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
