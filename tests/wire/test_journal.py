"""Journal records come back as they were written, are cut where they are too large, and count only where valid."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millstream.errors import Corruption
from millstream.model import limits
from millstream.model.facts import FACTS, Fact, LaneFenced, RetryDue, StepCompleted
from millstream.model.journal import JournalRecord, Position
from millstream.wire.journal import PARTS_MAX, Validity, decode_record, encode_parts, encode_record
from millstream.wire.schemas import load_schema
from tests.wire.drawn import structs

SCHEMA = load_schema("journal/record")
FIELDS = {field["name"]: field["type"] for field in SCHEMA["fields"]}
FACT = st.one_of([structs(kind, branch) for kind, branch in zip(FACTS, FIELDS["facts"]["items"], strict=True)])
POSITIONS = st.lists(structs(Position, FIELDS["positions"]["items"]), max_size=3).map(tuple)
OURS, THEIRS = b"ours....", b"theirs.."


def record(seq: int, *facts: Fact, owner: bytes = OURS, more: bool = False) -> JournalRecord:
    positions = () if more else (Position("events", 0, seq),)
    return JournalRecord(owner, seq, 1_000 + seq, facts or (RetryDue(f"run-{seq}", ""),), positions, more)


def fence(owner: bytes = OURS) -> JournalRecord:
    return JournalRecord(owner, 0, 1_000, (LaneFenced("worker"),))


def taken(validity: Validity, *records: JournalRecord) -> list[int]:
    """The seqs of the records that counted."""
    return [complete.seq for r in records if (complete := validity.take(r)) is not None]


# --- bytes ---


@pytest.mark.parametrize("n", range(len(FACTS)), ids=[kind.__name__ for kind in FACTS])
@given(data=st.data())
def test_every_fact_comes_back_as_it_was_written(n: int, data: st.DataObject) -> None:
    fact = data.draw(structs(FACTS[n], FIELDS["facts"]["items"][n]))
    read = decode_record(encode_record(record(3, fact))).facts[0]
    assert read == fact
    assert type(read) is type(fact)
    hash(read)  # Tuples where the class says tuples, not lists.


@given(st.binary(max_size=8), st.integers(0, 2**63 - 1), st.lists(FACT, max_size=8), POSITIONS, st.booleans())
def test_a_record_comes_back_as_it_was_written(
    owner: bytes, seq: int, facts: list[Fact], positions: tuple[Position, ...], more: bool
) -> None:
    written = JournalRecord(owner, seq, 7, tuple(facts), positions, more)
    assert decode_record(encode_record(written)) == written


@given(st.lists(FACT, max_size=4), st.data())
def test_a_truncated_record_is_corruption(facts: list[Fact], data: st.DataObject) -> None:
    complete = encode_record(record(1, *facts))
    cut = data.draw(st.integers(0, len(complete) - 1))
    with pytest.raises(Corruption, match="journal record cannot be read"):
        decode_record(complete[:cut])


def test_bytes_after_the_record_are_corruption() -> None:
    with pytest.raises(Corruption, match="ends after"):
        decode_record(encode_record(record(1)) + b"\x00")


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff" * 40)
def test_arbitrary_bytes_are_a_record_or_corruption(data: bytes) -> None:
    with contextlib.suppress(Corruption):
        decode_record(data)


@given(st.lists(FACT, min_size=1, max_size=3), st.data())
def test_flipped_bytes_never_raise_anything_but_corruption(facts: list[Fact], data: st.DataObject) -> None:
    flipped = bytearray(encode_record(record(1, *facts)))
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Corruption):
        decode_record(bytes(flipped))


def test_a_format_of_a_newer_version_is_refused() -> None:
    with pytest.raises(Corruption, match="record format 2"):
        decode_record(encode_record(msgspec.structs.replace(record(1), format=2)))


# --- parts ---


def test_a_small_decision_is_one_record() -> None:
    complete = record(4)
    assert encode_parts(complete) == [encode_record(complete)]


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(100, 2_000), st.sampled_from([0, 63, 8_190, 2**40]))
def test_the_parts_of_a_decision_join_to_what_was_decided(sizes: list[int], bytes_target: int, seq: int) -> None:
    facts = tuple(
        StepCompleted("run", f"step-{n}", "name", "run", 0, n, b"x" * size, 5, True) for n, size in enumerate(sizes)
    )
    positions = (Position("events", 1, 99),)
    complete = JournalRecord(OURS, seq, 5, facts, positions)
    encoded = encode_parts(complete, bytes_target)
    parts = [decode_record(part) for part in encoded]
    assert [part.seq for part in parts] == list(range(seq, seq + len(parts)))
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert [part.positions for part in parts] == [()] * (len(parts) - 1) + [positions]
    assert all(len(data) <= bytes_target or len(part.facts) <= 1 for data, part in zip(encoded, parts, strict=True))
    validity = Validity(OURS, seq - 1)
    *held, joined = [validity.take(part) for part in parts]
    assert held == [None] * len(held)
    assert joined == msgspec.structs.replace(complete, seq=parts[-1].seq)


def test_a_decision_of_too_many_facts_is_cut() -> None:
    facts = tuple(RetryDue("run", "") for _ in range(limits.RECORD_FACTS_MAX + 1))
    parts = [decode_record(part) for part in encode_parts(record(1, *facts))]
    assert [len(part.facts) for part in parts] == [limits.RECORD_FACTS_MAX, 1]


def test_a_fact_larger_than_a_record_is_a_part_of_its_own() -> None:
    large = StepCompleted("run", "s", "s", "run", 0, 1, b"x" * 5_000, 5, True)
    parts = [
        decode_record(part) for part in encode_parts(record(1, RetryDue("a", ""), large, RetryDue("b", "")), 1_000)
    ]
    assert [len(part.facts) for part in parts] == [1, 1, 1]


# --- validity ---


def test_records_of_the_latest_fence_count_in_their_order() -> None:
    assert taken(Validity(), fence(), record(1), record(2)) == [0, 1, 2]


def test_records_before_any_fence_are_void() -> None:
    assert taken(Validity(), record(1), record(0), fence(), record(1)) == [0, 1]


def test_records_of_an_owner_that_was_fenced_off_are_void() -> None:
    records = (fence(OURS), record(1), fence(THEIRS), record(2), record(1, owner=THEIRS), record(3))
    validity = Validity()
    assert taken(validity, *records) == [0, 1, 0, 1]
    assert (validity.owner, validity.seq) == (THEIRS, 1)


def test_after_a_gap_nothing_of_that_owner_counts_until_the_next_fence() -> None:
    validity = Validity()
    assert taken(validity, fence(), record(1), record(3), record(2), record(4)) == [0, 1]
    assert validity.owner == b""
    assert taken(validity, fence(THEIRS), record(1, owner=THEIRS), record(5)) == [0, 1]


def test_an_append_that_was_repeated_counts_once() -> None:
    assert taken(Validity(), fence(), fence(), record(1), record(1), fence(), record(2)) == [0, 1, 2]


def test_a_first_record_that_is_no_fence_takes_nothing_over() -> None:
    validity = Validity(OURS, 5)
    assert taken(validity, record(0, owner=THEIRS), record(6)) == [6]


def test_a_fence_that_is_not_an_owners_first_record_takes_nothing_over() -> None:
    assert taken(Validity(OURS, 5), record(1, LaneFenced("w"), owner=THEIRS), record(6)) == [6]


def test_a_lane_fenced_behind_other_facts_is_no_fence() -> None:
    assert taken(Validity(OURS, 5), record(0, RetryDue("r", ""), LaneFenced("w"), owner=THEIRS), record(6)) == [6]


def test_parts_without_their_last_are_void_when_a_fence_comes() -> None:
    validity = Validity(OURS, 0)
    assert taken(validity, record(1, more=True), record(2, more=True)) == []
    assert validity.parts_held == 2
    assert taken(validity, fence(THEIRS), record(3)) == [0]
    assert validity.parts_held == 0
    complete = validity.take(record(1, RetryDue("only", ""), owner=THEIRS))
    assert complete is not None
    assert complete.facts == (RetryDue("only", ""),)


def test_parts_with_one_missing_are_void() -> None:
    validity = Validity(OURS, 0)
    assert taken(validity, record(1, more=True), record(3), record(4)) == []
    assert validity.parts_held == 0


def test_a_stale_record_between_parts_does_not_disturb_them() -> None:
    validity = Validity(OURS, 0)
    assert taken(validity, record(1, more=True), record(9, owner=THEIRS), record(1, more=True), record(2)) == [2]


def test_a_joined_record_has_all_facts_and_the_last_parts_seq_and_positions() -> None:
    validity = Validity(OURS, 0)
    validity.take(record(1, RetryDue("a", ""), more=True))
    joined = validity.take(record(2, RetryDue("b", "")))
    assert joined == record(2, RetryDue("a", ""), RetryDue("b", ""))


@given(st.lists(st.tuples(st.sampled_from([OURS, THEIRS]), st.integers(0, 4), st.booleans()), max_size=30))
def test_going_on_from_any_whole_record_gives_what_reading_on_gives(shape: list[tuple[bytes, int, bool]]) -> None:
    records = [fence(owner) if seq == 0 else record(seq, owner=owner, more=more) for owner, seq, more in shape]
    complete = Validity()
    for n, r in enumerate(records):
        if complete.take(r) is None:
            continue
        resumed, going_on = Validity(complete.owner, complete.seq), Validity()
        for earlier in records[: n + 1]:
            going_on.take(earlier)
        assert [resumed.take(later) for later in records[n + 1 :]] == [going_on.take(x) for x in records[n + 1 :]]


def test_a_decision_of_too_many_parts_is_corruption() -> None:
    validity = Validity(OURS, 0)
    for seq in range(1, PARTS_MAX + 1):
        validity.take(record(seq, more=True))
    with pytest.raises(Corruption, match=f"part {PARTS_MAX + 1}"):
        validity.take(record(PARTS_MAX + 1, more=True))
