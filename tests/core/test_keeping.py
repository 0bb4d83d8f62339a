"""Gates that keep events for a while: the last of several, or many for one run. And would anybody notice a fault?

One lane, so that the order of arrival is known; over several lanes ``test_gates.py`` says that nothing is lost.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.core.decide import refuse
from millstream.core.flow import batch, kept_starts
from millstream.core.fold import fold
from millstream.core.nouns import FOLD
from millstream.core.tables import Tables
from millstream.model.commands import FireTimer
from millstream.model.facts import BatchAdded, Fact, FunctionSkipped, RunStarted, StartKept
from millstream.model.gates.declared import BatchRule, DebounceRule, FlowSpec
from tests.core.lanes import Lanes
from tests.core.values import MINUTE_MS, START_MS, app, event, function, internal_id

PERIOD_MS: Final = MINUTE_MS
TIMEOUT_MS: Final = 150_000
SIZE: Final = 3
BATCHED: Final = FlowSpec(batch=BatchRule(SIZE, PERIOD_MS, "event.data.k"))
Arrivals = list[tuple[int, int]]
"""(how long after the one before, ms; the value of its key) of each event."""
ARRIVALS = st.lists(st.tuples(st.integers(0, 90_000), st.integers(0, 1)), min_size=1, max_size=25)


def started(flow: FlowSpec, arrivals: Arrivals) -> tuple[list[tuple[int, tuple[int, ...]]], list[int]]:
    """Let the events come: (when, the numbers of its events) of each run, and when each event came."""
    lanes = Lanes(1, app(msgspec.structs.replace(function("shop-keep", "order/placed"), flow=flow)))
    runs: list[tuple[int, tuple[int, ...]]] = []
    numbers = {internal_id(n): n for n in range(len(arrivals))}
    seen = 0

    def note(now: Lanes) -> None:
        nonlocal seen
        for _, fact in now.facts[seen:]:
            if isinstance(fact, RunStarted):
                runs.append((now.now_ms, tuple(numbers[id] for id in fact.events)))
        seen = len(now.facts)

    lanes.after = note
    came: list[int] = []
    for number, (after_ms, key) in enumerate(arrivals):
        due_ms = (came[-1] if came else START_MS) + after_ms
        while any(arm.at_ms <= due_ms for arm in lanes.timers[0]):
            lanes.fire()
        lanes.now_ms = max(lanes.now_ms, due_ms)
        lanes.send(0, event(number, data=b'{"k":%d}' % key, at_ms=lanes.now_ms))
        came.append(lanes.now_ms)
    while lanes.timers[0]:
        lanes.fire()
    return runs, came


def expected_debounced(arrivals: Arrivals, came: list[int]) -> list[tuple[int, tuple[int, ...]]]:
    """The last of each burst, when it is over."""
    expected: list[tuple[int, tuple[int, ...]]] = []
    of_key: defaultdict[int, list[int]] = defaultdict(list)
    for number, (_, key) in enumerate(arrivals):
        of_key[key].append(number)
    for numbers in of_key.values():
        first = last = numbers[0]
        for number in [*numbers[1:], -1]:
            due_ms = min(came[last] + PERIOD_MS, came[first] + TIMEOUT_MS)
            if number < 0 or came[number] >= due_ms:
                expected.append((due_ms, (last,)))
                first = number
            last = number
    return expected


def debounces(arrivals: Arrivals) -> None:
    """What must hold of a debounce."""
    runs, came = started(FlowSpec(debounce=DebounceRule(PERIOD_MS, "event.data.k", TIMEOUT_MS)), arrivals)
    assert sorted(runs) == sorted(expected_debounced(arrivals, came))


def batches(arrivals: Arrivals) -> None:
    """What must hold of a batch."""
    runs, came = started(BATCHED, arrivals)
    of_key: defaultdict[int, list[int]] = defaultdict(list)
    for at_ms, numbers in runs:
        keys = {arrivals[number][1] for number in numbers}
        assert len(keys) == 1 and len(numbers) <= SIZE, f"a run of {numbers}"
        waited_ms = at_ms - came[numbers[0]]
        assert waited_ms <= PERIOD_MS and (len(numbers) == SIZE or waited_ms == PERIOD_MS), f"{numbers} at {at_ms}"
        of_key[keys.pop()] += numbers
    for key, numbers in of_key.items():
        assert numbers == [n for n, (_, of) in enumerate(arrivals) if of == key], "each event once, in order"
    assert sum(map(len, of_key.values())) == len(arrivals)


@given(ARRIVALS)
def test_the_last_event_of_a_burst_starts_a_run_when_the_burst_is_over(arrivals: Arrivals) -> None:
    debounces(arrivals)


@given(ARRIVALS)
def test_each_event_is_in_one_batch_in_order_and_none_waits_too_long(arrivals: Arrivals) -> None:
    batches(arrivals)


# --- faults ---------------------------------------------------------------------------------------

Patch = pytest.MonkeyPatch


def keep_the_first(patch: Patch) -> None:
    """Later events only move the time."""
    real = kept_starts.start_kept

    def fold(tables: Tables, fact: StartKept, at_ms: int) -> Any:
        held = tables.kept_starts.get(fact.place)
        return real(tables, msgspec.structs.replace(fact, start=held.start) if held is not None else fact, at_ms)

    patch.setitem(FOLD, StartKept, fold)


def forget_the_longest_time(patch: Patch) -> None:
    """The first event is forgotten with the second."""
    real = kept_starts.start_kept

    def fold(tables: Tables, fact: StartKept, at_ms: int) -> Any:
        return real(tables, msgspec.structs.replace(fact, first_ms=at_ms), at_ms)

    patch.setitem(FOLD, StartKept, fold)


def let_one_more_in(patch: Patch) -> None:
    """A batch is one larger than it says."""
    real = batch.flow_of

    def flow_of(tables: Tables, slug: str) -> FlowSpec:
        flow = real(tables, slug)
        assert flow.batch is not None
        return msgspec.structs.replace(flow, batch=msgspec.structs.replace(flow.batch, max_size=SIZE + 1))

    patch.setattr(batch, "flow_of", flow_of)


def begin_anew_with_each_event(patch: Patch) -> None:
    """The events before are forgotten."""
    real = batch._begins

    def begins(tables: Tables, row: Any, events: tuple[str, ...], *more: Any, **rest: Any) -> list[Fact]:
        return real(tables, row, events[-1:], *more, **rest)

    patch.setattr(batch, "_begins", begins)


def wait_too_long(patch: Patch) -> None:
    """A batch begins a moment later than it says."""
    real = FOLD[BatchAdded]

    def fold(tables: Tables, fact: BatchAdded, at_ms: int) -> Any:
        return real(tables, msgspec.structs.replace(fact, due_ms=fact.due_ms + 1), at_ms)

    patch.setitem(FOLD, BatchAdded, fold)


FAULTS: Final[dict[Callable[[Patch], None], Callable[[Arrivals], None]]] = {
    keep_the_first: debounces,
    forget_the_longest_time: debounces,
    let_one_more_in: batches,
    begin_anew_with_each_event: batches,
    wait_too_long: batches,
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_noticed(fault: Callable[[Patch], None], monkeypatch: Patch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        play_at_random(FAULTS[fault])


def play_at_random(holds: Callable[[Arrivals], None]) -> None:
    """What must hold, of fifty random stories."""
    for seed in range(50):
        draw = random.Random(seed)
        holds([(draw.randrange(90_000), draw.randrange(2)) for _ in range(25)])


@pytest.mark.parametrize("holds", [debounces, batches])
def test_nothing_is_noticed_where_there_is_no_fault(holds: Callable[[Arrivals], None]) -> None:
    play_at_random(holds)


def test_a_batch_that_cannot_begin_leaves_a_line_for_each_of_its_events() -> None:
    lanes = Lanes(1, app(msgspec.structs.replace(function("shop-keep", "order/placed"), flow=BATCHED)))
    for number in range(2):
        lanes.send(0, event(number))
    (arm,) = (one for one in lanes.timers[0] if one.kind == "batch")
    command = FireTimer(arm.at_ms, arm.kind, arm.id, arm.step)
    remains = refuse(lanes.tables[0], command, ValueError("boom"), arm.at_ms)
    assert [one.event for one in remains if isinstance(one, FunctionSkipped)] == [internal_id(n) for n in range(2)]
    for fact in remains:
        fold(lanes.tables[0], fact, arm.at_ms)
    lanes.tables[0].promote()
    assert not lanes.tables[0].batches.scan(limit=1) and not lanes.tables[0].events.scan(limit=1)
