"""Would the verdict on limits notice? Every kind of violation, made by hand."""

from __future__ import annotations

import pytest

from tests.chaos.halts import Halts
from tests.chaos.limited import LAST, Line
from tests.chaos.limits import FUNCTIONS_OF, Posted, judge, without

S = 1_000_000_000
LOST, KEPT = 1, 2


def ran(function: str, number: int, begin_s: float, end_s: float, *, step: str = LAST, pid: int = KEPT) -> list[Line]:
    return [
        Line(what, pid, int(at_s * S), function, "k", (number,), f"R-{function}-{number}", step)
        for what, at_s in (("begin", begin_s), ("end", end_s))
    ]


def wrong(*lines: list[Line]) -> list[str]:
    """What is wrong with this ledger, of events that were all sent at 0 s."""
    ledger = sorted((line for some in lines for line in some), key=lambda line: line.at_ns)
    names = {function: name for name, functions in FUNCTIONS_OF.items() for function in functions}
    numbers = {(names[line.function], n) for line in ledger if line.what != "gone" for n in line.numbers}
    posted = [Posted(name, "k", number, 0) for name, number in numbers]
    return [one for one in judge(posted, ledger) if "have no run" not in one]


LIMITS = {
    "steps": 3, "unkeyed": 3, "shared_one": 2, "both": 2, "runs": 2, "skipping": 1, "latest": 1, "ordered": 1,
}  # fmt: skip


@pytest.mark.parametrize(("function", "limit"), LIMITS.items())
def test_one_too_many_at_once_is_noticed(function: str, limit: int) -> None:
    side_by_side = [ran(function, n, n / 100, 1 + n / 100) for n in range(limit + 1)]
    assert wrong(*side_by_side[:limit]) == []
    assert f"expected at most {limit}, got {limit + 1}" in wrong(*side_by_side)[0]


def test_two_functions_count_as_one_where_they_share_a_limit() -> None:
    assert wrong(ran("shared_one", 0, 0, 2), ran("shared_one", 1, 0.1, 2), ran("shared_other", 0, 1, 2)) != []


def test_a_run_is_open_between_its_steps_and_a_step_is_not() -> None:
    several = [ran("steps", n, n, n + 0.5, step="first") + ran("steps", n, n + 9, n + 9.5) for n in range(4)]
    assert wrong(*several) == []
    assert wrong(*(ran("runs", n, n, n + 0.5, step="first") + ran("runs", n, n + 9, n + 9.5) for n in range(3))) != []


def test_what_a_killed_process_ran_counts_until_its_end() -> None:
    lost = [ran("steps", n, 0, 9, pid=LOST)[:1] for n in range(3)]
    again = [ran("steps", n, 2, 3) for n in range(3)]
    assert wrong(*lost, *again) != []
    assert wrong(*lost, [Line("gone", LOST, S)], *again) == []


def test_a_start_that_comes_too_early_is_noticed() -> None:
    at_once = [ran("throttled", n, 0.01, 0.02) for n in range(3)]
    assert wrong(*at_once, ran("throttled", 3, 0.2, 0.3), ran("throttled", 4, 0.4, 0.5)) == []
    too_early = wrong(*at_once, *(ran("throttled", n, 0.2, 0.3) for n in (3, 4)))
    assert "start 4 expected after 0.40 s, got 0.20" in too_early[0]
    let_through = [ran("rated", n, 0.01, 0.02) for n in range(4)]
    assert wrong(*let_through, ran("rated", 4, 2, 2.1)) == []
    assert wrong(*let_through, ran("rated", 4, 1.9, 2.0)) != []


def test_another_order_is_noticed() -> None:
    assert "expected the order" in wrong(ran("ordered", 1, 0, 1), ran("ordered", 0, 2, 3))[0]


def test_an_event_in_two_batches_and_a_batch_that_is_too_large_are_noticed() -> None:
    def batch(run: str, numbers: tuple[int, ...]) -> list[Line]:
        return [Line(what, KEPT, S, "batched", "k", numbers, run, LAST) for what in ("begin", "end")]

    assert wrong(batch("R1", (0, 1)), batch("R2", (2, 3))) == []
    assert "events [1] have two runs" in wrong(batch("R1", (0, 1)), batch("R2", (1, 2)))[0]
    assert "has 6 events" in wrong(batch("R1", tuple(range(6))))[0]


def test_a_run_that_never_ends_is_noticed_and_of_dropped_events_only_those_that_must_run() -> None:
    def missed(name: str, function: str, ended: int) -> list[str]:
        return judge([Posted(name, "k", n, 0) for n in range(3)], ran(function, ended, 9, 10))

    assert any("steps of key k: events [0, 1]" in one for one in missed("steps", "steps", 2))
    assert missed("debounced", "debounced", 2) == []
    assert "events [2] have no run that is over" in missed("debounced", "debounced", 1)[0]
    assert missed("rated", "rated", 0) == []


def test_a_halted_process_is_excused_and_no_other() -> None:
    halts = Halts()
    halts.note(LOST, [5 * S])
    across, late, good = ran("runs", 0, 1, 5.1, pid=LOST), ran("runs", 1, 6, 7, pid=LOST), ran("runs", 2, 1, 7)
    by_itself = ran("runs", 3, 1, 2, pid=3)[:1]
    assert without([*across, *late, *good, *by_itself], halts) == good
