"""The canonical form is the one that both SDKs make of a body before they check its signature."""

from __future__ import annotations

import json
import struct
from typing import Any

import jcs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import BadRequest
from millstream.wire.canonical_json import canonical_json, ecmascript_number

TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
NUMBERS = st.one_of(
    st.integers(-(10**25), 10**25),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 2**64 - 1)
    .map(lambda bits: struct.unpack(">d", struct.pack(">Q", bits))[0])
    .filter(lambda number: number - number == 0),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@given(VALUES)
def test_it_is_what_the_python_sdk_makes_of_the_same_body(value: Any) -> None:
    body = json.dumps(value).encode()
    assert canonical_json(body) == jcs.canonicalize(json.loads(body))


@given(VALUES)
def test_a_canonical_body_is_its_own_canonical_form(value: Any) -> None:
    once = canonical_json(json.dumps(value).encode())
    assert canonical_json(once) == once


@pytest.mark.parametrize(
    ("number", "text"),
    [  # The table of RFC 8785, appendix B, and what node writes.
        (0.0, "0"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e23, "1e+23"),
        (999999999999999700000.0, "999999999999999700000"),
        (1e21, "1e+21"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (0.000001, "0.000001"),
        (333333333.3333332, "333333333.3333332"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (1424953923781206.2, "1424953923781206.2"),
    ],
)
def test_numbers_are_written_as_ecmascript_writes_them(number: float, text: str) -> None:
    assert ecmascript_number(number) == text


def test_an_integer_above_2_to_53_is_the_double_that_javascript_takes_it_for() -> None:
    assert canonical_json(b'{"id":1152921504606846977}') == b'{"id":1152921504606847000}'


def test_keys_beyond_the_first_plane_come_before_those_at_its_end() -> None:
    body = '{"\ue000":1,"\U0001f600":2}'.encode()
    assert canonical_json(body) == '{"\U0001f600":2,"\ue000":1}'.encode()


@pytest.mark.parametrize("body", [b"{", b"NaN", b"[1e400]", b'["\\ud800"]', b"\xff"])
def test_what_has_no_canonical_form_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(BadRequest, match="no canonical form"):
        canonical_json(body)
