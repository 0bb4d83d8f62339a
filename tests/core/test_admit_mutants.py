"""Deliberate faults of the gates that admit: each is caught within a bounded number of random plays.

Add one: a function that breaks a gate through ``patch``, and a line in ``FAULTS`` with the promise that it breaks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from msgspec.structs import replace

from millstream.core.flow import admission, counts, singleton
from millstream.core.flow.gates import ADMIT_GATES
from millstream.core.nouns import FOLD
from millstream.core.tables import Tables
from millstream.model.event import Envelope
from millstream.model.facts import Fact, SingletonFreed, StartCounted
from millstream.model.gates.messages import AdmitStart
from millstream.model.gates.rows import AskRow, StartsRow
from tests.core import test_admitting as promises
from tests.core.test_admitting import MOVES, Move

PLAYS_MAX: Final = 300
MOVES_EACH: Final = 60

Patch = pytest.MonkeyPatch


def count_for_too_short(patch: Patch) -> None:
    """A start counts a little shorter than the period."""

    def room(row: StartsRow, bound: counts.Bound, now_ms: int) -> Any:
        return real(row, bound._replace(period_ms=bound.period_ms - 5_000), now_ms)

    real = counts._room
    patch.setattr(counts, "_room", room)


def count_a_part_from_its_beginning(patch: Patch) -> None:
    """A start counts from the beginning of its part of the window."""

    def fold(tables: Tables, fact: StartCounted, at_ms: int) -> Any:
        at = fact.at_ms if fact.is_alone else fact.at_ms - promises.MINUTE_MS // counts.PARTS
        return real(tables, replace(fact, at_ms=at), at_ms)

    real = FOLD[StartCounted]
    patch.setitem(FOLD, StartCounted, fold)


def count_repeated_requests(patch: Patch) -> None:
    """A start that comes again counts again."""
    patch.setattr(counts, "_is_known", lambda row, run, forgotten: False)


def take_null_for_a_value(patch: Patch) -> None:
    """Events without the value are repetitions of each other."""
    patch.setattr(counts, "NULL", "no value")


def open_beside_another(patch: Patch) -> None:
    """Nobody sees which run is open."""

    def holder(tables: Tables, place: str) -> AskRow | None:
        return None

    patch.setattr(singleton, "_holder", holder)


def keep_the_oldest(patch: Patch) -> None:
    """Of two events the older one is kept."""

    def age(event: Envelope) -> tuple[int, str]:
        at_ms, id = real(event)
        return -at_ms, id

    real = singleton._age
    patch.setattr(singleton, "_age", age)


def forget_what_was_kept(patch: Patch) -> None:
    """The open run is over, and nothing follows."""

    def left(tables: Tables, place: str, now_ms: int) -> list[Fact]:
        return [SingletonFreed(place)]

    gate = ADMIT_GATES["singleton"]
    patch.setitem(
        ADMIT_GATES, "singleton", type(gate)(name=gate.name, places=gate.places, decide=gate.decide, left=left)
    )


def hold_for_runs_that_are_over(patch: Patch) -> None:
    """A request that comes again when its run is over holds the place for ever."""

    def without_run(tables: Tables, command: AdmitStart, run: str) -> Iterator[Fact]:
        return iter(())

    patch.setattr(admission, "_without_run", without_run)


FAULTS: Final[tuple[tuple[Callable[[Patch], None], Callable[..., None]], ...]] = (
    (count_for_too_short, promises.test_a_window_never_has_more_starts_than_the_limit_and_none_is_skipped_below_it),
    (count_a_part_from_its_beginning, promises.test_a_limit_above_the_exact_ones_is_never_exceeded_either),
    (count_repeated_requests, promises.test_all_gates_together_lose_nothing_and_come_to_an_end),
    (take_null_for_a_value, promises.test_a_value_starts_one_run_in_a_day_and_none_is_no_value),
    (open_beside_another, promises.test_one_run_of_a_key_is_open_and_others_are_skipped),
    (keep_the_oldest, promises.test_the_newest_event_of_a_key_starts_when_the_open_run_is_over),
    (keep_the_oldest, promises.test_the_newest_event_of_a_key_cancels_the_open_run_and_starts_behind_it),
    (forget_what_was_kept, promises.test_the_newest_event_of_a_key_starts_when_the_open_run_is_over),
    (hold_for_runs_that_are_over, promises.test_a_request_that_comes_again_when_its_run_is_over_holds_nothing),
)


def moves(seed: int) -> list[Move]:
    """The moves of this seed."""
    draw = random.Random(seed).randrange
    return [Move(draw(len(MOVES)), draw(64), draw(64)) for _ in range(MOVES_EACH)]


@pytest.mark.parametrize(("fault", "promise"), FAULTS, ids=lambda either: either.__name__)
def test_each_deliberate_fault_is_caught(
    fault: Callable[[Patch], None], promise: Callable[..., None], monkeypatch: Patch
) -> None:
    fault(monkeypatch)
    plays = range(PLAYS_MAX if hasattr(promise, "hypothesis") else 1)
    assert not all(_holds(promise, seed) for seed in plays)


def test_without_a_fault_the_same_plays_hold() -> None:
    for promise in {promise for _, promise in FAULTS}:
        for seed in range(10):
            _kept(promise, moves(seed))


def _kept(promise: Callable[..., None], play: list[Move]) -> None:
    drawn = getattr(promise, "hypothesis", None)
    if drawn is not None:
        drawn.inner_test(play)
    else:
        promise(promises.ALL)


def _holds(promise: Callable[..., None], seed: int) -> bool:
    try:
        _kept(promise, moves(seed))
    except AssertionError:
        return False
    return True
