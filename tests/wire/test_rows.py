"""Rows come back as they were written; bytes that are no row are found out."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import Corruption
from millstream.model.rows import PositionRow, Row, RunRow
from millstream.wire.rows import LEVEL, ROWS, decode_row, encode_row, schema_name
from millstream.wire.schemas import load_schema
from tests.wire.drawn import structs


def rows_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    return structs(kind, load_schema(schema_name(kind)))


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_row_comes_back_as_it_was_written(kind: type[Row], data: st.DataObject) -> None:
    row = data.draw(rows_of(kind))
    read = decode_row(kind, encode_row(row))
    assert read == row
    hash(read)  # Tuples where the class says tuples, not lists.


@given(rows_of(RunRow), st.data())
def test_a_truncated_row_is_corruption(row: RunRow, data: st.DataObject) -> None:
    whole = encode_row(row)
    with pytest.raises(Corruption, match="RunRow cannot be read"):
        decode_row(RunRow, whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_a_row_or_corruption(data: bytes) -> None:
    with contextlib.suppress(Corruption):
        decode_row(RunRow, LEVEL + data)


def test_a_row_names_the_level_it_was_written_by() -> None:
    data = encode_row(PositionRow("events", 3, 14))
    assert data[:1] == LEVEL
    with pytest.raises(Corruption, match="level 02"):
        decode_row(PositionRow, b"\x02" + data[1:])


def test_the_bytes_of_a_row_never_change() -> None:
    assert encode_row(PositionRow("events", 3, 14)) == b"\x01\x0cevents\x06\x1c"
