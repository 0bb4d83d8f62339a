"""Signed mode end to end: apps register, are called and fetch with the key, and keys are replaced under way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdk.rig.keys import EVENT_KEY, KEY, NEW_KEY, bearer, variables
from tests.sdk.rig.processes import HOSTS
from tests.sdk.rig.stage import FAST_RETRIES, Host, Stage, staged, unique

SERVER = (*FAST_RETRIES, "--event-key", EVENT_KEY, "--signing-key")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("signed"), *SERVER, KEY, bearer=bearer(KEY)) as made:
        made.variables = variables(made.server.url)
        yield made


@pytest.mark.parametrize("name", HOSTS)
def test_an_app_registers_is_called_and_fetches_with_its_key(signed: Stage, name: str) -> None:
    host = signed.host(name)
    assert host.does("three-steps", n=1)["output"]["three"] == {"is": 4}
    assert host.does("large")["output"]["firsts"] == ["0", "1", "2"]
    sent = host.does("send-event")["output"]
    assert [host.ended(host.run_of(id))["output"] for id in sent] == [1, 2]


@pytest.mark.parametrize("name", HOSTS)
def test_an_app_with_another_key_is_waited_for_and_no_attempt_is_used(signed: Stage, name: str) -> None:
    host = signed.host(name)
    _restart(host, NEW_KEY)
    run = host.begin("three-steps", n=1)
    host.until("what is wrong with the app", lambda: "different signing keys" in why(host))
    assert (host.run(run)["status"], host.ledger(run)) == ("Running", [])
    _restart(host, KEY)
    ended = host.ended(run)
    assert (ended["status"], ended["output"]["three"]) == ("Completed", {"is": 4})
    host.until("the app answers again", lambda: not why(host))


def test_an_app_in_dev_mode_is_waited_for(signed: Stage) -> None:
    host = signed.host("v4")
    given = dict(host.variables)
    host.kill()
    host.variables |= {"INNGEST_DEV": signed.server.url}
    host.start()
    run = host.begin("three-steps", n=1)
    host.until("what is wrong with the app", lambda: "is in dev mode, this server in cloud mode" in why(host))
    host.kill()
    host.variables = given
    host.start()
    assert host.ended(run)["status"] == "Completed"


def test_a_key_is_replaced_while_runs_are_open(signed: Stage) -> None:
    """First the apps take both keys, then the server signs with the new one, then the old one is gone."""
    id, hosts = unique(), [signed.host(name) for name in HOSTS]
    runs = {host.id: host.begin("wait", id=id, timeout_ms=3_600_000) for host in hosts}
    for host in hosts:
        host.until_state(runs[host.id], "Waiting")
        _restart(host, NEW_KEY, KEY)
        assert host.does("three-steps", n=1)["status"] == "Completed"
    _restart_server(signed, NEW_KEY, "--signing-key-fallback", KEY)
    assert [host.does("large")["status"] for host in hosts] == ["Completed"] * len(hosts)
    signed.server.bearer = bearer(NEW_KEY)
    _restart_server(signed, NEW_KEY)
    for host in hosts:
        _restart(host, NEW_KEY)
        host.register()
        host.send("answer", id=id, text="still here")
        assert host.ended(runs[host.id])["output"] == {"answer": "still here"}
        assert host.does("large")["status"] == "Completed"


def why(host: Host) -> str:
    """What the server says is wrong with an app."""
    status, answer = host.server.get("/api/apps")
    assert status == 200, answer
    return str(next(row["why"] for row in answer["data"] if row["id"] == host.id))


def _restart(host: Host, key: str, fallback: str = "") -> None:
    host.kill()
    kept = {name: value for name, value in host.variables.items() if not name.startswith("INNGEST_")}
    host.variables = kept | variables(host.server.url, key, fallback)
    host.start()


def _restart_server(stage: Stage, key: str, *flags: str) -> None:
    stage.server.stop()
    stage.server.flags = (*stage.server.FLAGS, *SERVER, key, *flags)
    stage.server.start(port=stage.server.port)
