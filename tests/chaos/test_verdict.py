"""Would the chaos test notice? Every kind of violation, made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.chaos.functions import Line
from tests.chaos.sender import Sent
from tests.chaos.verdict import by_run, out_of_order, started_twice, told_differently, unfinished

EVENT = Sent("sequence", "e1", {}, acknowledged=True, internal_ids=["I1"], posts=1)


def _line(what: str, step: str, given: dict[str, str], run: str = "R1") -> Line:
    token = f"t-{step}" if what == "end" else ""
    return Line(what, "sequence", "e1", run, step, 0, 1, 0, given, token)


def _life(run: str = "R1") -> list[Line]:
    given: dict[str, str] = {}
    lines = []
    for step in ("one", "two", "three"):
        lines += [_line("begin", step, dict(given), run), _line("end", step, dict(given), run)]
        given[step] = f"t-{step}"
    return lines


def _told() -> dict[str, Any]:
    output = {step: f"t-{step}" for step in ("one", "two", "three")}
    steps = [
        {"id": s, "name": s, "kind": "run", "output": token, "attempts": [{"status": "completed"}]}
        for s, token in output.items()
    ]
    return {"run_id": "R1", "status": "Completed", "output": output, "steps": steps}


def _wrong(lines: list[Line]) -> list[str]:
    runs = by_run(lines)
    return unfinished([EVENT], runs) + started_twice([EVENT], runs) + out_of_order(runs)


def test_a_life_without_a_flaw_is_passed() -> None:
    assert _wrong(_life()) == []
    assert told_differently(_told(), by_run(_life())["R1"]) == []


def test_a_step_run_again_before_the_next_one_began_is_passed() -> None:
    life = _life()
    assert _wrong([life[0], *life]) == []


def test_a_lost_event_is_noticed() -> None:
    assert "has no finished run" in _wrong(_life()[:-1])[0]
    assert _wrong([]) != []
    assert unfinished([replace(EVENT, acknowledged=False)], {}) == []


def test_an_event_that_started_two_runs_is_noticed() -> None:
    assert "ran 2 times" in _wrong(_life() + _life("R2"))[0]


def test_a_run_of_an_event_that_nobody_sent_is_noticed() -> None:
    stray = [msgspec.structs.replace(line, event="e2", run="R2") for line in _life()]
    assert "nobody sent" in _wrong(_life() + stray)[0]


def test_a_step_run_again_after_the_one_behind_it_began_is_noticed() -> None:
    life = _life()
    assert "again" in _wrong([*life[:3], life[0], *life[3:]])[0]


def test_a_step_that_began_without_the_results_before_it_is_noticed() -> None:
    life = _life()
    assert "without results" in _wrong([*life[:2], _line("begin", "two", {}), *life[3:]])[0]


def test_a_result_that_changed_is_noticed() -> None:
    life = _life()
    changed = msgspec.structs.replace(life[4], given=life[4].given | {"one": "t-other"})
    assert any("result was" in line for line in _wrong([*life[:4], changed, *life[5:]]))


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "Running"), ("status", "Failed"), ("output", {"one": "t-one"}), ("steps", [])],
)
def test_a_product_that_tells_it_differently_is_noticed(field: str, value: object) -> None:
    assert told_differently(_told() | {field: value}, by_run(_life())["R1"]) != []


def test_attempts_that_the_history_shows_twice_are_noticed() -> None:
    told = _told()
    told["steps"][0]["attempts"] *= 2
    assert told_differently(told, by_run(_life())["R1"]) != []
