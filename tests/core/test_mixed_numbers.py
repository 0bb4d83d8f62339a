"""Does arithmetic in expressions work as people mean it, whichever way a producer writes a number?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.core.triggers.expressions import compile_expression

NUMBERS = st.integers(-1_000, 1_000) | st.floats(-1_000, 1_000).map(lambda x: round(x, 2))


def answer(text: str, **data: Any) -> object:
    verdict = compile_expression(text).verdict({"data": data})
    return verdict.why or verdict.value


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("event.data.price * 2 > 100", {"price": 99.5}, True),
        ("event.data.price * 2 > 100", {"price": 99}, True),
        ("event.data.amount * 1.2 > 100.0", {"amount": 150}, True),
        ("event.data.a % 2 == 0", {"a": 4.0}, True),
        ("event.data.a % 2 == 0", {"a": 5.5}, False),
        ("event.data.a - 1 + 0.5 == 1.0", {"a": 1.5}, True),
        ("event.data.a / 2 == 1.25", {"a": 2.5}, True),
        ("2 * event.data.a > 2.5 ? true : false", {"a": 1.5}, True),
        ("event.data.list.exists(x, x * 1.5 > 2.9)", {"list": [1, 2]}, True),
        ("[event.data.a * 2][0] > 2", {"a": 1.5}, True),
        ("{'k': event.data.a * 2}.k > 2", {"a": 1.5}, True),
        ("size(event.data.list) * 1.5 > 2.9", {"list": [1, 2]}, True),
        ("2 * 1.5 == 3.0", {}, True),
    ],
)
def test_whole_numbers_and_fractions_count_together(text: str, data: dict[str, Any], expected: bool) -> None:
    assert answer(text, **data) is expected


@pytest.mark.parametrize(
    "text",
    [
        "event.data.n / 2 == 2",
        "-event.data.n / 2 == -2",
        "-event.data.n % 2 == -1",
        "'a' + 'b' == 'ab'",
        "[1] + [2] == [1, 2]",
        "b'a' + b'b' == b'ab'",
        "event.data.s == '_*_'",
    ],
)
def test_beside_mixed_numbers_everything_else_is_as_cel_has_it(text: str) -> None:
    data = {"n": 5, "s": "_*_", "p": 1.5}
    assert answer(text, **data) is True
    assert answer(f"{text} && event.data.p * 2 == 3.0", **data) is True


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("event.data.a + 1 > 2", "No matching overloads found : _+_(string, int64)"),
        ("event.data.n / 0 == 1", "divide by zero"),
        ("event.data.n * 9223372036854775807 > 1 && event.data.p * 2 > 1", "overflow"),
        ("event.data.p * 2 > 1 && event.data.n % 0 == 1", "zero"),
    ],
)
def test_what_has_no_answer_has_cels_reason(text: str, why: str) -> None:
    assert why in str(answer(text, a="1", n=5, p=1.5))


@given(NUMBERS, st.sampled_from("+-*"), NUMBERS, NUMBERS)
def test_any_two_numbers_count_as_in_python(a: float, sign: str, b: float, c: float) -> None:
    expected = {"+": a + b, "-": a - b, "*": a * b}[sign] > c
    assert answer(f"event.data.a {sign} event.data.b > event.data.c", a=a, b=b, c=c) is expected
