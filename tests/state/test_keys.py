"""Is the order of keys as bytes the order of keys?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.state.keys import INT_MAX, Key, encoder, range_of

TEXT = st.text(st.one_of(st.sampled_from("\x00\x01a\xffé€😀"), st.characters(exclude_categories=())), max_size=6)
FIELDS: dict[type, st.SearchStrategy[str | int | bool | bytes]] = {
    str: TEXT,
    int: st.one_of(st.integers(0, 3), st.integers(0, INT_MAX)),
    bool: st.booleans(),
}
SHAPES = st.tuples(
    st.lists(st.sampled_from([str, int, bool]), max_size=3), st.sampled_from([str, int, bool, bytes])
).map(lambda shape: (*shape[0], shape[1]))


@st.composite
def two_keys(draw: st.DrawFn) -> tuple[tuple[type, ...], Key, Key]:
    kinds = draw(SHAPES)
    fields = [FIELDS.get(kind, st.binary(max_size=4)) for kind in kinds]

    def key() -> Key:
        drawn = tuple(draw(field) for field in fields)
        return drawn[0] if len(drawn) == 1 else drawn

    return kinds, key(), key()


@given(two_keys())
def test_bytes_sort_as_keys_do(drawn: tuple[tuple[type, ...], Key, Key]) -> None:
    kinds, a, b = drawn
    encode = encoder(b"\x10", kinds)
    assert (encode(a) < encode(b)) == (a < b)  # type: ignore[operator]
    assert (encode(a) == encode(b)) == (a == b)


@given(TEXT, TEXT, TEXT)
def test_around_a_first_field_lie_exactly_the_keys_that_begin_with_it(field: str, other: str, rest: str) -> None:
    at, end = range_of(b"\x10", (str, str))(field)
    assert (at <= encoder(b"\x10", (str, str))((other, rest)) < end) == (field == other)


@pytest.mark.parametrize("number", [-1, INT_MAX + 1])
def test_a_number_without_an_order_is_refused(number: int) -> None:
    with pytest.raises(AssertionError, match="expected 0"):
        encoder(b"\x10", (int,))(number)
