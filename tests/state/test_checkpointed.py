"""``state/checkpointed.py``: the list of committed checkpoints is bounded, and always has a place to cut at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import Corruption
from millstream.state.checkpointed import (
    STEPS_IN_HISTORY,
    STEPS_IN_LAG,
    Checkpointed,
    cut_at,
    decode_checkpointed,
    encode_checkpointed,
    kept,
)
from millstream.state.marker import Marker

MINUTE_MS = 60_000


def done(offset: int, at_ms: int) -> Checkpointed:
    return Checkpointed(Marker("g.journal", offset, b"owner-01", offset), offset // 2, at_ms)


@given(
    st.lists(st.integers(1, 40 * MINUTE_MS), min_size=2, max_size=200),
    st.sampled_from([0, 1_000, 10 * MINUTE_MS]),
    st.sampled_from([0, 1_000, 60 * MINUTE_MS, 24 * 60 * MINUTE_MS]),
)
def test_whatever_comes_the_list_stays_short_and_cuts_where_all_checkpoints_would_have(
    gaps_ms: list[int], lag_ms: int, history_ms: int
) -> None:
    everything: list[Checkpointed] = []
    few: list[Checkpointed] = []
    now_ms = 1_000_000
    longest_ms, cut = max(gaps_ms), -1
    for n, gap_ms in enumerate(gaps_ms):
        now_ms += gap_ms
        everything.append(done(n, now_ms))
        few = kept([*few, done(n, now_ms)], now_ms, lag_ms, history_ms)
        assert len(few) <= 2 * STEPS_IN_LAG + STEPS_IN_HISTORY + 5
        assert few[-1] == everything[-1]
        long_ms = max(lag_ms, history_ms)
        coarse_ms, fine_ms = long_ms // STEPS_IN_HISTORY, lag_ms // STEPS_IN_LAG
        for age_ms, step_ms in ((lag_ms, coarse_ms if longest_ms >= lag_ms else fine_ms), (long_ms, coarse_ms)):
            best, got = cut_at(everything, now_ms - age_ms), cut_at(few, now_ms - age_ms)
            assert (best is None) == (got is None)
            if best is not None and got is not None:
                assert best.at_ms - got.at_ms <= step_ms + longest_ms
                assert got.offset < everything[-1].offset
        long = cut_at(few, now_ms - long_ms)
        if long is not None:
            assert long.offset >= cut, "cut backwards"
            cut = long.offset


def test_the_list_survives_as_bytes_and_other_bytes_do_not() -> None:
    some = (done(3, 9), done(2**40, 2**42))
    assert decode_checkpointed(encode_checkpointed(some)) == some
    assert decode_checkpointed(None) == decode_checkpointed(encode_checkpointed(())) == ()
    for broken in (b"", b"\x02", encode_checkpointed(some)[:-1], encode_checkpointed(some) + b"\x00"):
        with pytest.raises(Corruption):
            decode_checkpointed(broken)


def test_the_last_checkpoint_is_never_cut_at() -> None:
    assert cut_at([done(5, 1)], 1_000) is None
    assert cut_at([done(5, 1), done(9, 2)], 1_000) == done(5, 1)
