"""With ``--executors`` child processes call the apps; that one of them dies is no fault of an app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdk.stage import FAST_RETRIES, Stage, staged


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("spread"), *FAST_RETRIES, "--executors", "2") as made:
        yield made


@pytest.mark.parametrize("name", ["fastapi", "v4"])
def test_child_processes_call_the_apps(spread: Stage, name: str) -> None:
    host = spread.host(name)
    runs = [host.begin("three-steps", n=n) for n in range(4)]
    assert [host.ended(run)["output"]["one"] for run in runs] == [1, 2, 3, 4]
    assert all(host.ledger(run) == ["one", "two", "three"] for run in runs)
    assert host.does("parallel", mode="wait")["output"] == ["aa", "bb"]
    assert host.does("step-retry")["output"]["attempt"] == 2
    assert host.does("fails")["output"]["message"] == "it burst"
