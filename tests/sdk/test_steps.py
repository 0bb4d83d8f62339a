"""Steps run once each, in order, and what they return comes back as it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdk.rig.processes import HOSTS, PLAIN
from tests.sdk.rig.stage import Host, over


@over(*HOSTS, PLAIN)
def test_three_steps_run_once_each_in_four_calls(host: Host) -> None:
    run = host.does("three-steps", n=20)
    assert (run["status"], run["output"]) == ("Completed", {"one": 21, "two": 42, "three": {"is": 42}})
    assert host.ledger(run["run_id"]) == ["one", "two", "three"]
    assert host.calls(run["run_id"]) == 4
    assert [step["name"] for step in run["steps"] if step["id"]] == ["one", "two", "three"]


@over()
def test_an_id_that_is_used_again_is_another_step(host: Host) -> None:
    run = host.does("same-id")
    assert run["output"] == [0, 1, 2]
    assert host.ledger(run["run_id"]) == ["again 0", "again 1", "again 2"]


VALUES: list[Any] = [
    None,
    False,
    0,
    1.5,
    -(2**53) + 1,
    "",
    "é 🚀\u2028",
    [],
    {},
    [None, {"a": [1]}],
    {"data": 1},
    {"error": "no"},
]


@over()
@pytest.mark.parametrize("function", ["returns", "returns-it"])
def test_any_json_comes_back_as_it_was(host: Host, function: str) -> None:
    begun = [host.begin(function, value=value) for value in VALUES]
    outputs = [host.ended(run)["output"] for run in begun]
    assert outputs == ([{"step": value, "event": value} for value in VALUES] if function == "returns" else VALUES)
