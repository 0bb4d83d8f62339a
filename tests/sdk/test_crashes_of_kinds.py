"""kill -9 of the server, or of the apps, while runs stand in a step of each kind: all end, and nothing is redone."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest

from tests.sdk.rig.held import IN_TYPESCRIPT_ALONE, KINDS, Play
from tests.sdk.rig.processes import NODE, PATIENCE_S
from tests.sdk.rig.stage import FAST_RETRIES, Host, Stage, staged, unique

STREAMED = {"INNGEST_STREAMING": "force"}


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage of its own: others' runs must not be interrupted."""
    with staged(tmp_path_factory.mktemp("fragile"), *FAST_RETRIES) as made:
        yield made


@pytest.mark.parametrize("killed", ["app", "server"])
def test_a_step_of_each_kind_survives_a_kill(fragile: Stage, killed: str) -> None:
    hosts = {host: tuple(KINDS) for host in events_through_outside(fragile, "fastapi", "v4")}
    hosts |= {fragile.host(name, id=f"{name}-streamed", **STREAMED): ("run",) for name in ("fastapi", "v4")}
    survive_a_kill(fragile, hosts, killed)


@pytest.mark.parametrize("name", ["fastapi", "v4"])
def test_the_answers_of_the_apps_that_stream_are_streams(fragile: Stage, name: str) -> None:
    host = fragile.host(name, id=f"{name}-streamed", **STREAMED)
    event = {"name": f"{host.id}/hello", "data": {}, "id": unique(), "ts": 1}
    context = {"run_id": unique(), "attempt": 0, "stack": {"stack": [], "current": 0}}
    call = {"event": event, "events": [event], "steps": {}, "use_api": False}
    call["ctx"] = context | {"disable_immediate_execution": False, "use_api": False}
    asked = urllib.request.Request(
        f"{host.app.url}?fnId={host.id}-hello&stepId=step",
        json.dumps(call).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answered:
        assert (answered.status, json.loads(answered.read())["status"]) == (201, 200)


def events_through_outside(stage: Stage, *names: str) -> list[Host]:
    """Hosts of their own that send events through the address outside."""
    stage.outside.events_to = stage.server.url
    through = {"INNGEST_EVENT_API_BASE_URL": stage.outside.url}
    return [stage.host(name, id=f"outside-{name}", **through) for name in names]


def survive_a_kill(stage: Stage, hosts: dict[Host, tuple[str, ...]], killed: str) -> None:
    """Let runs of these kinds stand on each host, kill and start the server or all the apps, and see the runs end."""
    plays = [Play(host, stage.outside, tuple(k for k in kinds if fits(host, k))) for host, kinds in hosts.items()]
    stage.outside.open.clear()
    for play in plays:
        play.stand()
    if killed == "server":
        stage.server.kill()
        stage.server.start(port=stage.server.port)
    else:
        for host in hosts:
            host.kill()
        for host in hosts:
            host.start()
    stage.outside.open.set()
    for play in plays:
        play.free()
    for play in plays:
        play.check(server_killed=killed == "server")


def fits(host: Host, kind: str) -> bool:
    """Whether the host's SDK has this kind of step."""
    return host.name in NODE or kind not in IN_TYPESCRIPT_ALONE
