"""Ids are formats: what is written today is read in ten years, and by others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millstream.core.intake.seen import seen_hash
from millstream.model import ids
from millstream.model.ids import TIMES_KEPT_MAX, decode_ulid, encode_ulid, hash16, ulid, ulid_time_ms

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@given(st.integers(0, (1 << 128) - 1))
def test_a_ulid_is_base_32_of_its_number_and_reads_back(number: int) -> None:
    text = encode_ulid(number)
    assert text == "".join(ALPHABET[number >> 5 * at & 31] for at in range(25, -1, -1))
    assert decode_ulid(text) == number


def test_ulids_of_more_times_than_are_kept_are_right_too() -> None:
    for ms in range(TIMES_KEPT_MAX + 10):
        assert ulid_time_ms(ulid(ms, bytes(10))) == ms
        assert ulid_time_ms(ulid(0, bytes(10))) == 0
    assert len(ids._TIMES) <= TIMES_KEPT_MAX


@given(st.text(max_size=20), st.integers(0, 1 << 20), st.text(max_size=40))
def test_the_hash_of_a_seen_id_is_that_of_topic_partition_and_id(topic: str, partition: int, id: str) -> None:
    assert seen_hash(topic, partition, id) == hash16(topic, str(partition), id)
