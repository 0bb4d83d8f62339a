"""What is taken as JSON from outside: exactly what every reader behind the door can read."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
import pytest

from millstream.model import limits
from millstream.wire.json_limits import read_json, whole_characters

DEEPEST = limits.JSON_DEPTH_MAX
LONGEST = limits.JSON_DIGITS_MAX
TAKEN = (
    b'{"a":' * DEEPEST + b"1" + b"}" * DEEPEST,
    b"[" + b"[]," * 5_000 + b"[]]",
    json.dumps({"text": "[" * 5_000 + '{"\\"' * 300}).encode(),
    b"9" * LONGEST,
    b'{"card":"' + b"7" * (LONGEST * 5) + b'"}',
    b"0." + b"3" * LONGEST,
    b" " * 100_000 + b"{}",
)
REFUSED = (
    (b'{"a":' * (DEEPEST + 1) + b"1" + b"}" * (DEEPEST + 1), "nested too deeply"),
    (b'[{"a":' * 483 + b"1" + b"}]" * 483, "nested too deeply"),
    (b"[" + b"[]," * 5_000 + b"[" * DEEPEST + b"]" * DEEPEST + b"]", "nested too deeply"),
    (b"[" * 100_000, "nested too deeply"),
    (b"9" * (LONGEST + 1), "number of more than 1,000 digits"),
    (b'{"a":' + b"9" * 5_000 + b"}", "out of range"),
    (b'{"text":"\\"","a":0.' + b"1" * 5_000 + b"}", "number of more than 1,000 digits"),
    (b"1e999", "out of range"),
    (b'"\\ud800"', "no valid JSON"),
    (b"{nonsense", "no valid JSON"),
)


@pytest.mark.parametrize("text", TAKEN, ids=range(len(TAKEN)))
def test_what_is_within_the_limits_is_read(text: bytes) -> None:
    assert read_json(text) == (msgspec.json.decode(text), "")
    assert json.loads(text) == msgspec.json.decode(text), "another parser reads it too"


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_beyond_them_is_refused_in_words(text: bytes, why: str) -> None:
    value, problem = read_json(text)
    assert value is None and why in problem


def test_depth_is_counted_as_a_parser_counts_it() -> None:
    draw = Random(7)
    for _ in range(200):
        value = _value(draw, draw.randint(DEEPEST - 3, DEEPEST + 3))
        refused = _depth(value) > DEEPEST
        assert bool(read_json(json.dumps(value).encode())[1]) is refused


def _value(draw: Random, levels: int) -> Any:
    value: Any = draw.choice((1, "}]", 'a\\"[{'))
    for _ in range(levels):
        beside: Any = draw.choice(([], {}, "[[", [[]], {"]": 1}))
        value = [beside, value] if draw.random() < 0.5 else {'k"{': value, "b": beside}
    return value


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [part for each in level for part in (each.values() if isinstance(each, dict) else each)]
    return depth


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (rb'"party \ud83c"', rb'"party \ufffd"'),
        (rb'"\uDF89 party"', rb'"\ufffd party"'),
        (rb'"\ud83c\udf89"', rb'"\ud83c\udf89"'),
        (rb'"\ud83c\ud83c\udf89\udf89"', rb'"\ufffd\ud83c\udf89\ufffd"'),
        (rb'"\\\\ud83c \\\ud83c"', rb'"\\\\ud83c \\\ufffd"'),
        (b'"\xf0\x9f\x8e\x89"', b'"\xf0\x9f\x8e\x89"'),
    ],
)
def test_half_a_surrogate_pair_is_written_as_the_character_for_none(text: bytes, whole: bytes) -> None:
    assert whole_characters(text) == whole
    assert read_json(whole_characters(text))[1] == ""
