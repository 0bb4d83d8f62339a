"""Does an `if` mean what CEL says, on every event that producers really send?"""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millstream.core.triggers.expressions import EXPRESSION_CHARS_MAX, VALUE_DEPTH_MAX, Expression, compile_expression
from millstream.errors import FunctionError

EVENT = {
    "name": "order/paid",
    "id": "01HZ",
    "ts": 1_700_000_000_000,
    "v": None,
    "user": {"plan": "free"},
    "data": {
        "amount": 120,
        "price": 9.5,
        "city": "Orléans",
        "vip": True,
        "note": None,
        "tags": ["new", "gift"],
        "lines": [{"sku": "a", "count": 2}, {"sku": "b", "count": 1}],
        "my-field": 1,
    },
}


def matches(text: str, event: dict[str, Any] | None = None) -> bool:
    return compile_expression(text).matches(EVENT if event is None else event)


def matches_by_cel(expression: Expression, event: dict[str, Any]) -> bool:
    return expression.evaluate({"event": event}) == (True, "")


@pytest.mark.parametrize(
    "text",
    [
        "event.name == 'order/paid'",
        "event.data.amount >= 100 && event.data.amount < 121",
        "event.data.amount == 120.0",
        "event.data.city == 'Orl\\u00e9ans'",
        "event.data['my-field'] == 1",
        "event['data']['amount'] == 120",
        "120 == event.data.amount",
        "100 < event.data.amount",
        "event.data.vip == true",
        "event.data.note == null",
        "event.v == null",
        "event.ts > 1600000000000",
        "event.user.plan != 'paid'",
        "event.data.price > 9 || event.data.gone == 1",
        "event.data.vip",
        "!(event.data.amount == 1)",
        "event.data.tags.exists(t, t == 'gift')",
        "event.data.lines.all(line, line.count > 0)",
        "event.data.tags[0] == 'new'",
        "'gift' in event.data.tags",
        "event.data.city.startsWith('Or') && size(event.data.tags) == 2",
        "event.data.name == 1 || has(event.data.vip)",
        "!has(event.data.gone)",
        "event.data.lines.filter(event, event.count == 2).size() == 1",
        "event.data.price * 2.0 == 19.0",
    ],
)
def test_an_event_that_fulfils_the_expression_matches(text: str) -> None:
    assert matches(text) is True


@pytest.mark.parametrize(
    "text",
    [
        "event.data.gone == 1",
        "event.data.gone != 1",
        "event.data.gone == null",
        "!(event.data.gone == 1)",
        "event.data.amount.deeper == 1",
        "event.data.note.deeper != 1",
        "event.data.tags.deeper == 1",
        "event.data.note < 1",
        "event.data.amount < 'a'",
        "event.data.city > 1",
        "event.gone.deeper == 1",
        "event.data.gone.startsWith('a')",
        "event.data.amount / 0 == 1",
        "event.data.tags[7] == 'x'",
    ],
)
def test_an_expression_without_an_answer_does_not_match(text: str) -> None:
    assert matches(text) is False


def test_true_is_not_one_although_python_says_so() -> None:
    event = {"data": {"flag": True, "one": 1}}
    for text in ("event.data.flag == 1", "event.data.flag == 1.0", "event.data.one == true", "event.data.flag >= 1"):
        assert matches(text, event) is False
        assert matches(f"({text}) && [1].exists(i, i == 1)", event) is False  # The same through CEL.
    assert matches("event.data.flag != 1", event)


def test_integers_beyond_64_bits_are_compared_as_doubles() -> None:
    event = {"data": {"big": 2**70, "small": -(2**65), "huge": 10**400, "x": 1}}
    for text in (
        "event.data.big > 9223372036854775807",
        "event.data.big == 1180591620717411303424.0",
        "event.data.small < 0",
        "event.data.huge > 1.0e308",
        "event.data.x == 1",
    ):
        assert matches(text, event)
        assert matches_by_cel(compile_expression(text), event)


def test_text_the_library_cannot_carry_never_equals_its_first_half() -> None:
    for value in ("a\0b", "a\ud800"):
        event = {"data": {"x": value}}
        assert not matches("event.data.x == 'a'", event)
        assert not matches("event.data.x in ['a']", event)
        assert matches("event.data.x.startsWith('a')", event)
    assert not matches("event.data['a\\u0000b'] == 1", {"data": {"a": 1, "a\0b": 1}})


def test_the_rest_of_a_large_payload_is_not_given_to_cel() -> None:
    event = {"data": {"x": "yes", "blob": object()}}
    expression = compile_expression("event.data.x.startsWith('y')")
    assert expression.paths == {("event", "data", "x")}
    assert expression.matches(event)


def test_the_paths_of_loops_are_those_outside_their_variables() -> None:
    expression = compile_expression("event.data.l.exists(i, i.event == event.data.k.z) && {'a': event.ts}.a > 1")
    assert expression.paths == {("event", "data", "l"), ("event", "data", "k", "z"), ("event", "ts")}


def test_a_path_wanted_whole_covers_the_paths_below_it() -> None:
    assert matches(
        "event.data.user.name == 'a' && size(event.data.user) == 2", {"data": {"user": {"name": "a", "b": 1}}}
    )


def test_a_value_nested_beyond_the_limit_has_no_answer() -> None:
    deep: object = 1
    for _ in range(VALUE_DEPTH_MAX + 1):
        deep = [deep]
    assert not matches("size(event.data.deep) == 1", {"data": {"deep": deep}})
    assert matches("size(event.data.deep) == 1", {"data": {"deep": [deep[0][0]]}})  # type: ignore[index]


def test_a_loop_beyond_the_library_limit_has_no_answer() -> None:
    assert not matches("event.data.l.exists(i, i == 19999)", {"data": {"l": list(range(20_000))}})


def test_an_answer_that_is_not_true_or_false_is_the_authors_mistake() -> None:
    with pytest.raises(FunctionError, match=r"gave 'Orléans' for event 'order/paid', expected true or false"):
        matches("event.data.city")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("event.data.x = 1", r"line 1, column 14: .*Write == to compare"),
        ("event.data.x and event.data.y", r"column 14: .*Write && for and"),
        ("event.data.x == 1 & event.data.y == 2", r"Write && for and"),
        ("event.data.x == True", r"Write true, false or null"),
        ("data.x == 1", r"undeclared reference to 'data.x'.*Known names: event\."),
        ("async.data.x == 1", r"undeclared reference to 'async.data.x'"),
        ("event.data.x ==", r"line 1, column 16"),
        ("event.data.x == 'a", r"every quote is closed"),
        ("1 == 1.0", r"different types"),
        ("1 + 1", r"always gives int, expected true or false"),
        ("  ", r"expression is empty"),
        ("event.data.x == '\ud800'", r"is not valid"),
        ("event.x == 99999999999999999999", r"invalid int literal"),
        ("(" * 60 + "true" + ")" * 60, r"nested too deeply"),
        ("true || " * 600 + "true", rf"expected at most {EXPRESSION_CHARS_MAX}"),
    ],
)
def test_a_bad_expression_is_refused_with_its_position_and_advice(text: str, message: str) -> None:
    with pytest.raises(FunctionError, match=message):
        compile_expression(text)


def test_an_expression_may_compare_two_events_when_both_are_given() -> None:
    expression = compile_expression("event.data.id == async.data.id", ("event", "async"))
    same = {"data": {"id": "u1", "other": object()}}
    assert expression.paths == {("event", "data", "id"), ("async", "data", "id")}
    assert expression.evaluate({"event": same, "async": same}) == (True, "")
    assert expression.evaluate({"event": same, "async": {"data": {"id": "u2"}}}) == (False, "")
    assert "async" in expression.evaluate({"event": same}).why


def test_an_expression_compiles_once() -> None:
    assert compile_expression("event.data.x == 41") is compile_expression("event.data.x == 41")


# --- closures and CEL give the same answers -------------------------------------------------------

OPERATORS = ("==", "!=", "<", "<=", ">", ">=")
KEYS = ("x", "y", "name", "data", "ü", "a b")
NUMBERS = (0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64, -(2**70), 10**400)
DOUBLES = (0.0, -0.0, 1.0, 1.5, -1.5, 2.0**53, 2.0**63, -(2.0**63), 1e300, math.inf, math.nan)
TEXTS = ("", "a", "b", "1", "true", "a\0b", "a\ud800", "ü", "\uffff", "\U0001f600", "a'b", 'a"b\\')

numbers = st.sampled_from(NUMBERS) | st.integers(-(2**65), 2**65)
doubles = st.sampled_from(DOUBLES) | st.floats()
texts = st.sampled_from(TEXTS) | st.text(max_size=4)
scalars = st.none() | st.booleans() | numbers | doubles | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
events = st.dictionaries(
    st.sampled_from(("name", "data", "x")), values | st.dictionaries(st.sampled_from(KEYS), values)
)


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


def written(value: Any) -> str:
    """A Python scalar as a CEL literal."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value!r}" if "." in repr(value) or "e" not in repr(value) else repr(value).replace("e", ".0e")
        case int():
            return str(value)
        case _:
            return quoted(str(value))


def can_be_written(value: Any) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case int():
            return -(2**63) <= value < 2**63
        case str():
            return not any("\ud800" <= character <= "\udfff" for character in value)
        case _:
            return True


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    path = "event" + "".join(f".{key}" if key.isascii() and key.isalpha() else f"[{quoted(key)}]" for key in keys)
    literal = draw(scalars.filter(can_be_written))
    sides = [path, written(literal)]
    if draw(st.booleans()):
        sides.reverse()
    return f" {draw(st.sampled_from(OPERATORS))} ".join(sides)


conditions = st.recursive(
    comparisons(),
    lambda inner: st.builds(lambda a, op, b: f"({a}) {op} ({b})", inner, st.sampled_from(("&&", "||")), inner),
    max_leaves=4,
)


def test_closures_and_cel_agree_on_every_pair_of_awkward_values() -> None:
    awkward: tuple[Any, ...] = (None, True, False, *NUMBERS, *DOUBLES, *TEXTS, [], [1], {}, {"x": 1})
    literals = [value for value in awkward if not isinstance(value, list | dict)]
    for literal in literals:
        if not can_be_written(literal):
            continue
        for operator in OPERATORS:
            expression = compile_expression(f"event.x {operator} {written(literal)}")
            for value in awkward:
                event = {"x": value}
                assert expression.matches(event) is matches_by_cel(expression, event), (expression.text, value)


@settings(max_examples=500)
@given(conditions, events)
@example("event.x == 9223372036854775807", {"x": 2.0**63})
@example("event.x < 9223372036854775807.0", {"x": 2**63 - 1})
@example("event.x == 9007199254740992.0", {"x": 2**53 + 1})
def test_closures_and_cel_agree_on_every_event(text: str, event: dict[str, Any]) -> None:
    expression = compile_expression(text)
    assert expression.matches(event) is matches_by_cel(expression, event)


@pytest.mark.parametrize(
    ("text", "is_closure"),
    [
        ("event.data.x == 1 && event.name == 'a'", True),
        ("event.data.x == 'a' || event.data['y'] < 1.5 && null != event.data.z", True),
        ("event.data.x == event.data.y", False),
        ("!(event.data.x == 1)", False),
        ("event.data.x == 1u", False),
        ("event.data.x == b'a'", False),
        ("event.data.x", False),
    ],
)
def test_the_common_form_needs_no_cel(text: str, is_closure: bool) -> None:
    assert compile_expression(text).is_closure is is_closure


@pytest.mark.parametrize(
    "text", ["event.data.k", "event.data", "[event.data.k]", "{'of': {'k': event.data.k}}", "null"]
)
def test_nulls_in_an_answer_are_pythons_own(text: str) -> None:
    expression = compile_expression(text, is_condition=False)
    before = sys.getrefcount(None)
    for _ in range(1_000):
        expression.evaluate({"event": {"data": {"k": None, "l": [None, {"k": None}]}}})
    assert sys.getrefcount(None) > before - 500, "the library gives back references to None that it never took"
