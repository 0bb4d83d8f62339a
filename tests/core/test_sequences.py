"""Any sequence of commands, late, repeated, reordered or never asked for, keeps the equation and the invariants."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.model.facts import Fact
from millstream.model.journal import JournalRecord
from millstream.state.dump import dump
from millstream.wire.journal import decode_record, encode_record
from tests.core.harness import Harness, folded
from tests.core.moves import MOVES, Move, end_everything, play
from tests.core.values import PLACE

SMALL = st.integers(0, 63)
SEQUENCES = st.lists(st.builds(Move, st.integers(0, len(MOVES) - 1), SMALL, SMALL, SMALL), min_size=30, max_size=120)
FEW = settings(max_examples=max(settings().max_examples // 2, 1))


@settings(max_examples=settings().max_examples * 3)
@given(SEQUENCES)
def test_any_sequence_of_commands_keeps_the_equation_and_the_invariants(moves: list[Move]) -> None:
    play(Harness(), moves)


@FEW
@given(SEQUENCES)
def test_every_run_can_end_and_leaves_nothing_behind(moves: list[Move]) -> None:
    harness = Harness()
    play(harness, moves)
    end_everything(harness)
    tables = harness.tables
    for name in ("runs", "steps", "events", "parked", "cancellations"):
        assert not getattr(tables, name).scan(limit=1), f"rows are left in {name}"
    beside = ("cron", "gate", "sweep", "rate_limit", "idempotency")  # A throttle's burst comes back; counts grow old.
    assert all(key[1] in beside for key, _ in tables.timers.scan(limit=1_000))


@FEW
@given(SEQUENCES)
def test_the_same_facts_folded_again_give_the_same_tables(moves: list[Move]) -> None:
    harness = Harness()
    play(harness, moves)
    assert dump(folded(harness.journal, PLACE)) == dump(harness.tables)


@FEW
@given(SEQUENCES)
def test_every_fact_comes_back_from_the_journal_as_it_was(moves: list[Move]) -> None:
    harness = Harness()
    play(harness, moves)
    facts: tuple[Fact, ...] = tuple(f for f, _ in harness.journal if isinstance(f, Fact))
    record = JournalRecord(b"12345678", 0, harness.now_ms, facts, (), False)
    assert decode_record(encode_record(record)).facts == facts
