"""Does every append come back from its blob as it went in?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import LimitExceeded
from millstream.log.embedded.packing import checksum, pack, unpack
from millstream.log.port import Produced
from millstream.log.records import HEADERS_MAX, size_of

HEADERS = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3).map(tuple)
ANY = st.builds(Produced, st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=5), HEADERS)
PLAIN = st.builds(Produced, st.binary(max_size=20))


@given(st.lists(ANY, min_size=1, max_size=8) | st.lists(PLAIN, min_size=1, max_size=8))
def test_what_was_packed_is_unpacked(records: list[Produced]) -> None:
    back = unpack(pack(records), 40, 7)
    assert [(r.value, r.key, r.headers) for r in back] == [(r.value, r.key, r.headers) for r in records]
    assert [(r.offset, r.at_ms) for r in back] == [(40 + n, 7) for n in range(len(records))]


@given(st.binary(min_size=1, max_size=50), st.integers(0, 399))
def test_a_flipped_bit_changes_the_checksum(blob: bytes, bit: int) -> None:
    flipped = bytearray(blob)
    flipped[bit // 8 % len(blob)] ^= 1 << bit % 8
    assert checksum(1, 2, 3, bytes(flipped)) != checksum(1, 2, 3, blob)


def test_a_row_in_another_place_or_of_another_time_has_another_checksum() -> None:
    assert (
        len({checksum(1, 2, 3, b"x"), checksum(2, 2, 3, b"x"), checksum(1, 1, 3, b"x"), checksum(1, 2, 4, b"x")}) == 4
    )


def test_more_headers_than_the_limit_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="headers"):
        size_of([Produced(b"x", None, (("h", b""),) * (HEADERS_MAX + 1))])
