"""Would the chaos test notice? Every kind of violation, made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.chaos.functions import Line
from tests.chaos.sender import SIGNALLED_S, UNSIGNALLED_S, Sent
from tests.chaos.verdict import answered_wrongly, by_run, out_of_order, started_twice, told_differently, unfinished

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


@pytest.mark.parametrize("status", ["lost", "parked", "stopped"])
def test_a_hand_out_that_came_to_nothing_is_no_attempt(status: str) -> None:
    told = _told()
    told["steps"][0]["attempts"].insert(0, {"status": status})
    assert told_differently(told, by_run(_life())["R1"]) == []


def _waited(function: str, wait: str, token: str, event: Sent, *more: Line) -> list[str]:
    """What is wrong with a run whose wait ended with this token."""
    given = {"before": "t-before"}
    line = Line("begin", function, event.id, "R1", "after", 0, 1, 0, given | {wait: token})
    return answered_wrongly([event], by_run([line, *more]))


def test_an_answer_that_was_not_sent_to_its_run_is_noticed() -> None:
    event = replace(EVENT, function="replied", answers={"chaos/answer": ["e1/0"]})
    assert _waited("replied", "answer", "e1/0", event) == []
    assert "expected one of ['e1/0'], got 'e2/0'" in _waited("replied", "answer", "e2/0", event)[0]
    assert "got ''" in _waited("replied", "answer", "", event)[0], "it waited in vain"


def test_an_answer_that_a_run_took_twice_is_noticed() -> None:
    event = replace(EVENT, function="replies", answers={"chaos/answer": ["a", "b"], "chaos/second": ["s"]})
    line = Line("begin", "replies", "e1", "R1", "after", 0, 1, 0, {"before": "t", "both": "a|s", "again": "b"})
    assert answered_wrongly([event], by_run([line])) == []
    again = msgspec.structs.replace(line, given=line.given | {"again": "a"})
    assert "step again: expected one of ['b'], got 'a'" in answered_wrongly([event], by_run([again]))[0]


def test_a_signal_that_was_taken_and_did_not_arrive_is_noticed() -> None:
    event = replace(EVENT, function="signalled", data={"key": "k", "wait_s": SIGNALLED_S}, signal="k/signal")
    assert _waited("signalled", "go", "k/signal", event) == []
    assert "got ''" in _waited("signalled", "go", "", event)[0]
    nobody_knows = replace(event, data={"key": "k", "wait_s": UNSIGNALLED_S}, signal="")
    assert _waited("signalled", "go", "", nobody_knows) == []


def test_a_result_that_the_child_has_not_returned_is_noticed() -> None:
    child = Line("end", "called", "i1", "R2", "only", 0, 1, 0, {}, "t-only", "R1")
    event = replace(EVENT, function="calls")
    assert _waited("calls", "call", "t-only", event, child) == []
    assert "got 't-other'" in _waited("calls", "call", "t-other", event, child)[0]


def test_a_child_that_was_started_twice_is_noticed() -> None:
    child = Line("end", "called", "i1", "R2", "only", 0, 1, 0, {}, "t-only", "R1")
    parent = Line("begin", "calls", "e1", "R1", "before", 0, 1, 0, {})
    lines = [parent, child, msgspec.structs.replace(child, run="R3")]
    assert "called ran 2 times for R1" in started_twice([replace(EVENT, function="calls")], by_run(lines))[0]
